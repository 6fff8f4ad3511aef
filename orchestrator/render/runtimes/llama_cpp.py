"""llama.cpp's ``llama-server``: a Deployment and its rows -> argv, environment, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.render.runtimes.shared import (
    CHAT_TEMPLATE,
    CREDENTIALS,
    RUNTIME_ARTEFACT,
    RUNTIME_KEY,
    RuntimeParts,
    chat_template,
    first_part,
    gpu_environment,
    kv_type,
    safe_weights,
    start_timeout,
    weight_file,
)

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog, LlmRow
    from orchestrator.deployment import Deployment

#: Cache types of llama-server's ``-ctk`` and ``-ctv`` (its help at b11434), under the planner's names.
KV_TYPES = {
    "f32": "f32",
    "f16": "f16",
    "float16": "f16",
    "auto": "f16",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "q8_0": "q8_0",
    "q5_1": "q5_1",
    "q5_0": "q5_0",
    "q4_1": "q4_1",
    "q4_0": "q4_0",
    "iq4_nl": "iq4_nl",
}
#: Types that are no quantisation: only the others need flash attention.
PLAIN_KV_TYPES = frozenset({"f32", "f16", "bf16"})
#: ggml's threads are OpenMP's.
PACKAGES = ("libgomp1",)
#: More layers than any llm has: all of them on the cards.
ALL_LAYERS = "999"
#: The least verbosity at which it logs what it takes of the memory (tried: b11549 says nothing of it at 3, its own).
LOGS_MEMORY = "4"
#: Sampling keys of an llm's row -> llama-server's flags for its defaults.
SAMPLING_FLAGS = {
    "temperature": "--temp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repetition_penalty": "--repeat-penalty",
}


def build(deployment: Deployment, catalog: Catalog) -> RuntimeParts:
    """Give how llama-server is started; raises UsageError for a cache type that it lacks."""
    row = catalog.llms[deployment.llm]
    safe_weights(row, deployment.quant)
    program = (f"{RUNTIME_ARTEFACT}/llama-server", *server_flags(deployment, row))
    argv, finder = first_part(program, weight_file(row, deployment.quant))
    return RuntimeParts(
        argv=argv,
        environment=gpu_environment(deployment) | processor_environment(deployment),
        credentials={"runtime_key": f"{RUNTIME_KEY}\n"},
        files=(*finder, *chat_template(row, deployment.runtime)),
        uses_gpus=bool(deployment.gpus),
        makes_code=bool(deployment.gpus),
        packages=PACKAGES,
        start_timeout_seconds=start_timeout(row.quant(deployment.quant).weights_bytes),
    )


def processor_environment(deployment: Deployment) -> dict[str, str]:
    """Give the environment of an llm without cards: threads that wait for each other sleep (libgomp's manual).

    Spinning they took 8 s of processor time for a thousand tokens on a busy machine where one thread alone took 5.
    """
    return {"OMP_WAIT_POLICY": "passive"} if deployment.threads else {}


def server_flags(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    """Give llama-server's flags but the llm's file: how much memory it takes, how it talks, where it listens.

    ``-c`` is the whole cache, which the server divides by its slots. ``--fit off`` keeps it from changing what was
    planned, and ``--cache-ram 0`` from taking memory that the ledger does not count.
    """
    return (
        *("--alias", deployment.served_name),
        *("-c", str(deployment.context_tokens * deployment.slots), "-np", str(deployment.slots)),
        *_placement(deployment),
        *_cache(deployment),
        *("--fit", "off", "--cache-ram", "0", "--jinja"),
        *(("--chat-template-file", CHAT_TEMPLATE) if deployment.runtime in row.chat_template else ()),
        *_reasoning(deployment, row),
        *_drafting(deployment, row),
        *_sampling(row),
        *("--metrics", "--no-slots", "--no-webui", "--offline"),
        *("-lv", LOGS_MEMORY),
        *("--host", "127.0.0.1", "--port", str(deployment.runtime_port)),
        *("--api-key-file", f"{CREDENTIALS}/runtime_key"),
        *_threads(deployment),
    )


def _threads(deployment: Deployment) -> tuple[str, ...]:
    """Give the threads of an llm without cards: writing has half of the processors, reading a prompt has all.

    Threads that wait for each other at every token suffer from a busy machine; over a whole batch it is worth it
    (llama-server's help at b11434: ``-tb`` is ``-t`` where it is left out).
    """
    if not deployment.threads:
        return ()
    return ("-t", str(deployment.threads), "-tb", str(deployment.threads * 2))


def _reasoning(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    """Give how thoughts are taken out of an answer, where the llm's row says (``none``, ``deepseek``, ``auto``)."""
    word = row.reasoning_parser.get(deployment.runtime)
    return ("--reasoning-format", word) if word else ()


def _drafting(deployment: Deployment, row: LlmRow) -> tuple[str, ...]:
    """Give speculative decoding by the llm's own drafting head, as many tokens as its row says."""
    tokens = row.draft_tokens.get(deployment.runtime)
    return ("--spec-type", "draft-mtp", "--spec-draft-n-max", str(tokens)) if tokens else ()


def _placement(deployment: Deployment) -> tuple[str, ...]:
    if not deployment.gpus:
        return ("-ngl", "0")
    if len(deployment.gpus) == 1:
        return ("-ngl", ALL_LAYERS, "-sm", "none")
    return ("-ngl", ALL_LAYERS, "-sm", "row" if deployment.parallel.tensor > 1 else "layer")


def _cache(deployment: Deployment) -> tuple[str, ...]:
    word = kv_type(deployment, KV_TYPES)
    return ("-ctk", word, "-ctv", word, "-fa", "auto" if word in PLAIN_KV_TYPES else "on")


def _sampling(row: LlmRow) -> tuple[str, ...]:
    return tuple(
        word for key, flag in SAMPLING_FLAGS.items() if key in row.sampling for word in (flag, f"{row.sampling[key]:g}")
    )
