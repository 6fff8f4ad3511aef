"""``catalog list``, ``show`` and ``check``: the rows as people ask for them, and whether all of them hold."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from orchestrator.catalog.loader import find_gpu, spelled
from orchestrator.catalog.rows import card_spelled
from orchestrator.errors import CatalogError, NoFit
from orchestrator.plan import parse_gpu, plan
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.shape import Unknown
from orchestrator.profile import Profile
from orchestrator.snapshot import HostSnapshot, OperatingSystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.nouns import Noun

Kind = Literal["llms", "quants", "runtimes", "agents", "gpus", "profiles"]
KINDS: tuple[Kind, ...] = ("llms", "quants", "runtimes", "agents", "gpus", "profiles")

#: Machines that an llm is tried on, the smallest first: how many cards, and which.
MACHINES = (
    (1, "RTX 4090"), (2, "RTX 3090"), (4, "RTX 4090"), (1, "H100 80GB"), (2, "H100 80GB"), (4, "H100 80GB"),
    (8, "H100 80GB"), (8, "H200"), (8, "B200"),
)  # fmt: skip
#: RAM of such a machine, in MiB; nothing is placed there.
RAM_MIB = 262144


class Found(NamedTuple):
    """A row that answers to a name. ``note`` is set where the name asked for is that of nothing real."""

    kind: Kind
    name: str
    asked: str
    note: str | None
    row: Noun

    def document(self) -> dict[str, Any]:
        """Give the document of ``catalog show``."""
        return {
            "kind": self.kind.removesuffix("s"),
            "name": self.name,
            "asked": self.asked,
            "exists": self.note is None,
            "note": self.note,
            "row": self.row.document(),
        }


def rows(catalog: Catalog, kind: Kind) -> dict[str, Any]:
    """Give the rows of one kind by name."""
    found: dict[str, Any] = getattr(catalog, kind)
    return dict(sorted(found.items()))


def listed(catalog: Catalog, kind: Kind) -> list[dict[str, Any]]:
    """Give what one sees of each row in a list."""
    shown: dict[Kind, tuple[str, ...]] = {
        "llms": ("name", "repository", "parameters", "active_parameters", "agentic_class", "max_context_tokens"),
        "quants": ("name", "format", "bits_per_weight", "runtimes", "min_compute_capability"),
        "runtimes": ("name", "title", "version", "formats", "devices"),
        "agents": ("name", "title", "version", "wire", "first_request_tokens"),
        "gpus": ("name", "vendor", "vram_mib", "bandwidth_gb_s", "compute_capability"),
        "profiles": ("name", "description", "use"),
    }
    found = []
    for row in rows(catalog, kind).values():
        document = row.document()
        entry = {key: document[key] for key in shown[kind]}
        if kind == "llms":
            entry["quants"] = [one.quant for one in row.quants]
        found.append(entry)
    return found


def find(name: str, catalog: Catalog) -> Found:
    """Give the row that answers to a name, however spelled; raises CatalogError with the nearest one."""
    for kind in KINDS:
        if name in getattr(catalog, kind):
            return Found(kind, name, name, None, getattr(catalog, kind)[name])
    wanted = spelled(name)
    for row in catalog.llms.values():
        if wanted in {spelled(one) for one in _names(row)}:
            return Found("llms", row.name, name, _note(row, wanted), row)
    card = find_gpu(catalog, name)
    if card is not None:
        return Found("gpus", card.name, name, None, card)
    for kind in KINDS:
        plain = next((known for known in getattr(catalog, kind) if _bare(known) == _bare(name)), None)
        if plain is not None:
            return Found(kind, plain, name, None, getattr(catalog, kind)[plain])
    raise CatalogError(f"there is no row {name}", where="catalog", do=_nearest(name, catalog))


def _nearest(name: str, catalog: Catalog) -> str:
    known = {_bare(one): one for kind in KINDS for one in getattr(catalog, kind)}
    known |= {_bare(alias): row.name for row in catalog.llms.values() for alias in _names(row)}
    near = get_close_matches(_bare(name), known, 1, 0.5)
    return f"did you mean {known[near[0]]}?" if near else "see deploy catalog list"


def _names(row: LlmRow) -> tuple[str, ...]:
    return (row.name, row.served_name, row.repository, row.repository.split("/")[-1], *row.aliases)


def _note(row: LlmRow, wanted: str) -> str | None:
    """Give the row's note where the name asked for is not its own, but one that never existed."""
    own = (row.name, row.served_name, row.repository, row.repository.split("/")[-1])
    return None if row.note is None or any(spelled(one).startswith(wanted) for one in own) else row.note


def _bare(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def check(catalog: Catalog) -> dict[str, Any]:
    """Give the document of ``catalog check``: rows counted, where each llm would run, and what does not hold.

    ``plans`` gives for each llm the least of some machines that it is planned on; ``reason`` says why there is none
    where the planner knows that it does not understand the llm, which is no fault of the row.
    """
    faults = [*_shared(catalog), *_silent(catalog)]
    plans = []
    for row in catalog.llms.values():
        entry = _planned(row, catalog)
        plans.append(entry)
        if entry["on"] is None and not entry["unknown"]:
            faults.append({"kind": "llm", "name": row.name, "what": f"nothing plans it: {entry['reason']}"})
    return {"rows": {kind: len(getattr(catalog, kind)) for kind in KINDS}, "plans": plans, "faults": faults}


def _shared(catalog: Catalog) -> Iterator[dict[str, str]]:
    """Name what two rows both answer to."""
    yield from _twice("llm", ((spelled(one), row.name) for row in catalog.llms.values() for one in _names(row)))
    cards = catalog.gpus.values()
    yield from _twice("gpu", ((card_spelled(one), row.name) for row in cards for one in (row.name, *row.aliases)))
    yield from _twice("gpu", ((one, row.name) for row in cards for one in row.pci_ids))


def _twice(kind: str, names: Iterable[tuple[str, str]]) -> Iterator[dict[str, str]]:
    owners: dict[str, str] = {}
    for name, owner in names:
        other = owners.setdefault(name, owner)
        if other != owner:
            yield {"kind": kind, "name": owner, "what": f"{other} answers to {name} too"}


def _silent(catalog: Catalog) -> Iterator[dict[str, str]]:
    """Name llms without weights, and with weights that come twice."""
    for row in catalog.llms.values():
        names = [one.quant for one in row.quants]
        if not names:
            yield {"kind": "llm", "name": row.name, "what": "it has no weights"}
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield {"kind": "llm", "name": row.name, "what": f"{name} stands there twice"}


def _planned(row: LlmRow, catalog: Catalog) -> dict[str, Any]:
    """Give the first machine that an llm is planned on, with what it then is, or why there is none."""
    entry: dict[str, Any] = {"llm": row.name, "on": None, "quant": None, "runtime": None, "context_tokens": None}
    entry |= {"unknown": False, "reason": None}
    try:
        shape_of(row.config)
    except Unknown as unknown:
        return entry | {"unknown": True, "reason": str(unknown)}
    for count, card in MACHINES:
        for use in ("solo", "max_speed"):
            try:
                found = plan(_machine(count, card, catalog), Profile(name="check", use=use), catalog, llm=row.name)
            except NoFit as none:
                entry["reason"] = none.what
                continue
            entry |= {"on": f"{count} x {card}", "quant": found.quant, "runtime": found.runtime}
            return entry | {"context_tokens": found.context_tokens, "reason": None}
    return entry


def _machine(count: int, card: str, catalog: Catalog) -> HostSnapshot:
    return HostSnapshot(
        name="check",
        os=OperatingSystem(id="debian", version_id="12"),
        arch="x86_64",
        cpus=32,
        ram_mib=RAM_MIB,
        gpus=tuple(parse_gpu(card, catalog, index) for index in range(count)),
    )
