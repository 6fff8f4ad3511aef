"""Releases beside each other: what can come back, what is left of one that went, what two hosts differ in."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.manifest import Before, FileItem, LinkItem, Manifest, PackageItem, Reading
from orchestrator.releases import brought_back, differences, fold, lacking_of
from tests.unit.test_manifest_compare import DOOR, FILE, MANIFEST, SSH, A, B

SHARED = FileItem(path="/opt/agentrig/apt/Packages", mode="0644", owner="root", group="root", sha256=A)
OWN = FileItem(path="/opt/agentrig/releases/r/x", mode="0644", owner="root", group="root", sha256=A)
RELEASE = MANIFEST.model_copy(update={"files": (SHARED, OWN)})


def test_a_release_that_comes_back_finds_the_packages_that_came_later() -> None:
    later = (*RELEASE.packages, PackageItem(name="git", version="2"))
    archive = SHARED.model_copy(update={"sha256": B})
    present = RELEASE.model_copy(update={"release": "s", "packages": later, "files": (archive,)})
    back = brought_back(RELEASE, present)
    assert (back.release, back.files) == ("r", (archive, OWN))
    assert [one.name for one in back.packages] == ["git", "nginx"]
    assert brought_back(RELEASE, RELEASE) == RELEASE


def test_only_what_cannot_come_back_keeps_a_release_away() -> None:
    has = Reading(**{name: getattr(RELEASE, name) for name in Reading.model_fields})
    stopped = (RELEASE.units[0].model_copy(update={"active": False}),)
    assert lacking_of(RELEASE, has.model_copy(update={"units": stopped, "listeners": (), "links": ()})) == ()
    (said,) = lacking_of(RELEASE, has.model_copy(update={"packages": (PackageItem(name="nginx", version="1.24"),)}))
    assert "1.22" in said
    assert "1.24" in said
    assert len(lacking_of(RELEASE, has.model_copy(update={"files": (SHARED,)}))) == 1
    assert len(lacking_of(RELEASE, has.model_copy(update={"trees": ()}))) == 1


def test_what_was_swept_is_folded_to_what_down_must_know() -> None:
    left = LinkItem(path="/etc/left-over", target="/opt/agentrig/current/x")
    swept = RELEASE.model_copy(update={"links": (*RELEASE.links, left), "users": ("agentrig-old",)})
    folded = fold(fold(None, swept), RELEASE)
    assert left in folded.links
    assert set(folded.users) == {"agentrig-old", "agentrig-gateway"}
    assert folded.files == folded.trees == ()


def host(manifest: Manifest = MANIFEST, **changed: Any) -> tuple[Manifest, Reading]:
    reading = Reading(**{name: getattr(manifest, name) for name in Reading.model_fields})
    return manifest, reading.model_copy(update=changed)


def test_two_hosts_differ_in_nothing_but_what_no_two_share() -> None:
    own = ("/opt/agentrig/started/agentrig-gateway.service", "/opt/agentrig/before.json", "/opt/agentrig/apt/InRelease")
    files = [FILE.model_copy(update={"path": path}) for path in own]
    one = MANIFEST.model_copy(update={"files": (FILE, *files)})
    others = tuple(file.model_copy(update={"sha256": B}) for file in files)
    other = one.model_copy(
        update={"host": "h2", "lock_digest": "sha256:1", "before": Before(), "files": (FILE, *others)}
    )
    assert differences(*host(one, listeners=(SSH, DOOR)), *host(other)) == ()


@pytest.mark.parametrize(
    ("changed", "kind", "name"),
    [
        ({"files": (FILE.model_copy(update={"sha256": B}),)}, "file", "/opt/x"),
        ({"packages": (PackageItem(name="nginx", version="1.23"),)}, "package", "nginx"),
        ({"packages": (*MANIFEST.packages, PackageItem(name="git", version="2"))}, "package", "git"),
        ({"trees": ()}, "tree", "/opt/store/k"),
        ({"users": ()}, "user", "agentrig-gateway"),
        ({"links": (LinkItem(path="/opt/current", target="releases/s"),)}, "link", "/opt/current"),
        ({"release": "s"}, "link", "/opt/agentrig/current"),
    ],
)
def test_what_one_of_two_hosts_declares_otherwise_is_named(changed: dict[str, Any], kind: str, name: str) -> None:
    other = MANIFEST.model_copy(update=changed)
    assert (kind, name) in [(row.kind, row.name) for row in differences(*host(other), *host())]
    assert (kind, name) in [(row.kind, row.name) for row in differences(*host(), *host(other))]


def test_what_one_of_two_hosts_has_otherwise_is_named() -> None:
    changed = FILE.model_copy(update={"mode": "0666"})
    (row,) = differences(*host(files=(changed,)), *host())
    assert (row.kind, row.name, row.expected, row.found) == ("file", "/opt/x", "mode 0640", "mode 0666")
    (row,) = differences(*host(), *host(files=(changed,)))
    assert (row.expected, row.found) == ("mode 0666", "mode 0640")
