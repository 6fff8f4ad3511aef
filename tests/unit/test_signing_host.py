"""The module by which a host sees who signed a lock, as it runs there: real signatures, honest and other."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from orchestrator.apply.values import signed_values, trees_of
from orchestrator.errors import SignatureError
from orchestrator.files import data
from orchestrator.lockfile import Lock
from orchestrator.signing import Kind, owner_key, public_of, sign
from tests.apply_parts import Parts
from tests.unit.test_apply_npm_tree import loaded


class Ended(Exception):  # noqa: N818 - what the module told when it ended
    """What a module told."""

    def __init__(self, **told: Any) -> None:
        super().__init__(told)
        self.told = told


@pytest.fixture(autouse=True)
def own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AGENTRIG_SIGNING_KEY", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with a file of signers of the test's own."""
    shared = loaded("ansible.module_utils.agentrig", data("roles") / "host_base/module_utils/agentrig.py")
    monkeypatch.setitem(sys.modules, "ansible.module_utils.agentrig", shared)
    found: Any = loaded("agentrig_signed", data("roles") / "host_base/library/agentrig_signed.py")
    monkeypatch.setattr(found, "SIGNERS", tmp_path / "etc/allowed_signers")
    (tmp_path / "etc").mkdir()
    return found


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


@pytest.fixture
def lock(parts: Parts) -> Lock:
    return parts.lock({"runtime": parts.venv(parts.wheel()), "llm": parts.weights()}, (parts.deb("a", {}),))


def told(module: Any, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what the module tells of these values."""

    def ended(**about: Any) -> None:
        raise Ended(**about)

    class Stand:
        check_mode = True

        def __init__(self, argument_spec: dict[str, Any], **_: Any) -> None:
            self.params = {name: params[name] for name in argument_spec}
            self.exit_json = self.fail_json = ended

    monkeypatch.setattr(module, "AnsibleModule", Stand)
    with pytest.raises(Ended) as caught:
        module.main()
    return caught.value.told


def given(lock: Lock, signature: str, *, content: bytes | None = None, name: str = "rig") -> dict[str, Any]:
    """Give the module's values as apply makes them."""
    keys = {link: lock.by_id()[of].key for link, of in lock.hosts["rig"].links.items()}
    debs = [{"digest": lock.by_id()[deb].key} for deb in lock.hosts["rig"].debs]
    signed = (content if content is not None else lock.to_json().encode(), signature)
    values = signed_values(name, signed, debs, trees_of(lock, keys))
    return {key.removeprefix("host_base_"): value for key, value in values.items()}


def owned(module: Any, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a file of signers there as the host's owner would; whose it is, is another test's business."""
    module.SIGNERS.write_text(line, encoding="utf-8")
    monkeypatch.setattr(module, "refuse_what_proves_nothing", lambda: None)


def test_without_a_file_of_signers_nothing_is_asked(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"lock": "", "signature": "", "name": "", "digests": ["f" * 64]}
    assert told(module, values, monkeypatch) == {"changed": False, "changes": [], "signer": ""}


def test_what_a_known_key_signed_is_taken(
    module: Any, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = owner_key(tmp_path)
    signature = sign(lock.to_json().encode(), Kind.LOCK, key)
    for line in (f"me {public_of(key)}", f'# us\nyou namespaces="git" {public_of(key)}\nme {public_of(key)}\n'):
        owned(module, line, monkeypatch)
        assert told(module, given(lock, signature), monkeypatch)["signer"] == "me"
    former = sign(b"another", Kind.LOCK, key)
    assert told(module, given(lock, former + signature), monkeypatch)["signer"] == "me"


def test_what_nobody_known_signed_is_refused_in_its_own_words(
    module: Any, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = owner_key(tmp_path / "a"), owner_key(tmp_path / "b")
    content = lock.to_json().encode()
    owned(module, f"me {public_of(key)}\n", monkeypatch)
    good, strange = (sign(content, Kind.LOCK, one) for one in (key, other))
    cases = [
        (given(lock, ""), "unsigned", "takes only a lock that is signed"),
        (given(lock, "", content=b""), "unsigned", "takes only a lock that is signed"),
        (given(lock, good, content=content + b" "), "edited", "not what was signed"),
        (given(lock, strange), "unknown", "does not name"),
        (given(lock, sign(content, Kind.BUNDLE, key)), "edited", "not what was signed"),
        (given(lock, good, name="other"), "edited", "no host other"),
        ({**given(lock, good), "lock": "AAAA"}, "edited", "did not arrive whole"),
    ]
    for values, reason, words in cases:
        said = told(module, values, monkeypatch)
        assert (said.get("signature"), words in said["msg"]) == (reason, True), said
        assert SignatureError(said["msg"], reason=said["signature"], do=said["remedy"]).exit_code == 2
    for line in (f'me valid-before="20200101" {public_of(key)}', f'me namespaces="git" {public_of(key)}'):
        owned(module, line, monkeypatch)
        assert told(module, given(lock, good), monkeypatch)["signature"] == "unknown"


def test_what_is_not_in_the_signed_lock_is_not_placed(
    module: Any, lock: Lock, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = owner_key(tmp_path)
    owned(module, f"me {public_of(key)}\n", monkeypatch)
    content = lock.to_json().encode()
    signature = sign(content, Kind.LOCK, key)
    strange = parts.put(b"another", kind="file", name="stand-in-llm", version="1", filename="stand-in.gguf")
    values = given(lock, signature)
    said = told(module, {**values, "digests": [*values["digests"], strange.key]}, monkeypatch)
    assert (said["signature"], strange.key in said["msg"]) == ("edited", True)
    everything = {artefact.key for artefact in lock.artefacts}
    assert set(values["digests"]) == everything


def test_an_artefact_of_another_host_is_not_this_ones(
    module: Any, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = owner_key(tmp_path)
    owned(module, f"me {public_of(key)}\n", monkeypatch)
    less = lock.hosts["rig"].model_copy(update={"debs": (), "packages": ()})
    two = lock.model_copy(update={"hosts": {"rig": lock.hosts["rig"], "other": less}})
    signature = sign(two.to_json().encode(), Kind.LOCK, key)
    assert told(module, given(two, signature), monkeypatch)["signer"] == "me"
    deb = two.by_id()[lock.hosts["rig"].debs[0]]
    assert deb.key in told(module, given(two, signature, name="other"), monkeypatch)["msg"]


def test_a_bomb_is_no_lock(module: Any, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 1 << 10)
    key = owner_key(tmp_path)
    owned(module, f"me {public_of(key)}\n", monkeypatch)
    packed = base64.b64encode(zlib.compress(bytes(1 << 20))).decode()
    said = told(module, {**given(lock, "x"), "lock": packed}, monkeypatch)
    assert said["msg"] == "the lock did not arrive whole"


def test_a_file_that_others_may_write_and_a_host_without_ssh_keygen_are_refused(
    module: Any, lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.SIGNERS.write_text("me ssh-ed25519 AAAA\n")
    module.SIGNERS.chmod(0o666)
    said = told(module, given(lock, ""), monkeypatch)
    assert "another than root" in said["msg"]
    assert str(tmp_path / "etc") in said["msg"]
    monkeypatch.setattr(module, "_PATH", str(tmp_path))
    said = told(module, given(lock, ""), monkeypatch)
    assert "no ssh-keygen" in said["msg"]
    assert "install openssh-client" in said["msg"]


def test_no_secret_is_among_the_values(lock: Lock) -> None:
    assert set(given(lock, "s")) == {"name", "lock", "signature", "digests"}
    packed = zlib.decompress(base64.b64decode(given(lock, "s")["lock"]))
    assert json.loads(packed) == lock.document()
