"""A lock and its signature as files: who is believed, in which words others are refused, a writing cut off."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import SignatureError, SigningError, UsageError
from orchestrator.lock import read_signed, sign_as_it_stands, write
from orchestrator.lockfile import HostLock, Lock
from orchestrator.signing import Kind, Signers, sign, signatures
from orchestrator.state import State
from tests.strangers import somebody_else
from tests.unit.lock_stand_ins import deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = HostLock(profile_digest="p", hardware_digest="h", deployment=deployment("a", "b", "vllm"))
OLD, NEW = (Lock(agentrig=version, hosts={"one": HOST}) for version in ("1", "2"))


class CutOffError(BaseException):
    """Stands in for a kill in the middle of a writing."""


@pytest.fixture(autouse=True)
def nobody_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGENTRIG_SIGNERS", "AGENTRIG_SIGNING_KEY", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def path(tmp_path: Path, state: State) -> Path:
    path = tmp_path / "rig" / "deploy.lock"
    write(path, OLD, state.sign)
    return path


def refused(path: Path, state: State) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        read_signed(path, state.signers)
    assert (caught.value.exit_code, caught.value.where) == (2, str(path))
    return caught.value


def believed(path: Path, state: State) -> Lock:
    found = read_signed(path, state.signers)
    assert found is not None
    assert found.signer == "owner"
    return found.lock


def test_ssh_keygen_alone_checks_what_was_written(path: Path, state: State, tmp_path: Path) -> None:
    assert believed(path, state) == OLD
    (tmp_path / "known").write_text(f"me {(state.keys / 'owner.pub').read_text(encoding='utf-8')}", encoding="utf-8")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "known"), "-I", "me", "-n", "agentrig-lock"]
    done = subprocess.run([*command, "-s", f"{path}.sig"], input=path.read_bytes(), capture_output=True, check=True)
    assert b'Good "agentrig-lock" signature for me' in done.stdout


def test_a_lock_edited_by_hand_is_refused_until_it_is_signed_as_it_stands(path: Path, state: State) -> None:
    path.write_text(path.read_text().replace('"agentrig": "1"', '"agentrig": "9"'))
    error = refused(path, state)
    assert (error.reason, "edited by hand" in error.what) == ("edited", True)
    assert error.do.endswith(f"deploy lock --sign {path}")
    assert sign_as_it_stands(path, state.sign).lock.agentrig == "9"
    assert believed(path, state).agentrig == "9"


def test_a_lock_without_a_signature_is_refused(path: Path, state: State) -> None:
    (path.parent / "deploy.lock.sig").unlink()
    error = refused(path, state)
    assert (error.reason, OLD.lock_digest in error.what) == ("unsigned", True)
    assert error.do.endswith(f"deploy lock --sign {path}")
    (path.parent / "deploy.lock.sig").write_text("hello")
    assert refused(path, state).reason == "garbled"


def test_a_lock_and_a_signature_made_together_by_another_are_refused(path: Path, state: State, tmp_path: Path) -> None:
    other = State(tmp_path / "other")
    with somebody_else(tmp_path / "away"):
        write(path, NEW, other.sign)
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", other.keys / "owner.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    error = refused(path, state)
    assert (error.reason, fingerprint in error.what) == ("unknown", True)
    known = tmp_path / "config/agentrig/allowed_signers"
    known.parent.mkdir(parents=True)
    known.write_text(error.do.split("'")[1].replace("NAME", "colleague") + "\n", encoding="utf-8")
    found = read_signed(path, state.signers)
    assert found is not None
    assert found.signer == "colleague"


def test_a_lock_that_another_state_of_the_same_user_wrote_counts(path: Path, tmp_path: Path) -> None:
    """A lock outlives the state it was written with: a second checkout, a test's own state."""
    one, other = State(tmp_path / "one"), State(tmp_path / "two")
    write(path, NEW, one.sign)
    found = read_signed(path, other.signers)
    assert found is not None
    assert found.signer == "owner"
    with somebody_else(tmp_path / "away"):
        assert refused(path, other).reason == "unknown"


def test_a_folder_of_states_that_cannot_be_written_is_no_reason_to_fail(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    one = State(tmp_path / "one")
    write(path, NEW, one.sign)
    assert read_signed(path, one.signers) is not None


def test_a_signature_of_something_else_is_none_of_a_lock(path: Path, state: State) -> None:
    other = sign(path.read_bytes(), Kind.BUNDLE, state.keys / "owner")
    (path.parent / "deploy.lock.sig").write_text(other)
    assert refused(path, state).reason == "another_kind"


def _cut_off_at(number: int) -> Iterator[None]:
    """Let so many renamings happen, and end the next before it does."""
    for _ in range(number):
        yield
    raise CutOffError


@pytest.mark.parametrize("number", range(4))
def test_a_writing_that_is_cut_off_leaves_a_lock_with_its_signature(
    path: Path, state: State, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments, rename = _cut_off_at(number), Path.rename

    def renamed(self: Path, target: Path) -> Path:
        next(moments, None)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renamed)
        try:
            write(path, NEW, state.sign)
            ended = False
        except CutOffError:
            ended = True
    assert ended == (number < 3)
    assert believed(path, state) == (OLD if number < 2 else NEW)
    write(path, NEW, state.sign)
    assert believed(path, state) == NEW
    assert len(signatures((path.parent / "deploy.lock.sig").read_text())) == 1


def test_a_key_that_does_not_sign_leaves_all_as_it_was(
    path: Path, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad").write_text("not a key")
    (tmp_path / "bad").chmod(0o600)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    with monkeypatch.context() as patch:
        patch.setenv("AGENTRIG_SIGNING_KEY", str(tmp_path / "bad"))
        with pytest.raises(SigningError, match="did not sign"):
            write(path, NEW, state.sign)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before
    assert believed(path, state) == OLD


def test_no_lock_is_none_and_cannot_be_signed(tmp_path: Path, state: State) -> None:
    assert read_signed(tmp_path / "deploy.lock", lambda: pytest.fail("nobody is asked")) is None
    with pytest.raises(UsageError, match="there is no lock to sign"):
        sign_as_it_stands(tmp_path / "deploy.lock", state.sign)


def test_a_lock_that_another_user_may_not_read_is_told(path: Path, state: State) -> None:
    (path.parent / "deploy.lock.sig").unlink()
    os.mkdir(path.parent / "deploy.lock.sig")  # noqa: PTH102 - a folder where the signature should be
    with pytest.raises(UsageError, match="signature cannot be read"):
        read_signed(path, state.signers)


def test_who_is_known_is_asked_only_where_there_is_a_lock(path: Path, tmp_path: Path) -> None:
    assert read_signed(path, lambda: Signers.here(tmp_path / "state")) is not None
