"""What a runtime's builder returns, and what several builders need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.errors import CatalogError, UsageError
from orchestrator.nouns import Noun
from orchestrator.render.texts import filled, verbatim
from orchestrator.rendered import CURRENT, RenderedFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.catalog.rows import LlmRow
    from orchestrator.deployment import Deployment

RUNTIME_ARTEFACT = f"{CURRENT}/artefacts/runtime"
LLM_ARTEFACT = f"{CURRENT}/artefacts/llm"

#: Where a runtime that keeps something between its starts keeps it; systemd's ``CacheDirectory`` of its unit.
HOME = "/var/cache/agentrig-runtime"
CHAT_TEMPLATE = f"{CURRENT}/runtime/chat-template.jinja"
FIRST_PART = "runtime/first-part"

#: systemd's specifier for the folder of a unit's credentials; read by the unit, never by a shell.
CREDENTIALS = "%d"
RUNTIME_KEY = "{{secret:runtime_key}}"

#: Ends of files that are Python pickles, or may be: reading one runs what it says (PyTorch's own warning).
PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")

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
    #: Where it is started; a runtime that reads files beside itself is started in its home.
    working_directory: str = "/"
    #: What its unit runs before it and after its start, as its own user.
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
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
    """Give the path on the host of the one file, or first part, that a runtime opens; it may be a shell pattern."""
    names = sorted(file.member.rsplit("/", 1)[-1] for file in row.quant(quant).files)
    return f"{LLM_ARTEFACT}/{names[0]}"


def is_pattern(path: str) -> bool:
    """Tell whether a path is a pattern: how many parts an llm comes in is known when it is fetched, not here."""
    return any(sign in path for sign in "*?[")


def one_file(row: LlmRow, quant: str) -> str:
    """Give the path of the llm's one file; raises CatalogError where it may come in parts."""
    path = weight_file(row, quant)
    if is_pattern(path):
        raise CatalogError(
            f"{row.name} {quant} names its weights by the pattern {path.rpartition('/')[2]}, and this runtime opens "
            "one file",
            where="catalog/llms",
            do="name the file in the row, or choose llama_cpp, which reads parts",
        )
    return path


def first_part(argv: tuple[str, ...], path: str) -> tuple[tuple[str, ...], tuple[RenderedFile, ...]]:
    """Give the argument list that opens an llm as ``-m PATH``, and the file that finds the first of its parts.

    Raises CatalogError for a pattern that a shell would read as something else.
    """
    if not is_pattern(path):
        return (argv[0], "-m", path, *argv[1:]), ()
    if set(path) & set(" \t\n\"'\\`$;&|<>(){}#~!"):
        raise CatalogError(f"{path} is no pattern of file names", where="catalog/llms", do="correct the llm's row")
    script = RenderedFile(path=FIRST_PART, content=filled("runtimes/first-part.sh.j2", pattern=path), mode="0755")
    return (f"{CURRENT}/{FIRST_PART}", *argv), (script,)


def safe_weights(row: LlmRow, quant: str) -> None:
    """Refuse weights that are a program in disguise; raises CatalogError."""
    for file in row.quant(quant).files:
        if file.member.lower().endswith(PICKLED):
            raise CatalogError(
                f"{row.name} {quant} comes as {file.member}: a pickle runs code when it is read, and is not served",
                where="catalog/llms",
                do="name its safetensors or its GGUF in the row",
            )


def compact(value: object) -> str:
    """Give a value as JSON on one line, keys sorted."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


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
