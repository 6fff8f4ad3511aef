from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest

from orchestrator.lock import gguf as reading
from orchestrator.lock import gguf_config, safetensors
from orchestrator.lock.gguf import Lying
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.tensors import parameters
from orchestrator.plan.weights import GGML_BITS
from tests.unit.hub_stand_in import F16, F32, Q4_K, gguf, keys, size_of, tensors
from tests.unit.hub_stand_in import safetensors as plain_file


def read(content: bytes, size: int | None = None) -> reading.Header:
    return reading.read(io.BytesIO(content).read, len(content) if size is None else size)


def test_header_gives_exact_bytes_types_and_architecture() -> None:
    header = read(gguf())
    carried = tensors()
    assert header.bytes == sum(size_of(*one) for one in carried.values())
    assert header.types == {"Q4_K": 14, "F32": 2, "F16": 1, "Q6_K": 1}
    assert header.layer_bits == 4.5
    config = gguf_config.configuration(header)
    assert config == {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "max_position_embeddings": 32768,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 512,
        "tie_word_embeddings": False,
    }
    # The final norm is all that a count by layers leaves out, and the norms that this file lacks what it adds.
    assert abs(parameters(shape_of(config)) - header.elements) <= 4 * 256


def test_no_byte_of_the_weights_is_read() -> None:
    content = gguf()
    source = io.BytesIO(content)
    header = reading.read(source.read, len(content))
    assert source.tell() <= len(content) - header.bytes


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9])
def test_a_header_that_is_cut_off_is_refused(share: float) -> None:
    content = gguf()
    head = content[: len(content) - read(content).bytes - 64]
    with pytest.raises(Lying):
        read(head[: int(len(head) * share)])
    with pytest.raises(Lying, match=r"cut off"):
        reading.read(io.BytesIO(head[: int(len(head) * 0.9)]).read, len(content))


def test_weights_that_are_cut_off_are_refused() -> None:
    with pytest.raises(Lying, match=r"its tensors end at byte \d+ and the file has \d+"):
        read(gguf()[:-4096])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + bytes(64), "no GGUF"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(64), "version"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version is 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 0), "counts 1099511627776 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 60), "cut off"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<QcI", 1, b"a", 99), "type 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<QcIIQ", 1, b"a", 9, 4, 1 << 61), "cut off"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<QcIIQ", 1, b"a", 9, 9, 1), "a list is of the type 9"),
        (gguf(keys(general__alignment=33)), "aligns"),
        (gguf() + bytes(2 << 20), "goes on to"),
    ],
)
def test_a_header_that_says_what_cannot_be_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(Lying, match=said):
        read(content)


def patched(name: str, offset: int, value: bytes) -> bytes:
    """Change bytes of a tensor's entry, counted from the end of its name."""
    content = bytearray(gguf())
    start = content.index(name.encode()) + len(name) + offset
    content[start : start + len(value)] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (patched("blk.0.attn_q.weight", 0, struct.pack("<I", 77)), "has 77 widths"),
        (patched("blk.0.attn_q.weight", 4, struct.pack("<Q", 100)), "cannot be kept as Q4_K"),
        (patched("blk.0.attn_q.weight", 4, struct.pack("<Q", 1 << 50)), "where it cannot be|its tensors end"),
        (patched("blk.0.attn_q.weight", 20, struct.pack("<I", 31)), "type 31"),
        (patched("blk.0.attn_q.weight", 24, struct.pack("<Q", 0)), "where it cannot be"),
        (patched("blk.0.attn_q.weight", -19, b"blk.1.attn_q.weight"), "names a tensor twice"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(Lying, match=said):
        read(content)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"llama__block_count": 80}, "says 80 layers and carries 2"),
        ({"llama__block_count": 4_000_000_000}, "says 4000000000 layers and carries 2"),
        ({"llama__embedding_length": 8192}, "width of 8192"),
        ({"llama__attention__head_count_kv": 1}, "1 key-value heads of 64 and its keys are 128 wide"),
    ],
)
def test_numbers_that_the_tensors_contradict_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Lying, match=said):
        gguf_config.configuration(read(gguf(keys(**changes))))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"general__architecture": "mamba9"}, "mamba9"),
        ({"llama__attention__head_count_kv": [2, 1]}, "differ from layer to layer"),
        ({"llama__attention__value_length": 32}, "unequal width"),
    ],
)
def test_an_architecture_that_a_header_does_not_tell_is_not_guessed(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gguf_config.Strange, match=said):
        gguf_config.configuration(read(gguf(keys(**changes))))


def test_numbers_that_stand_for_each_layer_count_where_all_are_the_same() -> None:
    header = read(gguf(keys(llama__attention__head_count_kv=[2, 2], llama__feed_forward_length=[512, 512])))
    config = gguf_config.configuration(header)
    assert (config["num_key_value_heads"], config["intermediate_size"]) == (2, 512)


def test_parts_of_a_split_file_are_one() -> None:
    all_of_it = list(tensors().items())
    first = keys(split__no=0, split__count=2, split__tensors__count=len(all_of_it))
    rest = {"split.no": 1, "split.count": 2, "split.tensors.count": len(all_of_it)}
    parts = [read(gguf(first, dict(all_of_it[:5]))), read(gguf(rest, dict(all_of_it[5:])))]
    assert reading.joined(parts[::-1]).bytes == read(gguf()).bytes
    assert gguf_config.configuration(reading.joined(parts))["num_hidden_layers"] == 2
    with pytest.raises(Lying, match="1 parts are there and the headers say 2"):
        reading.joined(parts[:1])
    with pytest.raises(Lying, match="2 parts are there"):
        reading.joined([parts[0], parts[0]])


TWO = {"a": ("BF16", [4, 8], 64), "b": ("F8_E4M3", [16], 16)}


def test_a_safetensors_header_gives_bytes_and_elements_by_type() -> None:
    content = plain_file(TWO)
    header = safetensors.read(io.BytesIO(content).read, len(content))
    assert (header.bytes, dict(header.elements)) == (80, {"BF16": 32, "F8_E4M3": 16})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x01", "cut off"),
        (plain_file(TWO)[:40], "would be"),
        (plain_file(TWO)[:-1], "its tensors end"),
        (plain_file(TWO) + b"x", "its tensors end"),
        (struct.pack("<Q", 1 << 62) + bytes(64), "would be"),
        (struct.pack("<Q", 8) + b"not JSON", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "no table"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
        (plain_file({"a": ("BF16", [4, 9], 64)}), "cannot be"),
        (plain_file({"a": ("B1", [4], 64)}), "type B1"),
        (plain_file({"a": ("BF16", [-4, -8], 64)}), "cannot be"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "lacks its type"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(Lying, match=said):
        safetensors.read(io.BytesIO(content).read, len(content))


def test_an_index_counts_where_the_files_are_as_large_as_it_says() -> None:
    def index(total: Any, **files: str) -> str:
        return json.dumps({"metadata": {"total_size": total}, "weight_map": files})

    sizes = {"one": 600_000_000, "two": 400_100_000}
    assert safetensors.indexed(index(1_000_000_000, a="one", b="two"), sizes) == (("one", "two"), 1_000_000_000)
    for total in (500_000_000, 2_000_000_000, -1, "much", None, True):
        assert safetensors.indexed(index(total, a="one", b="two"), sizes) == (("one", "two"), None)
    for text, said in ((index(1, a="three"), "three"), (index(1), "no file"), ("[]", "no index"), ("{", "no index")):
        with pytest.raises(Lying, match=said):
            safetensors.indexed(text, sizes)


def test_blocks_hold_as_many_bits_as_the_planner_counts() -> None:
    for name, weights, size in reading.TYPES.values():
        if name in GGML_BITS:
            assert 8 * size / weights == GGML_BITS[name], name
    assert {F16, F32, Q4_K} <= set(reading.TYPES)
