"""What is fixed before anything is weighed: the profile's wishes, and over them those of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from orchestrator.catalog.loader import llm as llm_named
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.catalog.rows import Catalog
    from orchestrator.profile import Profile, RuntimeName

#: Nobody asks for a window beyond this many tokens.
MOST_TOKENS = 100_000_000
MOST_USERS = 10_000


@dataclass(frozen=True)
class Asked:
    """Wishes of one call, over the profile's; None leaves the profile's."""

    llm: str | None = None
    quant: str | None = None
    runtime: str | None = None
    context: int | None = None
    users: int | None = None
    autocomplete: bool = False


@dataclass(frozen=True)
class Wishes:
    """What is fixed. Names are those of catalog rows; ``context`` in tokens."""

    llm: str | None
    quant: str | None
    runtime: RuntimeName | None
    context: int | None
    kv_dtype: str | None
    users: int
    autocomplete: bool = False


def wishes_of(profile: Profile, catalog: Catalog, asked: Asked) -> Wishes:
    """Give what is fixed; raises UsageError for a name that is not there, or a number that cannot be."""
    named = asked.llm or profile.llm.name
    context = asked.context if asked.context is not None else profile.llm.context_tokens
    _within(context, MOST_TOKENS, "--context", "32768")
    _within(asked.users, MOST_USERS, "--users", "2")
    return Wishes(
        llm=llm_named(catalog, named).name if named else None,
        quant=_quant(asked.quant or profile.llm.quant, catalog),
        runtime=_runtime(asked.runtime or profile.runtime.name, catalog),
        context=context,
        kv_dtype=profile.llm.kv_dtype,
        users=asked.users or profile.llm.slots or profile.users,
        autocomplete=asked.autocomplete or profile.autocomplete,
    )


def _within(value: int | None, most: int, flag: str, example: str) -> None:
    if value is not None and not 0 < value <= most:
        raise UsageError(
            f"{value} cannot be", where=flag, do=f"give a whole number from 1 to {most}, as {flag} {example}"
        )


def _quant(name: str | None, catalog: Catalog) -> str | None:
    if name is None:
        return None
    found = next((known for known in catalog.quants if known.casefold() == name.casefold()), None)
    if found is None:
        raise UsageError(f"there is no quantisation {name}", where="--quant", do=_nearest(name, catalog.quants))
    return found


def _runtime(name: str | None, catalog: Catalog) -> RuntimeName | None:
    if name is None:
        return None
    row = catalog.runtimes.get(name.replace("-", "_").replace(".", "_"))
    if row is None:
        raise UsageError(f"there is no runtime {name}", where="--runtime", do=_nearest(name, catalog.runtimes))
    return row.name


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, 1, 0.5)
    return f"did you mean {near[0]}?" if near else "choose one of " + ", ".join(names)
