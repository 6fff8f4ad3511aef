"""Reads the catalog, and refuses what it does not know: a row, a key, a name, with the nearest one that exists."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import ValidationError

from orchestrator.catalog.driver_rows import DriverRow
from orchestrator.catalog.rows import (
    AgentRow,
    Catalog,
    FlaggedRow,
    GpuRow,
    LlmRow,
    QuantRow,
    RuntimeRow,
    ShapeRow,
    SpeedRow,
    card_spelled,
)
from orchestrator.doctor import CauseRow
from orchestrator.errors import CatalogError, ProfileError
from orchestrator.files import data
from orchestrator.nouns import Noun
from orchestrator.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

Row = TypeVar("Row", bound=Noun)

_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(extra_profiles: Path | None = None, extra_llms: Path | None = None) -> Catalog:
    """Give the catalog, with the profiles and llms of an inventory's folders before its own.

    Raises CatalogError for a row or key that is unknown, ProfileError for a profile that cannot be.
    """
    root = data("catalog")
    catalog = Catalog.model_construct(
        gpus=_table(root / "gpus.yml", GpuRow),
        quants=_table(root / "quants.yml", QuantRow),
        runtimes=_table(root / "runtimes.yml", RuntimeRow),
        agents=_table(root / "agents.yml", AgentRow),
        llms=_folder(root / "llms", LlmRow) | (_folder(extra_llms, LlmRow) if extra_llms else {}),
        shapes=_table(root / "shapes.yml", ShapeRow),
        speeds=_table(root / "speeds.yml", SpeedRow),
        flagged=_table(root / "flagged.yml", FlaggedRow),
        drivers=_table(root / "drivers.yml", DriverRow),
        profiles=_profiles(root / "profiles", extra_profiles),
    )
    _references_hold(catalog)
    return catalog


def profile(catalog: Catalog, name: str) -> Profile:
    """Give a profile with what it extends merged in; raises ProfileError with the nearest name."""
    found = catalog.profiles.get(name)
    if found is None:
        raise ProfileError(
            f"there is no profile {name}",
            where="catalog/profiles",
            do=_choose(name, catalog.profiles),
        )
    return found


def llm(catalog: Catalog, name: str) -> LlmRow:
    """Give an llm by its name, its repository or an alias, however spelled; raises CatalogError with the nearest."""
    row = catalog.llms.get(name)
    if row is not None:
        return row
    wanted = spelled(name)
    names: dict[str, LlmRow] = {}
    for row in catalog.llms.values():
        for known in (row.name, row.served_name, row.repository, row.repository.split("/")[-1], *row.aliases):
            names.setdefault(spelled(known), row)
    if wanted in names:
        return names[wanted]
    near = get_close_matches(wanted, names, 1, 0.4)
    hint = f"did you mean {names[near[0]].name}?" if near else "see deploy catalog list"
    raise CatalogError(f"there is no llm {name}", where="catalog/llms", do=hint)


def gpu(catalog: Catalog, name: str) -> GpuRow:
    """Give a card by its name or an alias, with or without its vendor; raises CatalogError with the nearest name."""
    row = find_gpu(catalog, name)
    if row is None:
        raise CatalogError(
            f"there is no card {name} in the catalog", where="catalog/gpus.yml", do=_choose(name, catalog.gpus)
        )
    return row


def find_gpu(catalog: Catalog, name: str) -> GpuRow | None:
    """Give a card by its name or an alias, with or without its vendor; None where nobody has heard of it."""
    return catalog.gpus.get(name) or catalog.cards_by_name.get(card_spelled(name))


def spelled(name: str) -> str:
    """Give a name as it is compared: lower case, without blanks, dashes and underscores."""
    return "".join(letter for letter in name.casefold() if letter not in " -_")


def _choose(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(name, names, 1, 0.4)
    return f"did you mean {near[0]}?" if near else "choose one of " + ", ".join(names)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_bytes(), Loader=_YAML)  # noqa: S506 - CSafeLoader builds plain values only
    except (OSError, yaml.YAMLError) as error:
        raise CatalogError(
            f"cannot be read: {' '.join(str(error).split())}", where=path.name, do="repair the file"
        ) from None
    if not isinstance(document, dict):
        raise CatalogError("is not a table of keys", where=path.name, do="write key: value lines")
    return document


def _table(path: Path, kind: type[Row]) -> dict[str, Row]:
    return {name: _row(name, fields, kind, f"{path.name}: {name}") for name, fields in _read(path).items()}


def _folder(folder: Path, kind: type[Row]) -> dict[str, Row]:
    return {path.stem: _row(path.stem, _read(path), kind, path.name) for path in sorted(folder.glob("*.yml"))}


def _row(name: str, fields: Any, kind: type[Row], where: str) -> Row:
    try:
        return kind.model_validate({"name": name, **fields})
    except TypeError:
        raise CatalogError("is not a table of keys", where=where, do="write key: value lines") from None
    except ValidationError as error:
        raise _refusal(error.errors()[0], kind, where) from None


def _refusal(detail: ErrorDetails, kind: type[Noun], where: str) -> CatalogError:
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path)
    if detail["type"] == "extra_forbidden":
        return CatalogError(f"unknown key {key}", where=where, do=_choose(path[-1], _keys(kind, path[:-1])))
    return CatalogError(f"{key}: {detail['msg'].lower()}", where=where, do=f"correct {key}")


def _keys(kind: type[Noun], path: list[str]) -> Iterable[str]:
    """Give the keys that are known at a place inside a row, following nested types as far as they are nouns."""
    for part in path:
        field = kind.model_fields.get(part)
        if field is None:
            continue
        inner = getattr(field.annotation, "__args__", (field.annotation,))
        kind = next((one for one in inner if isinstance(one, type) and issubclass(one, Noun)), kind)
    return kind.model_fields


def _profiles(own: Path, extra: Path | None) -> dict[str, Profile]:
    folders = [own, *([extra] if extra is not None and extra.is_dir() else [])]
    raw = {path.stem: _read(path) for folder in folders for path in sorted(folder.glob("*.yml"))}
    if odd := next((name for name in raw if not name.isprintable()), None):
        raise ProfileError(f"{odd!r} is no name for a profile", where="profiles", do="use signs that can be shown")
    profiles = {}
    for name in raw:
        merged = _merged(name, raw, ())
        try:
            profiles[name] = Profile.model_validate({**merged, "name": name})
        except ValidationError as error:
            refusal = _refusal(error.errors()[0], Profile, f"{name}.yml")
            raise ProfileError(refusal.what, where=refusal.where, do=refusal.do) from None
    return profiles


def _merged(name: str, raw: Mapping[str, dict[str, Any]], above: tuple[str, ...]) -> dict[str, Any]:
    fields = raw[name]
    parent = fields.get("extends")
    if parent is None:
        return fields
    if parent not in raw:
        raise ProfileError(f"extends {parent}, which is not there", where=f"{name}.yml", do=_choose(str(parent), raw))
    if parent in (*above, name):
        raise ProfileError("extends itself", where=f"{name}.yml", do="extend a profile that does not extend this one")
    return _over(_merged(parent, raw, (*above, name)), fields)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another: tables are merged key by key, all else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        former = merged.get(key)
        merged[key] = _over(former, value) if isinstance(former, dict) and isinstance(value, dict) else value
    return merged


def _references_hold(catalog: Catalog) -> None:
    """Refuse a row that names a row which is not there."""
    for row in catalog.llms.values():
        for one in row.quants:
            if one.quant not in catalog.quants:
                raise CatalogError(
                    f"unknown quant {one.quant}", where=f"{row.name}.yml", do=_choose(one.quant, catalog.quants)
                )
    for quant in catalog.quants.values():
        for runtime in quant.runtimes:
            if runtime not in catalog.runtimes:
                raise CatalogError(
                    f"unknown runtime {runtime}", where="quants.yml", do=_choose(runtime, catalog.runtimes)
                )
    for speed in catalog.speeds.values():
        _speed_holds(speed, catalog)
    for wanted in catalog.profiles.values():
        _profile_holds(wanted, catalog)


def _speed_holds(speed: SpeedRow, catalog: Catalog) -> None:
    for name, known in ((speed.card, catalog.gpus), (speed.quant, catalog.quants), (speed.runtime, catalog.runtimes)):
        if name not in known:
            raise CatalogError(f"unknown {name}", where=f"speeds.yml, {speed.name}", do=_choose(name, known))
    if speed.llm is not None and speed.llm not in catalog.llms:
        raise CatalogError(
            f"unknown llm {speed.llm}", where=f"speeds.yml, {speed.name}", do=_choose(speed.llm, catalog.llms)
        )


def _profile_holds(wanted: Profile, catalog: Catalog) -> None:
    where = f"{wanted.name}.yml"
    for expected in wanted.hardware.gpus:
        if find_gpu(catalog, expected.name) is None and expected.vram_mib is None:
            raise ProfileError(
                f"unknown card {expected.name}",
                where=where,
                do=_choose(expected.name, catalog.gpus) + " (or give its vram_mib)",
            )
    try:
        if wanted.llm.name is not None and "external" not in {wanted.use, wanted.runtime.name}:
            llm(catalog, wanted.llm.name)
    except CatalogError as error:
        raise ProfileError(error.what, where=where, do=error.do) from None
    if wanted.llm.quant is not None and wanted.llm.quant not in catalog.quants:
        raise ProfileError(
            f"unknown quant {wanted.llm.quant}", where=where, do=_choose(wanted.llm.quant, catalog.quants)
        )


def causes() -> dict[str, CauseRow]:
    """Give the rows of the boot doctor, which only he needs; raises CatalogError.

    The wider cause that a row names is there, and stands below it.
    """
    rows = _table(data("catalog") / "causes.yml", CauseRow)
    order = list(rows)
    for row in rows.values():
        if row.part_of is not None and row.part_of not in order[order.index(row.name) :]:
            raise CatalogError(f"part_of: no {row.part_of} below it", where=f"causes.yml: {row.name}", do="name one")
    return rows
