"""A gated repository: which one, where its licence is, how a token is given; and a token that stays out of all text."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from orchestrator.catalog.rows import WeightFile
from orchestrator.errors import LockError
from orchestrator.lock import Store, hub, hub_token
from orchestrator.lock.wanted import Target, Weights
from orchestrator.lock.weights import fetch_weights, resolve_weights
from tests.unit.lock_stand_ins import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.lock_stand_ins import Mirror

TARGET = Target("3.11.2", "x86_64", (2, 36))
LARGE = Weights("large", "FP8", (WeightFile(origin="hub", repository="maker/large", member="*.safetensors"),))
TOKEN = "hf_token_of_the_test"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirror]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub_token.forget()
    with serving({"model.safetensors": b"weights", "config.json": b"{}"}) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served
    hub_token.forget()


def keyring(monkeypatch: pytest.MonkeyPatch, answer: str | Exception | None) -> None:
    """A stand-in for the library ``keyring``."""

    def get_password(service: str, name: str) -> str | None:
        assert (service, name) == ("agentrig", "hub")
        if isinstance(answer, Exception):
            raise answer
        return answer

    library = ModuleType("keyring")
    library.__dict__["get_password"] = get_password
    monkeypatch.setitem(sys.modules, "keyring", library)


def test_the_environment_comes_before_the_keyring(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring(monkeypatch, "of the keyring")
    assert hub_token.token() == "of the keyring"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub_token.token() == TOKEN
    hub.list_files("maker/large")
    assert mirror.tokens[-1] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("answer", [None, "", RuntimeError("it is locked")])
def test_a_keyring_without_an_answer_is_no_token(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, answer: str | Exception | None
) -> None:
    keyring(monkeypatch, answer)
    assert hub_token.token() is None
    hub.list_files("maker/large")
    assert mirror.tokens[-1] == ""


@pytest.mark.parametrize(("status", "token"), [(401, None), (403, TOKEN)])
def test_a_gated_file_names_its_page_and_the_way_in(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, token: str | None
) -> None:
    """The hub tells of the files to everybody, and gives them to those who have accepted."""
    keyring(monkeypatch, None)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    store = Store(tmp_path / "store")
    _, parts = resolve_weights(LARGE, TARGET, store)
    mirror.refusal = (status, "GatedRepo")
    mirror.refused = "/resolve/"
    with pytest.raises(LockError) as refused:
        fetch_weights(parts, TARGET, store)
    error = refused.value
    assert "maker/large is gated" in error.what
    assert ("not been let in" in error.what) == bool(token)
    assert f"{mirror.endpoint}/maker/large" in error.do
    assert all(way in error.do for way in ("HF_TOKEN", "hf auth login", "keyring set agentrig hub"))
    assert TOKEN not in str(error.document()) + str(error)


def test_a_login_in_the_mirror_s_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:word@mirror.example/")
    assert hub.page("maker/large") == "https://mirror.example/maker/large"


def test_no_token_is_in_what_the_lock_says_of_a_gated_llm(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    mirror.refusal = (403, "GatedRepo")
    top, _ = resolve_weights(LARGE, TARGET, Store(tmp_path / "store"))
    assert "maker/large is gated" in str(top.why)
    assert TOKEN not in top.to_json()


def test_who_forbids_implicit_tokens_has_none_sent(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring(monkeypatch, "of the keyring")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert hub_token.token() is None
    hub.list_files("maker/large")
    assert set(mirror.tokens) == {""}


@pytest.mark.parametrize(
    ("endpoint", "given"),
    [
        ("http://mirror.example", None),
        ("http://127.0.0.1.mirror.example:80", None),
        ("HTTP://10.0.0.1/hub", None),
        ("http://user@mirror.example", None),
        ("https://mirror.example", "of the keyring"),
        ("http://127.0.0.1:9", "of the keyring"),
        ("http://localhost:8000/hub", "of the keyring"),
        ("http://[::1]:8000", "of the keyring"),
        ("", "of the keyring"),
    ],
)
def test_a_keyring_s_token_goes_over_no_network_in_clear_text(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, endpoint: str, given: str | None
) -> None:
    del mirror
    keyring(monkeypatch, "of the keyring")
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert hub_token.token() == given
