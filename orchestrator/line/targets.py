"""Which hosts a run is about, and which profile each is for."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

from orchestrator.apply.inventory import LAB_OS, host_of, read_groups
from orchestrator.catalog.loader import profile as profile_named
from orchestrator.detect import read_local
from orchestrator.errors import InventoryError, ProfileError, UsageError
from orchestrator.inventory import LOCAL
from orchestrator.lab import Lab, as_host
from orchestrator.line.wiring import pci_names
from orchestrator.plan import profile_hardware
from orchestrator.plan.match import WITHOUT_GPU, matching_profile
from orchestrator.progress import Event, Progress

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from orchestrator.catalog.rows import Catalog
    from orchestrator.inventory import Host
    from orchestrator.profile import Profile
    from orchestrator.state import State

#: The system a lab host is made with where nobody says another.
DEFAULT_LAB_OS = "debian-12"
_LONGEST_PLAIN = 38
_LAB_LETTERS = frozenset(ascii_lowercase + digits + "-")


@dataclass(frozen=True, slots=True)
class Asked:
    """The options that name hosts and profiles."""

    inventory: Path | None = None
    limit: str | None = None
    profiles: tuple[str, ...] = ()
    lab: bool = False


def to_bring_up(asked: Asked, catalog: Catalog, lab: Lab, progress: Progress) -> dict[str, tuple[Host, Profile]]:
    """Give the hosts to bring up, each with its profile; in the lab they are made first."""
    if asked.inventory is None and not asked.lab:
        if not _matches(LOCAL.name, asked.limit):
            raise UsageError(f"no host's name matches {asked.limit}", do="give the inventory that names it: -i INV")
        profile = _one(profiles_of(asked.profiles, catalog), LOCAL.name)
        return {LOCAL.name: (this_machine(), profile)}
    if asked.inventory is None:
        wanted = {lab_name(profile.name): profile for profile in profiles_of(asked.profiles, catalog, lab=True)}
        return _in_lab(wanted, dict.fromkeys(wanted, DEFAULT_LAB_OS), catalog, lab, progress)
    hosts = _of_inventory(asked.inventory, asked.limit)
    wanted = {name: _profile_of(host, asked, catalog) for name, (host, _) in hosts.items()}
    if asked.lab:
        return _in_lab(wanted, {name: system for name, (_, system) in hosts.items()}, catalog, lab, progress)
    return {name: (host, wanted[name]) for name, (host, _) in hosts.items()}


def already_up(asked: Asked, lab: Lab, *, known_here: bool) -> list[Host]:
    """Give the hosts that a verb looks at: the inventory's, the lab's, or this machine.

    Where nothing is named, this machine counts if we put something there, else the lab's hosts.
    """
    if asked.inventory is not None and not asked.lab:
        return [host for host, _ in _of_inventory(asked.inventory, asked.limit).values()]
    in_lab = [as_host(one) for one in lab.hosts()]
    if not asked.lab and (known_here or not in_lab):
        if not _matches(LOCAL.name, asked.limit):
            raise UsageError(f"no host's name matches {asked.limit}", do="give the inventory that names it: -i INV")
        return [this_machine()]
    named = _of_inventory(asked.inventory, asked.limit) if asked.inventory is not None else None
    found = [host for host in in_lab if (_matches(host.name, asked.limit) if named is None else host.name in named)]
    if not found:
        raise UsageError("the lab has no such host", do="make one: deploy up --lab")
    return found


def lab_name(profile: str) -> str:
    """Give the name of the lab host on which a profile is rehearsed: its own, or as much of it as a host can bear."""
    plain = "".join(letter if letter in _LAB_LETTERS else "-" for letter in profile.lower()).strip("-")
    if plain == profile and len(plain) <= _LONGEST_PLAIN:
        return f"lab-{plain}"
    digest = sha256(profile.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"lab-{plain[: _LONGEST_PLAIN - 9]}-{digest}"


def this_machine() -> Host:
    """Give this machine as a host; where we are not root, through sudo."""
    return LOCAL.model_copy(update={"become": os.geteuid() != 0})


def profiles_of(names: tuple[str, ...], catalog: Catalog, *, lab: bool = False) -> tuple[Profile, ...]:
    """Give the profiles named, or the one that this machine's cards match; raises ProfileError.

    A rehearsal needs no card, so in the lab a machine whose cards no profile names gets the one without.
    """
    if names:
        return tuple(profile_named(catalog, name) for name in dict.fromkeys(names))
    snapshot = read_local(pci_names=pci_names(catalog))
    matching = matching_profile(snapshot, catalog) or (WITHOUT_GPU if lab else None)
    if matching is None:
        cards = ", ".join(f"{gpu.name} ({gpu.vram_mib} MiB)" for gpu in snapshot.usable_gpus())
        raise ProfileError(
            f"no profile of the catalog is made for {cards}",
            where=snapshot.name,
            do="name one with --profile, or write one in profiles/ beside deploy.lock",
        )
    return (profile_named(catalog, matching),)


def _one(profiles: tuple[Profile, ...], where: str) -> Profile:
    if len(profiles) > 1:
        raise ProfileError("one host takes one profile", where=where, do="name one --profile")
    return profiles[0]


def _profile_of(host: Host, asked: Asked, catalog: Catalog) -> Profile:
    """Give the profile of a host of an inventory: the command line's, else the inventory's."""
    if asked.profiles:
        return _one(profiles_of(asked.profiles, catalog), host.name)
    if host.profile is None:
        raise ProfileError(
            "nothing says what this host is for",
            where=host.name,
            do="set agentrig_profile in the inventory, or name one with --profile",
        )
    return profile_named(catalog, host.profile)


def _of_inventory(path: Path, limit: str | None) -> dict[str, tuple[Host, str]]:
    """Give the hosts of an inventory, each with the system that the lab would make it with."""
    variables, groups = read_groups(path)
    names = chosen(limit, tuple(variables), groups)
    if not names:
        known = f"hosts: {', '.join(variables)}; groups: {', '.join(sorted(groups))}"
        raise InventoryError(f"no host's name matches {limit}", where=str(path), do=known)
    return {name: (host_of(name, variables[name]), str(variables[name].get(LAB_OS, DEFAULT_LAB_OS))) for name in names}


def chosen(limit: str | None, names: Sequence[str], groups: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Give the hosts that a limit means, in the inventory's order. Pure.

    It is written as Ansible's ``--limit``: names and groups with ``*``, ``?`` and ``[a-c]``, several with commas or
    colons between them; ``!`` before one takes its hosts away, ``&`` leaves only those. A host's very name is itself.
    """
    if limit is None or limit in names:
        return tuple(name for name in names if limit in {None, name})
    words = [word.strip() for word in re.split(r",|:(?![^\[]*\])", limit) if word.strip()]
    plain = [word for word in words if word[0] not in "!&"]
    found: set[str] = set().union(*(_meant(word, names, groups) for word in plain or ["*"]))
    for word in words:
        if word.startswith("&"):
            found &= _meant(word[1:], names, groups)
    for word in words:
        if word.startswith("!"):
            found -= _meant(word[1:], names, groups)
    return tuple(name for name in names if name in found)


def _meant(pattern: str, names: Sequence[str], groups: Mapping[str, Collection[str]]) -> set[str]:
    """Give the hosts whose name, or one of whose groups' names, a pattern matches."""
    found = {name for name in names if fnmatchcase(name, pattern)}
    return found.union(*(members for group, members in groups.items() if fnmatchcase(group, pattern)))


def _matches(name: str, limit: str | None) -> bool:
    return bool(chosen(limit, [name], {}))


def _in_lab(
    wanted: Mapping[str, Profile], systems: Mapping[str, str], catalog: Catalog, lab: Lab, progress: Progress
) -> dict[str, tuple[Host, Profile]]:
    """Make the lab's hosts, each with the make-believe cards of its profile."""
    missing = sorted(set(wanted) - {host.name for host in lab.hosts()})
    if missing:
        progress(Event("lab", f"making {', '.join(missing)}"))
    made = {host.name: host for host in lab.up(systems, progress)}
    cards = {name: found for name, profile in wanted.items() if (found := profile_hardware(profile, catalog))}
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda name: lab.put_gpus(name, cards[name]), cards))
    return {name: (as_host(made[name]), profile) for name, profile in wanted.items()}


def knows(state: State) -> bool:
    """Tell whether we put something on this machine itself."""
    return bool(state.host(LOCAL.name).manifests())


def profile_for_real(catalog: Catalog) -> str | None:
    """Give the profile that this machine's own cards match; None where it has none, or no profile names them."""
    snapshot = read_local(pci_names=pci_names(catalog))
    return matching_profile(snapshot, catalog) if snapshot.usable_gpus() else None
