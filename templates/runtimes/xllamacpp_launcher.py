#!/opt/agentrig/current/artefacts/runtime/bin/python
"""Runs llama.cpp's HTTP server out of the package xllamacpp, under llama-server's own flag names.

Each flag is mapped to its parameter; one that is not mapped is refused (exit 2), so that nothing which was asked
for is dropped in silence. Exit 0 after SIGTERM or SIGINT, 1 when the server does not start or dies, 2 for a flag.
"""

from __future__ import annotations

import http.client
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    Apply = Callable[[Any, str], None]

#: Seconds between two looks at whether the server still listens.
LOOK_EVERY = 5.0
#: Seconds that a look waits: a server busy with a long prompt is slow, not dead.
LOOK_TIMEOUT = 4.0
#: Values of -ngl that are words in llama-server.
LAYER_WORDS = {"auto": -1, "all": -2}


class FlagError(Exception):
    """A flag or value that cannot be passed on."""


def package() -> ModuleType:
    """Give xllamacpp, loaded when it is needed: its library is large, and a wrong flag needs none of it."""
    return importlib.import_module("xllamacpp")


def say(text: str) -> None:
    """Tell the journal one line."""
    sys.stderr.write(f"llama-server: {text}\n")
    sys.stderr.flush()


def whole(text: str) -> int:
    """Read a whole number; raises FlagError."""
    try:
        return int(text)
    except ValueError:
        raise FlagError(f"{text!r} is not a whole number") from None


def number(text: str) -> float:
    """Read a number; raises FlagError."""
    try:
        return float(text)
    except ValueError:
        raise FlagError(f"{text!r} is not a number") from None


def text_of(path: str) -> str:
    """Read a text file; raises FlagError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise FlagError(f"{path} cannot be read: {error.strerror}") from None


def attribute(name: str, read: Callable[[str], Any] = str) -> Apply:
    """Give what sets the parameter ``name`` (``sampling.temp`` for one inside another) from a value."""
    *outer, last = name.split(".")

    def apply(params: Any, value: str) -> None:
        for part in outer:
            params = getattr(params, part)
        setattr(params, last, read(value))

    return apply


def member(kind: str, prefix: str, name: str, words: dict[str, str] | None = None) -> Apply:
    """Give what sets the parameter ``name`` to a member of xllamacpp's enumeration ``kind``."""

    def apply(params: Any, text: str) -> None:
        word = (words or {}).get(text.lower(), text).upper()
        members = getattr(package(), kind).__members__
        if prefix + word not in members:
            raise FlagError(f"{text!r} is not one of its values")
        setattr(params, name, members[prefix + word])

    return apply


def set_threads(params: Any, text: str) -> None:
    """Set the threads of generation and, as llama-server does, those of the prompt with them."""
    params.cpuparams.n_threads = whole(text)
    params.cpuparams_batch.n_threads = whole(text)


def set_timeout(params: Any, text: str) -> None:
    """Set the seconds that reading and writing may take."""
    params.timeout_read = params.timeout_write = whole(text)


def set_keys(params: Any, path: str) -> None:
    """Read the keys from a file: one a line, lines with a hash in front left out."""
    lines = (line.strip() for line in text_of(path).splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise FlagError(f"{path} holds no key")
    params.api_keys = keys


def set_alias(params: Any, text: str) -> None:
    """Set the names that the server answers to."""
    params.model_alias = {name.strip() for name in text.split(",") if name.strip()}


def layers(text: str) -> int:
    """Read a count of layers, or one of llama-server's words for it."""
    return LAYER_WORDS[text] if text in LAYER_WORDS else whole(text)


def on_or_off(text: str) -> bool:
    """Read ``on`` or ``off``; raises FlagError."""
    if text not in {"on", "off"}:
        raise FlagError(f"{text!r} is neither on nor off")
    return text == "on"


FLASH = {"on": "enabled", "off": "disabled", "auto": "auto"}

#: Flags with a value: their names -> what sets the parameter from it.
VALUES: dict[tuple[str, ...], Apply] = {
    ("-m", "--model"): attribute("model.path"),
    ("-a", "--alias"): set_alias,
    ("-c", "--ctx-size"): attribute("n_ctx", whole),
    ("-np", "--parallel"): attribute("n_parallel", whole),
    ("-n", "--predict", "--n-predict"): attribute("n_predict", whole),
    ("-b", "--batch-size"): attribute("n_batch", whole),
    ("-ub", "--ubatch-size"): attribute("n_ubatch", whole),
    ("-t", "--threads"): set_threads,
    ("-tb", "--threads-batch"): attribute("cpuparams_batch.n_threads", whole),
    ("--threads-http",): attribute("n_threads_http", whole),
    ("-ngl", "--gpu-layers", "--n-gpu-layers"): attribute("n_gpu_layers", layers),
    ("-sm", "--split-mode"): member("llama_split_mode", "LLAMA_SPLIT_MODE_", "split_mode"),
    ("-ctk", "--cache-type-k"): member("ggml_type", "GGML_TYPE_", "cache_type_k"),
    ("-ctv", "--cache-type-v"): member("ggml_type", "GGML_TYPE_", "cache_type_v"),
    ("-fa", "--flash-attn"): member("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_", "flash_attn_type", FLASH),
    ("-fit", "--fit"): attribute("fit_params", on_or_off),
    ("-cram", "--cache-ram"): attribute("cache_ram_mib", whole),
    ("--cache-reuse",): attribute("n_cache_reuse", whole),
    ("--chat-template",): attribute("chat_template"),
    ("--chat-template-file",): attribute("chat_template", text_of),
    ("--reasoning-format",): member("common_reasoning_format", "COMMON_REASONING_FORMAT_", "reasoning_format"),
    ("--host",): lambda params, text: setattr(params, "hostnames", text.split(",")),
    ("--port",): attribute("port", whole),
    ("--api-key-file",): set_keys,
    ("-to", "--timeout"): set_timeout,
    ("-s", "--seed"): attribute("sampling.seed", whole),
    ("--temp", "--temperature"): attribute("sampling.temp", number),
    ("--top-k",): attribute("sampling.top_k", whole),
    ("--top-p",): attribute("sampling.top_p", number),
    ("--min-p",): attribute("sampling.min_p", number),
    ("--repeat-penalty",): attribute("sampling.penalty_repeat", number),
    ("-lv", "--verbosity", "--log-verbosity"): attribute("verbosity", whole),
}

#: Flags without a value: their names -> the parameter, and what it becomes.
SWITCHES: dict[tuple[str, ...], tuple[str, bool]] = {
    ("--cache-prompt",): ("cache_prompt", True),
    ("--no-cache-prompt",): ("cache_prompt", False),
    ("--jinja",): ("use_jinja", True),
    ("--no-jinja",): ("use_jinja", False),
    ("--metrics",): ("endpoint_metrics", True),
    ("--slots",): ("endpoint_slots", True),
    ("--no-slots",): ("endpoint_slots", False),
    ("--webui", "--ui"): ("ui", True),
    ("--no-webui", "--no-ui"): ("ui", False),
    ("--warmup",): ("warmup", True),
    ("--no-warmup",): ("warmup", False),
    ("--offline",): ("offline", True),
}

VALUE_OF = {name: apply for names, apply in VALUES.items() for name in names}
SWITCH_OF = {name: switch for names, switch in SWITCHES.items() for name in names}


def configure(params: Any, arguments: Sequence[str]) -> None:
    """Put every argument into its parameter; raises FlagError for one that is not mapped."""
    words = iter(arguments)
    for word in words:
        if word in SWITCH_OF:
            setattr(params, *SWITCH_OF[word])
        elif word in VALUE_OF:
            value = next(words, None)
            if value is None:
                raise FlagError(f"{word}: a value is missing")
            try:
                VALUE_OF[word](params, value)
            except FlagError as error:
                raise FlagError(f"{word}: {error}") from None
        else:
            raise FlagError(f"{word}: this flag is not mapped to a parameter of xllamacpp")


def listens(host: str, port: int) -> bool:
    """Tell whether the server still takes connections; a slow answer counts as one."""
    connection = http.client.HTTPConnection(host, port, timeout=LOOK_TIMEOUT)
    try:
        connection.request("GET", "/health")
        connection.getresponse().read()
    except ConnectionRefusedError:
        return False
    except (OSError, http.client.HTTPException):
        return True
    finally:
        connection.close()
    return True


def end(code: int) -> NoReturn:
    """End at once, open answers cut: the server's own tear-down may wait for a client that does not read."""
    sys.stderr.flush()
    os._exit(code)


def serve(params: Any) -> int:
    """Serve until a signal or the server's death; give the exit code."""
    try:
        server = package().Server(params)
    except RuntimeError as error:
        say(f"the server did not start: {error}")
        return 1
    asked = threading.Event()
    for stop_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop_signal, lambda *_: asked.set())
    host, port = params.hostnames[0], params.port
    say(f"listening on {server.listening_address}")
    while not asked.wait(LOOK_EVERY):
        if not listens(host, port):
            say("the server died")
            end(1)
    say("stopping")
    end(0)


def main(arguments: Sequence[str]) -> int:
    """Run the server with llama-server's arguments; give the exit code."""
    params = package().CommonParams()
    try:
        configure(params, arguments)
    except FlagError as error:
        say(str(error))
        return 2
    if not params.model.path or not params.port:
        say("--model and --port are needed")
        return 2
    return serve(params)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
