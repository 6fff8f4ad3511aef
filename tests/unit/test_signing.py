"""The owner's signature, with keys that ssh-keygen made: who is believed, who is not, and what is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import SignatureError, SigningError
from orchestrator.signing import Kind, Signers, check, owner_key, public_of, seen, sign, signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTENT = b"what the owner meant\n"


@pytest.fixture(autouse=True)
def nobody_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGENTRIG_SIGNERS", "AGENTRIG_SIGNING_KEY", "SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))


@pytest.fixture
def key(tmp_path: Path) -> Callable[..., Path]:
    def made(name: str, passphrase: str = "") -> Path:
        path = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
        return path

    return made


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """An ssh agent of this test's own; its socket."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None
        yield socket
    finally:
        process.terminate()
        process.wait()


def refused(content: bytes, signature: str, signers: Signers, kind: Kind = Kind.LOCK) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        check(content, signature, kind, signers, title="the lock", where="deploy.lock")
    assert caught.value.exit_code == 2
    assert caught.value.where == "deploy.lock"
    return caught.value


def named(tmp_path: Path, line: str) -> Signers:
    (tmp_path / "known").write_text(line, encoding="utf-8")
    return Signers.here(tmp_path / "state", tmp_path / "known")


def test_the_owners_key_is_made_at_first_need_and_kept(tmp_path: Path) -> None:
    root = tmp_path / "state"
    assert Signers.here(root).lines == ""
    first = owner_key(root)
    assert first.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in sorted(first.parent.iterdir())] == ["owner", "owner.pub"]
    before = first.read_bytes()
    assert owner_key(root).read_bytes() == before
    signature = sign(CONTENT, Kind.LOCK, first)
    assert check(CONTENT, signature, Kind.LOCK, Signers.here(root), title="the lock", where="") == "owner"
    first.with_suffix(".pub").unlink()
    assert check(CONTENT, signature, Kind.LOCK, Signers.here(root), title="the lock", where="") == "owner"


def test_naming_another_key_leaves_what_the_first_one_signed(
    tmp_path: Path, key: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "state"
    before = sign(CONTENT, Kind.LOCK, owner_key(root))
    monkeypatch.setenv("AGENTRIG_SIGNING_KEY", str(key("mine")))
    after = sign(CONTENT, Kind.LOCK, owner_key(root))
    assert before != after
    for signature in (before, after):
        assert check(CONTENT, signature, Kind.LOCK, Signers.here(root), title="the lock", where="") == "owner"


def test_other_content_another_kind_and_no_signature_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "state"
    signature = sign(CONTENT, Kind.LOCK, owner_key(root))
    signers = Signers.here(root)
    assert refused(CONTENT + b" ", signature, signers).reason == "edited"
    other = refused(CONTENT, signature, signers, Kind.BUNDLE)
    assert (other.reason, "agentrig-lock" in other.what) == ("another_kind", True)
    assert refused(CONTENT, "", signers).reason == "unsigned"
    assert refused(CONTENT, "good, said the mouse", signers).reason == "garbled"
    middle = signature.splitlines()
    middle[2] = middle[2][:-4] + "AAAA"
    assert refused(CONTENT, "\n".join(middle), signers).reason in {"edited", "garbled"}
    assert refused(CONTENT, "\n".join([middle[0], "AAAA", middle[-1]]), signers).reason == "garbled"


def test_a_key_that_nobody_gave_is_named_with_the_line_to_add(tmp_path: Path, key: Callable[..., Path]) -> None:
    friend = key("friend")
    signature = sign(CONTENT, Kind.LOCK, friend)
    owner_key(tmp_path / "state")
    error = refused(CONTENT, signature, Signers.here(tmp_path / "state"))
    fingerprint = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(friend)], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert (error.reason, fingerprint in error.what) == ("unknown", True)
    assert str(tmp_path / "config/agentrig/allowed_signers") in error.do
    line = error.do.split("'")[1].replace("NAME", "friend@example.org")
    given = tmp_path / "config/agentrig/allowed_signers"
    given.parent.mkdir(parents=True)
    given.write_text(line + "\n", encoding="utf-8")
    signers = Signers.here(tmp_path / "state")
    assert check(CONTENT, signature, Kind.LOCK, signers, title="the lock", where="") == "friend@example.org"
    seen_of = seen(signature)
    assert seen_of is not None
    assert (seen_of.public, seen_of.fingerprint) == (public_of(friend), fingerprint)


def test_a_signers_file_is_read_as_openssh_reads_it(tmp_path: Path, key: Callable[..., Path]) -> None:
    friend = key("friend")
    signature, public = sign(CONTENT, Kind.LOCK, friend), public_of(friend)

    def who(line: str) -> str:
        return check(CONTENT, signature, Kind.LOCK, named(tmp_path, line), title="the lock", where="")

    assert who(f"# ours\n\nfriend {public} a comment\n") == "friend"
    assert who(f'friend namespaces="git,agentrig-*" {public}') == "friend"
    assert who(f"not a line\nfriend {public}") == "friend"
    for line, word in (
        (f'friend namespaces="agentrig-bundle" {public}', "not permitted"),
        (f'friend valid-before="20200101" {public}', "expired"),
        (f'friend valid-after="29990101" {public}', "not yet"),
    ):
        error = refused(CONTENT, signature, named(tmp_path, line))
        assert (error.reason, word in error.what) == ("not_allowed", True), error.what
        assert str(tmp_path / "known") in error.do
    two = f'friend namespaces="agentrig-bundle" {public}\nteam {public}\n'
    assert who(two) == "team"


def test_a_certificate_counts_by_its_authority(tmp_path: Path, key: Callable[..., Path]) -> None:
    authority, friend = key("authority"), key("friend")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "one", "-n", "friend@example.org", f"{friend}.pub"], check=True
    )
    signature = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-f", f"{friend}-cert.pub", "-n", Kind.LOCK],
        input=CONTENT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    line = f"*@example.org cert-authority {public_of(authority)}"
    who = check(CONTENT, signature, Kind.LOCK, named(tmp_path, line), title="the lock", where="")
    assert who == "friend@example.org"
    assert refused(CONTENT, signature, named(tmp_path, f"*@other.org cert-authority {public_of(authority)}"))


def test_one_of_several_signatures_is_enough(tmp_path: Path, key: Callable[..., Path]) -> None:
    root = tmp_path / "state"
    old, new = (sign(content, Kind.LOCK, owner_key(root)) for content in (b"old\n", b"new\n"))
    both = new + old
    assert signatures(both) == (new, old)
    for content in (b"old\n", b"new\n"):
        assert check(content, both, Kind.LOCK, Signers.here(root), title="the lock", where="") == "owner"
    assert refused(b"newer\n", both, Signers.here(root)).reason == "edited"
    strange = sign(b"newer\n", Kind.LOCK, key("strange"))
    assert refused(b"newer\n", both + strange, Signers.here(root)).reason == "unknown"


def test_a_key_with_a_passphrase_needs_an_agent(
    tmp_path: Path, key: Callable[..., Path], agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = key("guarded", "a long phrase")
    monkeypatch.setenv("AGENTRIG_SIGNING_KEY", str(guarded))
    with pytest.raises(SigningError) as caught:
        sign(CONTENT, Kind.LOCK, owner_key(tmp_path))
    assert "passphrase" in caught.value.what
    assert f"ssh-add {guarded}" in caught.value.do
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho a long phrase\n", encoding="utf-8")
    ask.chmod(0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    asking = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(guarded)], env=asking, check=True)
    for name in (guarded, Path(f"{guarded}.pub")):
        monkeypatch.setenv("AGENTRIG_SIGNING_KEY", str(name))
        signature = sign(CONTENT, Kind.LOCK, owner_key(tmp_path))
        signers = Signers.here(tmp_path)
        assert check(CONTENT, signature, Kind.LOCK, signers, title="the lock", where="") == "owner"
    guarded.unlink()
    assert sign(CONTENT, Kind.LOCK, owner_key(tmp_path)) == signature
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(SigningError) as caught:
        sign(CONTENT, Kind.LOCK, owner_key(tmp_path))
    assert "SSH_AUTH_SOCK" in caught.value.do


def test_what_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = sign(CONTENT, Kind.LOCK, owner_key(tmp_path))
    signers = Signers.here(tmp_path)
    with pytest.raises(SigningError, match="cannot be read"):
        Signers.here(tmp_path, tmp_path / "nowhere")
    monkeypatch.setenv("AGENTRIG_SIGNING_KEY", str(tmp_path / "nowhere"))
    with pytest.raises(SigningError, match="not there"):
        owner_key(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cat").symlink_to(shutil.which("cat") or "/bin/cat")
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(SigningError) as caught:
        check(CONTENT, signature, Kind.LOCK, signers, title="the lock", where="")
    assert (caught.value.exit_code, caught.value.do) == (2, "install openssh-client")
