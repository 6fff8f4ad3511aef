"""What runtimes without a long command line are told: TabbyAPI's configuration, Ollama's, TensorRT-LLM's options."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.catalog.rows import LlmQuant, WeightFile
from orchestrator.errors import CatalogError, UsageError
from orchestrator.files import data
from orchestrator.render import render
from orchestrator.render.runtimes import BUILDERS, parts_of
from tests.unit.rendering import llm_row
from tests.unit.runtime_lines import GGUF, ROWS, deployment_of, fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = sorted(BUILDERS.keys() - {"external"})


def told(runtime: str, path: str, **wishes: Any) -> str:
    deployment = deployment_of(runtime, **wishes)
    return next(file.content for file in parts_of(deployment, ROWS).files if file.path == path)


def with_row(**fields: Any) -> Any:
    return ROWS.model_copy(update={"llms": ROWS.llms | {"full-gguf": llm_row("full-gguf", "Q4_K_M", **fields)}})


@pytest.mark.parametrize("runtime", ["exllama", "ollama", "tensorrt_llm"])
def test_what_was_read_names_where_it_was_read(runtime: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", fixture(runtime)["commit"])


def test_tabbyapi_is_told_only_what_its_configuration_knows() -> None:
    config, known = json.loads(told("exllama", "runtime/tabbyapi.yml")), fixture("exllama")["options"]
    assert {f"{group}.{name}" for group, fields in config.items() for name in fields} <= set(known)
    assert config["network"] == {
        "host": "127.0.0.1",
        "port": 18080,
        "disable_auth": False,
        "disable_fetch_requests": True,
        "send_tracebacks": False,
        "api_servers": ["oai"],
    }
    assert (config["model"]["max_seq_len"], config["model"]["cache_size"]) == (65536, 3 * 65536)
    assert config["model"]["cache_mode"] == "8,8"
    assert json.loads(told("exllama", "runtime/sampler_overrides/agentrig.yml"))["temperature"]["override"] == 0.6


def test_a_cache_of_tabbyapi_is_whole_pages() -> None:
    config = json.loads(told("exllama", "runtime/tabbyapi.yml", context_tokens=1000, slots=1))
    assert config["model"]["cache_size"] == 1024


def test_tensorrt_llm_is_told_only_flags_of_its_command() -> None:
    words = parts_of(deployment_of("tensorrt_llm"), ROWS).argv
    assert {word for word in words if word.startswith("--")} <= set(fixture("tensorrt_llm")["options"])
    options = json.loads(told("tensorrt_llm", "runtime/trtllm.yml"))
    assert options["kv_cache_config"] == {"dtype": "fp8", "enable_block_reuse": True}
    assert options["trust_remote_code"] is False


def test_ollama_reads_every_variable_that_it_is_given() -> None:
    environment = parts_of(deployment_of("ollama"), ROWS).environment
    assert {name for name in environment if name.startswith("OLLAMA_")} <= set(fixture("ollama")["options"])
    assert (environment["OLLAMA_HOST"], environment["OLLAMA_CONTEXT_LENGTH"]) == ("127.0.0.1:18080", "8192")


def test_a_modelfile_sets_the_window() -> None:
    content = told("ollama", "runtime/Modelfile")
    assert content.startswith("FROM /opt/agentrig/current/artefacts/llm/full-Q4_K_M.gguf\nPARAMETER num_ctx 8192\n")
    assert "PARAMETER repeat_penalty 1.05" in content


def test_a_template_that_ollama_cannot_read_is_refused() -> None:
    rows = with_row(member="x.gguf", chat_template={"ollama": "smollm2-tools.jinja"})
    with pytest.raises(CatalogError, match="reads Go's templates only"):
        parts_of(deployment_of("ollama"), rows)


@pytest.mark.parametrize("runtime", OURS)
def test_weights_that_are_a_pickle_are_refused(runtime: str) -> None:
    deployment = deployment_of(runtime, kv_dtype="auto")
    llm = deployment.llm
    bad = LlmQuant(
        quant=deployment.quant,
        weights_bytes=1,
        files=(WeightFile(origin="hub", repository="a/b", member="pytorch_model.bin"),),
        source="hand-written",
    )
    rows = ROWS.model_copy(update={"llms": ROWS.llms | {llm: ROWS.llms[llm].model_copy(update={"quants": (bad,)})}})
    with pytest.raises(CatalogError, match="a pickle runs code"):
        parts_of(deployment, rows)


@pytest.mark.parametrize("runtime", OURS)
def test_no_secret_is_in_an_argument_or_in_the_unit(runtime: str) -> None:
    deployment = deployment_of(runtime, kv_dtype="auto")
    parts = parts_of(deployment, ROWS)
    assert not [word for word in (*parts.argv, *parts.environment.values()) if "secret:" in word]
    for file in render(deployment.model_copy(update={"agents": ()}), ROWS).files:
        assert not file.path.startswith("units/") or not file.secrets


def test_an_endpoint_elsewhere_without_an_address_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="does not say where it is"):
        parts_of(GGUF.model_copy(update={"runtime": "external"}), ROWS)


def test_an_llm_in_parts_is_opened_by_its_first(tmp_path: Path) -> None:
    rows = with_row(member="big-*.gguf")
    parts = parts_of(deployment_of("llama_cpp"), rows)
    script = next(file for file in parts.files if file.path == "runtime/first-part")
    for number in (2, 1, 3):
        (tmp_path / f"big-0000{number}-of-00003.gguf").touch()
    start = tmp_path / "start"
    start.write_text(script.content.replace("/opt/agentrig/current/artefacts/llm", str(tmp_path)))
    done = subprocess.run(["/bin/sh", start, "echo", "--jinja"], capture_output=True, text=True, check=True)
    assert done.stdout == f"-m {tmp_path}/big-00001-of-00003.gguf --jinja\n"
    for file in tmp_path.glob("*.gguf"):
        file.unlink()
    assert subprocess.run(["/bin/sh", start, "echo"], capture_output=True, check=False).returncode == 2


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
@pytest.mark.parametrize("runtime", OURS)
def test_a_unit_is_exposed_at_most_to_3(runtime: str, tmp_path: Path) -> None:
    for file in render(deployment_of(runtime, kv_dtype="auto"), ROWS).files:
        if file.path.startswith("units/"):
            path = tmp_path / file.path.removeprefix("units/")
            path.write_text(file.content)
            words = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(path)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-200:] + done.stderr


class OllamaStandIn(BaseHTTPRequestHandler):
    """A stand-in: the few paths of Ollama's API that an import takes; it refuses a blob that is not there."""

    store: Path
    made: dict[str, Any]

    def do_HEAD(self) -> None:
        held = (self.store / "blobs" / self.path.rsplit("/", 1)[-1].replace(":", "-")).exists()
        self.send_response(200 if held else 404)
        self.end_headers()

    def do_GET(self) -> None:
        self._say({"models": [{"name": f"{name}:latest"} for name in self.made]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/create":
            self.made[body["model"]] = body
            self._say({"status": "success"})
        else:
            parameters = self.made[body["model"]]["parameters"]
            self._say({"parameters": "\n".join(f"{name} {value}" for name, value in parameters.items())})

    def _say(self, document: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode() + b"\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[tuple[str, type[OllamaStandIn]]]:
    handler = type("Handler", (OllamaStandIn,), {"store": tmp_path / "store", "made": {}})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def bring_in(address: str, tmp_path: Path, modelfile: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "Modelfile").write_text(modelfile)
    script = data("templates") / "runtimes" / "ollama_import.py"
    words = [sys.executable, "-I", "-B", str(script), address, "tiny", str(tmp_path / "Modelfile")]
    return subprocess.run([*words, str(tmp_path / "store")], capture_output=True, text=True, check=False)


def test_ollama_is_given_the_file_by_its_digest_once(stand_in: Any, tmp_path: Path) -> None:
    address, handler = stand_in
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(b"weights")
    text = f"FROM {weights}\nPARAMETER num_ctx 8192\nPARAMETER temperature 0.5\n"
    assert bring_in(address, tmp_path, text).stderr == ""
    digest = hashlib.sha256(b"weights").hexdigest()
    assert (tmp_path / "store" / "blobs" / f"sha256-{digest}").resolve() == weights
    assert handler.made["tiny"]["files"] == {"tiny.gguf": f"sha256:{digest}"}
    assert handler.made["tiny"]["parameters"] == {"num_ctx": 8192, "temperature": 0.5}
    handler.made["tiny"] = {}
    assert bring_in(address, tmp_path, text).returncode == 0
    assert handler.made["tiny"] == {}
    assert bring_in(address, tmp_path, text.replace("8192", "4096")).returncode == 0
    assert handler.made["tiny"]["parameters"]["num_ctx"] == 4096


def test_an_import_without_its_file_says_so(stand_in: Any, tmp_path: Path) -> None:
    done = bring_in(stand_in[0], tmp_path, f"FROM {tmp_path}/absent.gguf\n")
    assert (done.returncode, "absent.gguf" in done.stderr) == (1, True)
