"""One builder for each runtime: a new runtime is a row, a builder, a golden case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.render.runtimes import (
    exllama,
    external,
    llama_cpp,
    ollama,
    sglang,
    tensorrt_llm,
    vllm,
    xllamacpp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment
    from orchestrator.render.runtimes.shared import RuntimeParts

BUILDERS: dict[str, Callable[[Deployment, Catalog], RuntimeParts]] = {
    "exllama": exllama.build,
    "external": external.build,
    "llama_cpp": llama_cpp.build,
    "ollama": ollama.build,
    "sglang": sglang.build,
    "tensorrt_llm": tensorrt_llm.build,
    "vllm": vllm.build,
    "xllamacpp": xllamacpp.build,
}


def parts_of(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how the deployment's runtime is started; raises UsageError, CatalogError for what it cannot be told."""
    builder = BUILDERS.get(deployment.runtime)
    if builder is None:
        raise UsageError(
            f"the runtime {deployment.runtime} has a row in the catalog and no builder yet",
            where=f"deployment of {deployment.host}",
            do="choose one of " + ", ".join(sorted(BUILDERS)),
        )
    return builder(deployment, catalog)
