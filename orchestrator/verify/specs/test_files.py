"""What lies on the host: who owns it, who may change it, and which release is current. Content is the manifest's."""
# ruff: noqa: S101 - pytest's own way to say what must hold

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.rendered import CURRENT, RELEASES, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.manifest import FileItem, Manifest

    Ask = Callable[[str, Iterable[str]], list[str]]
    RecordCount = Callable[[int, str], None]

_STAT = "stat --printf='%F\\t%a\\t%U\\t%G\\t%n\\n' --"
_LINKS = r"""sh -c 'for path; do printf "%s\t%s\n" "$path" "$(readlink -- "$path")"; done' sh"""
_SETUID = f"find {ROOT} -xdev -type f -perm /6000"
_OPEN = f"find {ROOT} -xdev ! -type l -perm /0002"
_SHOWN = 5


def test_files(ask: Ask, manifest: Manifest, record_count: RecordCount) -> None:
    """Files have their declared mode, owner and group."""
    found = {
        path: rest for *rest, path in (line.split("\t", 4) for line in ask(_STAT, [f.path for f in manifest.files]))
    }
    record_count(len(manifest.files), "files")
    assert manifest.files, "the manifest declares no file"
    faults = [fault for item in manifest.files for fault in _file_faults(item, found.get(item.path))]
    assert not faults, _first(faults)


def test_links(ask: Ask, manifest: Manifest, record_count: RecordCount) -> None:
    """Links point where they are declared to."""
    found = dict(line.split("\t", 1) for line in ask(_LINKS, [item.path for item in manifest.links]))
    record_count(len(manifest.links), "links")
    assert manifest.links, "the manifest declares no link"
    faults = [
        f"{item.path} leads to {found.get(item.path) or 'nothing'}, not to {item.target}"
        for item in manifest.links
        if found.get(item.path) != item.target
    ]
    assert not faults, _first(faults)


def test_current(host: Any, manifest: Manifest) -> None:
    """The current release is the declared one."""
    answer = host.run("readlink -f %s", CURRENT)
    found = answer.stdout.strip()
    expected = f"{RELEASES}/{manifest.release}"
    assert answer.rc == 0, f"{CURRENT} leads nowhere"
    assert found == expected, f"{CURRENT} leads to {found}, not to {expected}"


def test_no_setuid(host: Any) -> None:
    """No file of ours runs as its owner or group."""
    _assert_nothing(host, _SETUID, "setuid or setgid")


def test_not_writable_by_all(host: Any) -> None:
    """Nothing of ours can be written by everybody."""
    _assert_nothing(host, _OPEN, "writable by everybody")


def _assert_nothing(host: Any, command: str, what: str) -> None:
    answer = host.run(command)
    assert answer.rc == 0, f"{ROOT} could not be searched: {answer.stderr.strip()}"
    faults = [f"{path} is {what}" for path in answer.stdout.splitlines()]
    assert not faults, _first(faults)


def _file_faults(item: FileItem, found: list[str] | None) -> list[str]:
    if found is None:
        return [f"{item.path} is not there"]
    kind, mode, owner, group = found
    faults = [] if kind.startswith("regular") else [f"{item.path} is a {kind}"]
    faults += [] if int(mode, 8) == int(item.mode, 8) else [f"{item.path} has mode {mode}, not {item.mode}"]
    if (owner, group) != (item.owner, item.group):
        faults.append(f"{item.path} belongs to {owner}:{group}, not to {item.owner}:{item.group}")
    return faults


def _first(faults: list[str]) -> str:
    more = len(faults) - _SHOWN
    return "; ".join(faults[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
