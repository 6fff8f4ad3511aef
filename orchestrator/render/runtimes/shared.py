"""What a runtime's builder returns, and what several builders need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import CatalogError, UsageError
from orchestrator.nouns import Noun
from orchestrator.render.texts import verbatim
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.catalog.rows import LlmRow
    from orchestrator.deployment import Deployment

RUNTIME_ARTEFACT = f"{CURRENT}/artefacts/runtime"
LLM_ARTEFACT = f"{CURRENT}/artefacts/llm"

#: systemd's specifier for the folder of a unit's credentials; read by the unit, never by a shell.
CREDENTIALS = "%d"
RUNTIME_KEY = "{{secret:runtime_key}}"

#: Seconds that a runtime may need before it reads its first byte of weights.
BASE_START_SECONDS = 120
#: MiB of weights a second that a slow disk still gives: a SATA drive with a margin.
SLOW_DISK_MIB_A_SECOND = 200


class RuntimeParts(Noun):
    """How one runtime is started: what its unit runs, with what environment, beside which files."""

    argv: tuple[str, ...]
    environment: dict[str, str] = {}
    #: Environment with secrets in it: goes into a file that only root reads.
    secret_environment: dict[str, str] = {}
    #: Credentials by name, handed over by systemd's ``LoadCredential``.
    credentials: dict[str, str] = {}
    files: tuple[RenderedFile, ...] = ()
    #: apt packages that the started program itself needs, beside those that its row installs it with.
    packages: tuple[str, ...] = ()
    uses_gpus: bool = False
    #: True where the runtime compiles code while it runs, so memory must be allowed to become executable.
    makes_code: bool = False
    #: True where it needs a folder of its own that outlives a restart.
    needs_home: bool = False
    start_timeout_seconds: int


def gpu_environment(deployment: Deployment) -> dict[str, str]:
    """Give the environment by which CUDA counts cards as the deployment does; nothing without cards."""
    if not deployment.gpus:
        return {}
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if deployment.gpu_indices:
        order["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in deployment.gpu_indices)
    return order


def weight_file(row: LlmRow, quant: str) -> str:
    """Give the path on the host of the one file, or first part, that a runtime opens; raises CatalogError."""
    names = sorted(file.member.rsplit("/", 1)[-1] for file in row.quant(quant).files)
    if any(sign in names[0] for sign in "*?["):
        raise CatalogError(
            f"{row.name} {quant} names its weights by the pattern {names[0]}, and this runtime opens one file",
            where="catalog/llms",
            do="name the file, or the first of its parts, in the row",
        )
    return f"{LLM_ARTEFACT}/{names[0]}"


def chat_template(row: LlmRow, runtime: str) -> tuple[RenderedFile, ...]:
    """Give the chat template that the llm's row sets for a runtime as a file of the release, or nothing."""
    name = row.chat_template.get(runtime)
    if name is None:
        return ()
    return (RenderedFile(path="runtime/chat-template.jinja", content=verbatim(f"runtimes/{name}")),)


def kv_type(deployment: Deployment, known: Mapping[str, str]) -> str:
    """Give a runtime's own word for the deployment's cache type; raises UsageError for one that it lacks."""
    word = known.get(deployment.kv_dtype)
    if word is None:
        raise UsageError(
            f"{deployment.runtime} has no cache type {deployment.kv_dtype}",
            where=f"deployment of {deployment.host}",
            do="choose one of " + ", ".join(sorted(known)),
        )
    return word


def start_timeout(weights_bytes: int, base: int = BASE_START_SECONDS) -> int:
    """Give the seconds until a runtime must answer: a base, and reading the weights from a slow disk."""
    return base + weights_bytes // 2**20 // SLOW_DISK_MIB_A_SECOND
