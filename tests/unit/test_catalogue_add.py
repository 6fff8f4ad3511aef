"""``deploy catalog add`` against a stand-in for a hub on 127.0.0.1; no other address is ever asked."""

from __future__ import annotations

import json
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from orchestrator.catalog.loader import load
from orchestrator.catalog.rows import WeightFile
from orchestrator.cli.root import run
from orchestrator.lock import Store
from orchestrator.lock.wanted import Target, Weights
from orchestrator.lock.weights import resolve_weights
from tests.unit import lock_stand_ins
from tests.unit.hub_stand_in import COMMIT, Q4_K, Q8_0, Hub, gguf, keys, safetensors, serving, tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: A ``config.json`` as the repository of a dense 32B llm has it.
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "initializer_range": 0.02,
    "intermediate_size": 27648,
    "max_position_embeddings": 32768,
    "max_window_layers": 70,
    "model_type": "qwen2",
    "num_attention_heads": 40,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 152064,
}
TOTAL = 65_527_752_704
SHARDS = [f"model-{number:05d}-of-00014.safetensors" for number in range(1, 15)]
GENERATION = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
SMALL_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
#: Elements of that configuration's matrices.
SMALL = 256 * 64 + (64 * 64 * 2 + 32 * 64 * 2) + 3 * 64 * 128


def dense(**config: Any) -> dict[str, bytes | int]:
    """Give the files of a repository in safetensors; the shards are listed and not served."""
    index = {"metadata": {"total_size": TOTAL}, "weight_map": {f"layer {one}": one for one in SHARDS}}
    return {
        "config.json": json.dumps(CONFIG | config).encode(),
        "generation_config.json": json.dumps(GENERATION).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "README.md": b"not asked for",
        **dict.fromkeys(SHARDS, TOTAL // 14 + 3000),
    }


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")


class Desk:
    """Serves a repository until the test ends, and asks for it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.capsys, self.monkeypatch, self.stack = capsys, monkeypatch, stack

    def serve(self, files: Mapping[str, bytes | int], name: str = "maker/Large-Coder", **about: Any) -> Hub:
        served = self.stack.enter_context(serving(Hub(name, files, **about)))
        self.monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        return served

    def add(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        assert run(["catalog", "add", *arguments, "--json"]) == code
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        if code:
            lines = [line for line in said.err.splitlines() if "reading the header" not in line]
            assert len(lines) <= 2, said.err
            assert not list(Path().glob("llms/*")), "nothing is half-written"
        document = json.loads(said.out)
        assert isinstance(document, dict)
        return document


@pytest.fixture
def desk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with ExitStack() as stack:
        yield Desk(capsys, monkeypatch, stack)


def test_a_repository_in_safetensors_becomes_a_row(desk: Desk) -> None:
    served = desk.serve(dense(), cardData={"license": "apache-2.0"}, gated=False)
    document = desk.add("maker/Large-Coder")
    row = load(None, Path("llms")).llms["large-coder"]
    assert row.document() == document["row"]
    assert (row.repository, row.licence, row.gated) == ("maker/Large-Coder", "Apache-2.0", False)
    assert (row.parameters, row.active_parameters, row.max_context_tokens) == (32.76, None, 32768)
    assert row.agentic_class == "floor"
    assert row.evidence.startswith("not measured; by size")
    assert row.sampling == {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    (quant,) = row.quants
    assert (quant.quant, quant.weights_bytes) == ("BF16", TOTAL)
    assert [one.member for one in quant.files] == ["model-*-of-00014.safetensors"]
    assert COMMIT in row.source
    assert COMMIT in quant.source
    assert document["added"] == {"name": "large-coder", "file": str(Path.cwd() / "llms/large-coder.yml")} | {
        "revision": COMMIT
    }
    assert any("tool_parser" in one for one in document["left_out"])
    assert not [path for path, _ in served.asked if path.endswith(".safetensors")], "no weight is read"


def test_an_added_row_is_planned_by_its_name(desk: Desk) -> None:
    desk.serve(dense(quantization_config={"quant_method": "awq", "bits": 4}))
    desk.add("maker/Large-Coder", "--name", "mine")
    cards = ["--gpu", "H100 80GB", "--gpu", "H100 80GB", "--ram", "65536"]
    assert run(["plan", "--profile", "auto", "--llm", "mine", *cards, "--json"]) == 0
    chosen = json.loads(desk.capsys.readouterr().out)["deployment"]
    assert (chosen["llm"], chosen["quant"], chosen["runtime"]) == ("mine", "AWQ-INT4", "vllm")
    assert run(["catalog", "check", "--json"]) == 0
    assert "mine" in {one["llm"] for one in json.loads(desk.capsys.readouterr().out)["plans"]}


def test_a_gguf_repository_is_read_from_its_headers(desk: Desk) -> None:
    served = desk.serve(
        {
            "tiny-Q4_K_M.gguf": gguf(),
            "Q8_0/tiny-Q8_0-00001-of-00002.gguf": gguf(
                keys(split__no=0, split__count=2), dict(list(tensors(kind=Q8_0).items())[:6])
            ),
            "Q8_0/tiny-Q8_0-00002-of-00002.gguf": gguf(
                {"split.no": 1, "split.count": 2}, dict(list(tensors(kind=Q8_0).items())[6:])
            ),
            "tiny-IQ1_S.gguf": gguf(),
            "mmproj-F16.gguf": b"a tower for pictures",
        },
        "maker/Tiny-GGUF",
    )
    document = desk.add("maker/Tiny-GGUF")
    row = load(None, Path("llms")).llms["tiny"]
    assert {one.quant for one in row.quants} == {"Q4_K_M", "Q8_0"}
    assert row.quant("Q8_0").files[0].member == "Q8_0/tiny-Q8_0-*-of-00002.gguf"
    assert row.quant("Q8_0").weights_bytes > row.quant("Q4_K_M").weights_bytes
    assert "14 Q4_K" in row.quant("Q4_K_M").source
    assert (row.config["num_key_value_heads"], row.config["vocab_size"]) == (2, 512)
    assert row.licence == "MIT"
    assert row.agentic_class == "completion"
    assert any("IQ1_S" in one for one in document["left_out"])
    ranged = [ranged for path, ranged in served.asked if path.endswith(".gguf")]
    assert len(ranged) == 3
    assert all(one.startswith("bytes=0-") for one in ranged)


@pytest.mark.parametrize("ranges", [True, False])
def test_weights_stay_where_they_are(desk: Desk, *, ranges: bool) -> None:
    """A hub that gives no ranges, and whose file is much larger than its header, is left after the header."""
    carried = tensors() | {"blk.0.ffn_exps.weight": ((4096, 10000), Q4_K)}
    served = desk.serve({"tiny-Q4_K_M.gguf": gguf(carried=carried)}, "maker/tiny")
    served.without_ranges = not ranges
    assert "its files hold 0.042" in desk.add("maker/tiny", code=2)["error"]["what"]
    assert served.sent < 16 << 20


def test_without_an_index_the_headers_are_read(desk: Desk) -> None:
    content = safetensors({"all": ("BF16", [SMALL], 2 * SMALL)})
    desk.serve({"config.json": json.dumps(SMALL_CONFIG).encode(), "model.safetensors": content}, "maker/small")
    row = desk.add("maker/small", "--revision", "v1")["row"]
    assert row["quants"][0]["weights_bytes"] == 2 * SMALL
    assert row["quants"][0]["files"][0] | {"revision": None, "member": None} == {
        "origin": "hub",
        "package": None,
        "version": None,
        "repository": "maker/small",
        "revision": None,
        "member": None,
        "sha256": None,
    }
    assert row["quants"][0]["files"][0]["revision"] == "v1"
    assert row["licence"] == "not stated"


def test_an_index_that_the_files_contradict_is_not_believed(desk: Desk) -> None:
    content = safetensors({"all": ("BF16", [SMALL], 2 * SMALL)})
    index = {"metadata": {"total_size": 64 << 30}, "weight_map": {"all": "model.safetensors"}}
    desk.serve(
        {
            "config.json": json.dumps(SMALL_CONFIG).encode(),
            "model.safetensors": content,
            "model.safetensors.index.json": json.dumps(index).encode(),
        },
        "maker/small",
    )
    (quant,) = desk.add("maker/small")["row"]["quants"]
    assert quant["weights_bytes"] == 2 * SMALL
    assert quant["source"].startswith("headers")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "deepseek_v4"}, "lacks compress_ratios"),
        ({"model_type": "frobnicate"}, "frobnicate is not understood"),
        ({"num_hidden_layers": None}, "num_hidden_layers"),
        ({"num_hidden_layers": -4}, "num_hidden_layers"),
        ({"num_key_value_heads": 7}, "do not share"),
        ({"vocab_size": None}, "vocab_size"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"quantization_config": {"quant_method": "quip", "bits": 2}}, "quip"),
        ({"torch_dtype": "float32"}, "float32"),
    ],
)
def test_what_the_planner_does_not_understand_is_refused(desk: Desk, config: dict[str, Any], said: str) -> None:
    desk.serve(dense(**config))
    error = desk.add("maker/Large-Coder", code=2)["error"]
    assert error["kind"] == "catalog"
    assert said in error["what"]
    assert error["do"]


@pytest.mark.parametrize(
    ("path", "content", "code", "said"),
    [
        ("config.json", b"[1]", 1, "config.json is no JSON object"),
        ("config.json", b"{", 1, "config.json is no JSON object"),
        ("config.json", 9 << 30, 1, "bytes long"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "gone.safetensors"}}', 1, "gone.safetensors"),
        ("Large-Q4_K_M.gguf", gguf()[:2000], 1, "Large-Q4_K_M.gguf is refused"),
        ("Large-Q4_K_M.gguf", b"PK" + bytes(100), 1, "no GGUF"),
        ("Large-Q4_K_M.gguf", gguf(), 2, "its configuration describes 32.8 billion weights"),
    ],
)
def test_a_file_that_lies_is_refused_by_name(desk: Desk, path: str, content: bytes | int, code: int, said: str) -> None:
    desk.serve(dense() | {path: content})
    error = desk.add("maker/Large-Coder", code=code)["error"]
    assert said in error["what"]
    assert COMMIT[:12] in error["where"]


def test_a_file_named_after_another_quantisation_is_left_out(desk: Desk) -> None:
    desk.serve({"tiny-Q8_0.gguf": gguf(), "tiny-Q4_K_M.gguf": gguf()}, "maker/tiny")
    document = desk.add("maker/tiny")
    assert [one["quant"] for one in document["row"]["quants"]] == ["Q4_K_M"]
    assert any("its layers have 4.50 bits" in one for one in document["left_out"])


def test_a_file_of_another_size_than_listed_is_refused(desk: Desk) -> None:
    served = desk.serve({"tiny-Q4_K_M.gguf": gguf()}, "maker/tiny")
    served.listed["tiny-Q4_K_M.gguf"] = 1 << 30
    assert "the hub lists 1073741824" in desk.add("maker/tiny", code=1)["error"]["what"]


@pytest.mark.parametrize(
    ("refusal", "path", "exit_code", "said"),
    [
        ((403, "GatedRepo"), r"/maker/.*", 2, "is gated"),
        ((401, "GatedRepo"), r".*", 2, "is gated"),
        ((404, "RepoNotFound"), r".*", 2, "knows no maker/Large-Coder"),
        ((404, "RevisionNotFound"), r".*/revision/.*", 2, "no such revision"),
        ((401, ""), r".*", 2, "HTTP 401"),
        ((403, ""), r"/maker/.*", 2, "HTTP 403"),
        ((500, ""), r".*", 1, "HTTP 500"),
    ],
)
def test_a_hub_that_refuses_is_told(desk: Desk, refusal: tuple[int, str], path: str, exit_code: int, said: str) -> None:
    served = desk.serve(dense())
    served.refusal, served.refused = refusal, re.compile(path)
    error = desk.add("maker/Large-Coder", code=exit_code)["error"]
    assert said in error["what"]
    assert error["do"]


def test_a_hub_out_of_reach_is_one_line(desk: Desk) -> None:
    error = desk.add("maker/Large-Coder", code=1)["error"]
    assert error["what"].startswith("the hub was not reached")
    assert "HF_ENDPOINT" in error["do"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-slash"], "no repository"),
        (["../etc/passwd"], "no repository"),
        (["maker/x", "--name", "../x"], "cannot be a name"),
        (["maker/Phi-4"], "there is a row phi-4 already"),
        (["Qwen/Qwen2.5-Coder-32B-Instruct"], "qwen2.5-coder-32b answers to that already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_asked(desk: Desk, arguments: list[str], said: str) -> None:
    served = desk.serve(dense())
    assert said in desk.add(*arguments, code=2)["error"]["what"]
    assert served.asked == []


def test_a_row_is_replaced_only_when_told(desk: Desk) -> None:
    desk.serve(dense())
    desk.add("maker/Large-Coder")
    before = Path("llms/large-coder.yml").read_bytes()
    edited = before + b"note: mine\n"
    Path("llms/large-coder.yml").write_bytes(edited)
    assert run(["catalog", "add", "maker/Large-Coder"]) == 2
    assert "--yes" in desk.capsys.readouterr().err
    assert Path("llms/large-coder.yml").read_bytes() == edited
    desk.add("maker/Large-Coder", "--yes")
    assert Path("llms/large-coder.yml").read_bytes() == before


def test_the_row_lies_beside_the_inventory(desk: Desk) -> None:
    Path("fleet").mkdir()
    Path("fleet/hosts.yml").write_text("all: {hosts: {one: {}}}\n", encoding="utf-8")
    desk.serve(dense())
    desk.add("maker/Large-Coder", "-i", "fleet/hosts.yml")
    assert [str(path) for path in Path().rglob("large-coder.yml")] == ["fleet/llms/large-coder.yml"]
    assert run(["catalog", "show", "Large-Coder"]) == 2
    assert run(["catalog", "show", "Large-Coder", "-i", "fleet/hosts.yml"]) == 0


def test_experts_count_by_those_that_are_chosen(desk: Desk) -> None:
    experts = {"model_type": "qwen3_moe", "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    sizes = {"num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4}
    desk.serve(dense(**experts, **sizes, head_dim=128, vocab_size=151936, architectures=["Qwen3MoeForCausalLM"]))
    row = desk.add("maker/Large-Coder")["row"]
    assert row["parameters"] == 30.53
    assert 3.2 < row["active_parameters"] < 3.5


def test_size_alone_gives_no_class_above_the_floor(desk: Desk) -> None:
    desk.serve(dense(num_hidden_layers=200))
    row = desk.add("maker/Large-Coder")["row"]
    assert row["parameters"] > 90
    assert row["agentic_class"] == "floor"


def test_a_configuration_with_a_text_part_gives_the_text_s_numbers(desk: Desk) -> None:
    text = CONFIG | {"model_type": "mistral"}
    vision = {"model_type": "pixtral", "num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096}
    whole = {"model_type": "mistral3", "text_config": text, "vision_config": vision, "torch_dtype": "bfloat16"}
    desk.serve(dense() | {"config.json": json.dumps(whole).encode()})
    config = desk.add("maker/Large-Coder")["row"]["config"]
    assert (config["model_type"], config["num_hidden_layers"]) == ("mistral", 64)
    assert config["vision_config"] == {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096}


def test_a_token_is_in_no_file_and_no_line(desk: Desk) -> None:
    desk.monkeypatch.setenv("HF_TOKEN", "hf_not_a_real_token")
    desk.serve(dense())
    assert run(["catalog", "add", "maker/Large-Coder", "-v"]) == 0
    said = desk.capsys.readouterr()
    assert "hf_not" not in said.out + said.err + Path("llms/large-coder.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(Path("llms/large-coder.yml").read_text(encoding="utf-8"))["repository"] == "maker/Large-Coder"


def test_the_lock_takes_the_revision_that_the_row_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = WeightFile(origin="hub", repository="maker/large", revision="v1", member="*.safetensors")
    with lock_stand_ins.serving({"model.safetensors": b"weights"}) as mirror:
        monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
        found = resolve_weights(
            Weights("large", "FP8", (file,)), Target("3.11.2", "x86_64", (2, 36)), Store(tmp_path / "store")
        )
        asked = [path for path in mirror.asked if "/revision/" in path]
    assert found.top.version == lock_stand_ins.COMMIT
    assert found.top.source == "llm:large FP8 of maker/large@v1: *.safetensors"
    assert asked
    assert all("/revision/v1" in path for path in asked)


def test_an_inventory_that_is_not_there_is_refused(desk: Desk) -> None:
    served = desk.serve(dense())
    assert "nowhere/hosts.yml" in desk.add("maker/Large-Coder", "-i", "nowhere/hosts.yml", code=2)["error"]["what"]
    assert served.asked == []
