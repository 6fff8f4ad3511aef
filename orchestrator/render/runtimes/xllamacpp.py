"""llama.cpp's server out of the package xllamacpp, behind our launcher that takes llama-server's own flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.render.runtimes.llama_cpp import PACKAGES, processor_environment, server_flags
from orchestrator.render.runtimes.shared import (
    RUNTIME_ARTEFACT,
    RUNTIME_KEY,
    RuntimeParts,
    chat_template,
    one_file,
    safe_weights,
    start_timeout,
)
from orchestrator.render.texts import verbatim
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment

LAUNCHER = "runtime/llama-server"


def build(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how the launcher is started; raises UsageError for a cache type that llama.cpp lacks."""
    row = catalog.llms[deployment.llm]
    safe_weights(row, deployment.quant)
    launcher = RenderedFile(path=LAUNCHER, content=verbatim("runtimes/xllamacpp_launcher.py"), mode="0755")
    return RuntimeParts(
        argv=(
            *(f"{RUNTIME_ARTEFACT}/bin/python", "-I", "-B", f"{CURRENT}/{LAUNCHER}"),
            *("-m", one_file(row, deployment.quant)),
            *server_flags(deployment, row),
        ),
        environment=processor_environment(deployment),
        credentials={"runtime_key": f"{RUNTIME_KEY}\n"},
        files=(launcher, *chat_template(row, deployment.runtime)),
        packages=PACKAGES,
        start_timeout_seconds=start_timeout(row.quant(deployment.quant).weights_bytes),
    )
