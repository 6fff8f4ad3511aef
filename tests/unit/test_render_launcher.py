"""The launcher that gives xllamacpp llama-server's flags: what it maps, and what it refuses."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.files import data
from orchestrator.render.runtimes import parts_of
from tests.unit.rendering import CATALOG, CPU

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.fixture(scope="module")
def launcher() -> ModuleType:
    path = data("templates") / "runtimes" / "xllamacpp_launcher.py"
    spec = importlib.util.spec_from_file_location("xllamacpp_launcher", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def params() -> Any:
    """Give a stand-in for CommonParams: the few parameters that these tests set."""
    return SimpleNamespace(
        model=SimpleNamespace(path=""),
        cpuparams=SimpleNamespace(n_threads=-1),
        cpuparams_batch=SimpleNamespace(n_threads=-1),
        sampling=SimpleNamespace(temp=0.8),
    )


def test_every_flag_that_is_rendered_is_mapped(launcher: ModuleType) -> None:
    flags = [word for word in parts_of(CPU, CATALOG).argv[4:] if word.startswith("-")]
    assert set(flags) <= launcher.VALUE_OF.keys() | launcher.SWITCH_OF.keys()


def test_flags_set_their_parameters(launcher: ModuleType, params: Any, tmp_path: Path) -> None:
    keys, template = tmp_path / "keys", tmp_path / "template"
    keys.write_text("# of the gateway\n\nfirst\n second \n")
    template.write_text("{{ messages }}")
    words = ["-m", "/x.gguf", "-a", "one,two", "-c", "4096", "-t", "3", "-ngl", "all", "--temp", "0.5", "--no-webui"]
    words += ["--metrics", "--fit", "off", "--host", "127.0.0.1", "--port", "9", "-to", "60"]
    launcher.configure(params, [*words, "--api-key-file", str(keys), "--chat-template-file", str(template)])
    assert params.model.path == "/x.gguf"
    assert params.model_alias == {"one", "two"}
    assert (params.n_ctx, params.n_gpu_layers, params.port, params.hostnames) == (4096, -2, 9, ["127.0.0.1"])
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.sampling.temp, params.ui, params.endpoint_metrics, params.fit_params) == (0.5, False, True, False)
    assert (params.timeout_read, params.timeout_write) == (60, 60)
    assert (params.api_keys, params.chat_template) == (["first", "second"], "{{ messages }}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lora", "x"], "--lora: this flag is not mapped"),
        (["--port=9"], "--port=9: this flag is not mapped"),
        (["stray"], "stray: this flag is not mapped"),
        (["--port"], "--port: a value is missing"),
        (["--port", "many"], "--port: 'many' is not a whole number"),
        (["--temp", "hot"], "--temp: 'hot' is not a number"),
        (["--fit", "maybe"], "--fit: 'maybe' is neither on nor off"),
        (["--api-key-file", "/nowhere/keys"], "--api-key-file: /nowhere/keys cannot be read"),
        (["--api-key-file", "/dev/null"], "--api-key-file: /dev/null holds no key"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(launcher: ModuleType, params: Any, words: list[str], message: str) -> None:
    with pytest.raises(launcher.FlagError) as refused:
        launcher.configure(params, words)
    assert str(refused.value).startswith(message)


def test_no_flag_is_mapped_twice(launcher: ModuleType) -> None:
    names = [name for names in (*launcher.VALUES, *launcher.SWITCHES) for name in names]
    assert sorted(names) == sorted(set(names))
