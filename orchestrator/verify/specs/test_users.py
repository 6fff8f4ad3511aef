"""The users of our services."""
# ruff: noqa: S101 - pytest's own way to say what must hold

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.manifest import Manifest

    Ask = Callable[[str, Iterable[str]], list[str]]
    RecordCount = Callable[[int, str], None]

_SHELL_NAMES = {"nologin", "false"}


def test_users(ask: Ask, manifest: Manifest, record_count: RecordCount) -> None:
    """Service users exist and cannot log in."""
    shells = {fields[0]: fields[-1] for fields in _table(ask("getent passwd --", manifest.users))}
    record_count(len(manifest.users), "users")
    assert manifest.users, "the manifest declares no user"
    faults = [f"there is no user {name}" for name in manifest.users if name not in shells]
    faults += [
        f"{name} may log in with {shell}"
        for name, shell in shells.items()
        if shell.rsplit("/", 1)[-1] not in _SHELL_NAMES
    ]
    assert not faults, "; ".join(faults)


def test_passwords(host: Any, manifest: Manifest) -> None:
    """Service users have no password."""
    assert manifest.users, "the manifest declares no user"
    answer = host.run("getent shadow -- " + " ".join(manifest.users))
    found = {fields[0]: fields[1] for fields in _table(answer.stdout.splitlines())}
    faults = [f"the password of {name} could not be read" for name in manifest.users if name not in found]
    faults += [f"{name} has a password" for name, word in found.items() if not word.startswith(("!", "*"))]
    assert not faults, "; ".join(faults)


def test_groups(ask: Ask, manifest: Manifest, record_count: RecordCount) -> None:
    """Service groups exist."""
    found = {fields[0] for fields in _table(ask("getent group --", manifest.groups))}
    record_count(len(manifest.groups), "groups")
    assert manifest.groups, "the manifest declares no group"
    faults = [f"there is no group {name}" for name in manifest.groups if name not in found]
    assert not faults, "; ".join(faults)


def _table(lines: list[str]) -> list[list[str]]:
    return [line.split(":") for line in lines]
