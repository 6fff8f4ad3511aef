"""``bundle`` and ``up --bundle`` above the files: which lock counts, what is taken, and that no registry is asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.root import run
from orchestrator.errors import AgentrigError, LockError, UsageError
from orchestrator.lab import Lab
from orchestrator.line.bundling import open_beside, up_from
from orchestrator.line.ports import Way
from orchestrator.line.values import Wish
from orchestrator.line.wiring import Questions, real
from orchestrator.lock import Request, Store, read
from orchestrator.lock.bundle_fit import misfit
from orchestrator.lockfile import Lock
from orchestrator.progress import silent
from orchestrator.signing import Kind, public_of
from orchestrator.snapshot import HostSnapshot, Package
from orchestrator.state import State
from tests.unit.bundling import CONTENTS, Bundler, blob, bundler, lock_of, tree
from tests.unit.lock_stand_ins import catalog, deployment, snapshot

CATALOG = catalog(b"weights")
LIBC = Package(name="libc6", version="2.36-9+deb12u10", architecture="amd64")


@pytest.fixture
def maker(tmp_path: Path) -> Bundler:
    folder = tmp_path / "maker"
    folder.mkdir()
    return bundler(folder)


@pytest.fixture
def root(maker: Bundler, tmp_path: Path) -> Path:
    maker.create(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def there(maker: Bundler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """Another control machine, to which the maker's public key was given beforehand."""
    signers = tmp_path / "allowed_signers"
    signers.write_text(f"owner {public_of(maker.state.keys / 'owner')}\n")
    monkeypatch.setenv("AGENTRIG_SIGNERS", str(signers))
    return State(tmp_path / "there")


@pytest.fixture
def way(there: State) -> Way:
    questions = Questions(lambda _: True, lambda _: True, lambda: None)
    return Way(real(there, CATALOG, Lab(there.lab), questions), silent)


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    return Wish(tmp_path / "rig/deploy.lock")


def request(**changes: object) -> Request:
    host: HostSnapshot = snapshot(packages=(LIBC,))
    asked = Request(snapshot=host, profile_digest="p", deployment=deployment("small", "Q4", "xllamacpp"))
    return asked.model_copy(update={"packages": ("nginx",), **changes})


def lock_in(root: Path) -> Lock:
    lock = read(root / "deploy.lock")
    assert lock is not None
    return lock


def test_where_there_is_no_lock_the_bundle_s_is_put_there(root: Path, there: State, way: Way, wish: Wish) -> None:
    onward, _ = up_from(open_beside(root, wish, there, way), ["one"], wish, there, way)
    assert (onward.locked, onward.lock_file) == (True, wish.lock_file)
    for name in ("deploy.lock", "deploy.lock.sig"):
        assert (wish.lock_file.parent / name).read_bytes() == (root / name).read_bytes()
    assert way.ports.read_lock(wish.lock_file) == lock_in(root)
    assert sorted(tree(there.store).values()) == sorted(CONTENTS.values())


def test_check_mode_puts_no_lock_there(root: Path, there: State, way: Way, wish: Wish) -> None:
    checking = replace(wish, check=True)
    onward, _ = up_from(open_beside(root, checking, there, way), ["one"], checking, there, way)
    assert onward.lock_file == root / "deploy.lock"
    assert not wish.lock_file.exists()


def test_the_same_lock_beside_it_stays(root: Path, there: State, way: Way, wish: Wish) -> None:
    wish.lock_file.parent.mkdir()
    for name in ("deploy.lock", "deploy.lock.sig"):
        shutil.copy(root / name, wish.lock_file.parent)
    before = wish.lock_file.stat().st_mtime_ns
    up_from(open_beside(root, wish, there, way), ["one"], wish, there, way)
    assert wish.lock_file.stat().st_mtime_ns == before


@pytest.fixture
def _another_lock(maker: Bundler, wish: Wish, tmp_path: Path) -> None:
    other = Bundler(maker.state, wish.lock_file)
    other.write(lock_of({"nginx": CONTENTS["nginx"]}, maker.store, tmp_path))


@pytest.mark.usefixtures("_another_lock")
def test_another_lock_beside_it_is_refused(root: Path, there: State, way: Way, wish: Wish) -> None:
    before = tree(wish.lock_file.parent)
    with pytest.raises(UsageError, match="that of another lock") as raised:
        open_beside(root, wish, there, way)
    assert "deploy bundle create" in raised.value.do
    assert tree(wish.lock_file.parent) == before
    assert not there.store.exists()


def test_a_lock_beside_it_that_was_edited_by_hand_is_refused(root: Path, there: State, way: Way, wish: Wish) -> None:
    wish.lock_file.parent.mkdir()
    for name in ("deploy.lock", "deploy.lock.sig"):
        shutil.copy(root / name, wish.lock_file.parent)
    wish.lock_file.write_text(wish.lock_file.read_text().replace("nginx", "xginx"))
    with pytest.raises(AgentrigError, match="edited by hand"):
        open_beside(root, wish, there, way)


def test_a_new_plan_and_a_bundle_contradict(root: Path, there: State, way: Way, wish: Wish) -> None:
    with pytest.raises(UsageError, match="one decision"):
        open_beside(root, replace(wish, replan=True), there, way)


def test_a_byte_turned_meanwhile_is_not_taken(root: Path, there: State, way: Way, wish: Wish) -> None:
    opened = open_beside(root, wish, there, way)
    blob(root, "smollm2").write_bytes(CONTENTS["smollm2"][::-1])
    with pytest.raises(LockError, match=r"smollm2 1\.0 has other bytes"):
        up_from(opened, ["one"], wish, there, way)
    assert not Store(there.store).has(blob(root, "smollm2").name)
    assert not wish.lock_file.exists()


def test_what_the_store_has_is_not_read_again(root: Path, there: State, way: Way, wish: Wish) -> None:
    up_from(open_beside(root, wish, there, way), ["one"], wish, there, way)
    blob(root, "smollm2").write_bytes(CONTENTS["smollm2"][::-1])
    up_from(open_beside(root, wish, there, way), ["one"], wish, there, way)


def test_a_host_that_fits_gets_the_lock_as_it_is(root: Path, there: State, way: Way, wish: Wish) -> None:
    _, sealed = up_from(open_beside(root, wish, there, way), ["one"], wish, there, way)
    assert sealed.ports.resolve({"one": request()}, lock_in(root), silent) == lock_in(root)


def test_what_the_store_lost_is_named(root: Path, there: State, way: Way, wish: Wish) -> None:
    _, sealed = up_from(open_beside(root, wish, there, way), ["one"], wish, there, way)
    Store(there.store).path(blob(root, "nginx").name).unlink()
    with pytest.raises(LockError, match=r"the store lacks nginx 1\.0"):
        sealed.ports.resolve({"one": request()}, lock_in(root), silent)


@pytest.fixture
def sealed(root: Path, there: State, way: Way, wish: Wish) -> Way:
    """What ``up`` goes on with once the bundle is taken."""
    return up_from(open_beside(root, wish, there, way), ["one"], wish, there, way)[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"packages": ("nginx", "podman")}, "asks for other packages than were locked: podman"),
        ({"snapshot": snapshot(packages=())}, "the host lacks libc6, on which the locked packages lean"),
        ({"snapshot": snapshot(packages=(LIBC,), arch="aarch64")}, "locked packages are not for bookworm on aarch64"),
        ({"snapshot": snapshot(packages=(LIBC,), python=None)}, "the host has Python not at all"),
        (
            {"snapshot": snapshot(packages=(LIBC.model_copy(update={"version": "2.41-1"}),))},
            r"runtime is locked for python 3\.11\.2 x86_64 glibc 2\.36",
        ),
    ],
    ids=["packages", "leans on", "architecture", "no python", "glibc"],
)
def test_a_host_that_does_not_fit_is_refused_without_asking_anybody(
    root: Path, sealed: Way, change: dict[str, object], said: str
) -> None:
    failures: dict[str, AgentrigError] = {}
    lock = lock_in(root)
    assert sealed.ports.resolve({"one": request(**change)}, lock, silent, failures=failures) == lock
    assert isinstance(failures["one"], UsageError)
    with pytest.raises(UsageError, match=f"cannot be built from this bundle: .*{said}"):
        sealed.ports.resolve({"one": request(**change)}, lock, silent)


def test_a_host_that_nobody_locked(root: Path) -> None:
    assert misfit(lock_in(root), "two", request(), CATALOG) == "the lock does not name two"


@pytest.fixture
def _elsewhere(there: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTRIG_STATE", str(there.root))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_elsewhere")
def test_the_exit_codes_of_check(root: Path, maker: Bundler, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for one that is whole, 1 where bytes are others, 2 where the caller must change something."""
    assert run(["bundle", "check", "bundle"]) == 0
    assert "every file has the bytes that were signed" in capsys.readouterr().out
    flipped = blob(root, "nginx")
    flipped.write_bytes(CONTENTS["nginx"][::-1])
    assert run(["bundle", "check", "bundle", "--json"]) == 1
    assert "nginx 1.0" in json.loads(capsys.readouterr().out)["error"]["what"]
    (root / "bundle.json.sig").write_text(maker.state.sign(b"other", Kind.BUNDLE))
    assert run(["bundle", "check", "bundle", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "signature"
    assert run(["bundle", "check", "nowhere"]) == 2


@pytest.mark.usefixtures("_elsewhere")
def test_no_lock_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "create", "new", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["what"] == "there is no lock to bundle"
    assert not (tmp_path / "new").exists()
