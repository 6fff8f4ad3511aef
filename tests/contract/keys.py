"""The keys that scripts and other tools rely on, verb by verb: they may be added to, never taken away."""

from __future__ import annotations

from typing import Any

ERROR = {"kind": str, "what": str, "where": str, "do": str}
STAND_IN = {"what": str, "instead": str, "why": str}
GPU = {
    "index": int,
    "vendor": str,
    "name": str,
    "vram_mib": int,
    "vram_free_mib": (int, None),
    "compute_capability": (str, None),
    "bus_id": str,
    "source": str,
    "health": (dict, None),
}
HOST_OUTCOME = {
    "name": str,
    "result": str,
    "changed": int,
    "deployment_id": (str, None),
    "seconds": (int, float),
    "phases": dict,
    "endpoint": ({"openai": str, "anthropic": (str, None), "token_file": str, "ca_file": (str, None)}, None),
    "evidence": (str, None),
    "stand_ins": [STAND_IN],
    "error": (ERROR, None),
    "log": (str, None),
    "changes": [str],
    "attestation": (str, None),
}
SANDBOX = {
    "name": str,
    "kind": str,
    "owner_name": str,
    "address": str,
    "client": str,
    "created": int,
    "running": bool,
    "stopped": str,
}
KEYS: dict[str, Any] = {
    "doctor": {
        "findings": [{"host": str, "cause": str, "means": str, "change": str, "lines": [str], "runtime": (str, None)}],
    },
    "detect": {
        "hosts": [
            {
                "name": str,
                "os": dict,
                "arch": str,
                "cpus": int,
                "ram_mib": int,
                "gpus": [GPU],
                "driver": (str, None),
                "cuda": (str, None),
                "links": list,
                "problems": list,
            },
        ],
    },
    "plan": {
        "deployment": {
            "llm": str,
            "quant": str,
            "runtime": str,
            "gpus": [str],
            "parallel": {"tensor": int, "pipeline": int},
            "context_tokens": int,
            "kv_dtype": str,
            "slots": int,
            "agentic_class": str,
            "sidecar": (str, None),
        },
        "ledger": [
            {
                "gpu": str,
                "part": str,
                "weights_mib": (int, float),
                "kv_mib": (int, float),
                "compute_mib": (int, float),
                "reserve_mib": (int, float),
                "capacity_mib": (int, float),
            },
        ],
        "confidence": str,
        "reasons": [str],
        "rejections": [{"llm": str, "quant": (str, None), "runtime": (str, None), "reason": str}],
    },
    "estimate": {
        "verdict": str,
        "per_gpu": [
            {
                "weights_mib": (int, float, None),
                "kv_mib": (int, float, None),
                "compute_mib": (int, float, None),
                "reserve_mib": (int, float, None),
                "capacity_mib": (int, float, None),
                "graphs_mib": (int, float, None),
                "draft_mib": (int, float, None),
            },
        ],
        "kv_bytes_per_token": (int, float, None),
        "kv_needed_mib": (int, float, None),
        "kv_capacity_tokens": (int, None),
        "max_context_tokens": (int, None),
        "confidence": (str, None),
        "reason": (str, None),
    },
    "lock": {
        "lock": {
            "digest": str,
            "hosts": dict,
            "artefacts": [
                {
                    "kind": str,
                    "name": str,
                    "version": str,
                    "digest": (str, None),
                    "bytes": (int, None),
                    "source": str,
                },
            ],
            "moved": [{"kind": str, "name": str, "before": (str, None), "after": (str, None), "means": [str]}],
            "asked": dict,
        },
    },
    "bundle": {
        "bundle": {
            "digest": str,
            "files": int,
            "bytes": int,
            "lock": str,
            "path": str,
            "signed_by": str,
            "copied": int,
            "removed": int,
            "command": ({"version": str, "python": str, "arch": str, "glibc": str}, None),
            "without_command": (str, None),
        },
    },
    "render": {"files": [{"path": str, "mode": str, "sha256": str}]},
    "up": {"hosts": [HOST_OUTCOME]},
    "down": {"hosts": [HOST_OUTCOME]},
    "rollback": {"hosts": [HOST_OUTCOME]},
    "verify": {
        "checks": [
            {
                "area": str,
                "name": str,
                "result": str,
                "figure": (int, float, None),
                "unit": (str, None),
                "limit": (int, float, None),
                "detail": str,
            },
        ],
        "stand_ins": [STAND_IN],
    },
    "status": {
        "hosts": [
            {
                "name": str,
                "deployment_id": (str, None),
                "manifest_digest": (str, None),
                "drift": [{"kind": str, "name": str, "expected": str, "found": str}],
                "serving": bool,
                "gpus": [GPU],
                "trusts": (str, None),
                "profile": (str, None),
                "llm": (str, None),
                "runtime": (str, None),
                "context_tokens": (int, None),
                "accepted": (str, None),
                "left": ({"release": str, "why": str, "when": str}, None),
                "disk": (
                    {"bytes": int, "present_bytes": int, "former_bytes": int, "former": [{"id": str, "bytes": int}]},
                    None,
                ),
                "against": (
                    {"host": str, "differences": [{"kind": str, "name": str, "expected": str, "found": str}]},
                    None,
                ),
                "error": (ERROR, None),
            },
        ],
    },
    "agents": {
        "agents": [
            {
                "name": str,
                "version": str,
                "installed": bool,
                "wire": str,
                "window_tokens": int,
                "output_tokens": int,
            },
        ],
    },
    "lab": {"hosts": [{"name": str, "address": str, "os": str}]},
    "sandbox create": {"sandbox": SANDBOX | {"seconds": (int, float), "host": str}},
    "sandbox list": {"sandboxes": [SANDBOX | {"host": str, "repository": (str, None)}]},
    "sandbox run": {
        "run": {
            "sandbox": str,
            "agent": str,
            "exit_code": int,
            "changed_files": [str],
            "flagged_files": [str],
            "diff_file": str,
            "seconds": (int, float),
            "requests": int,
        },
    },
    "sandbox diff": {
        "review": {"changes": [{"path": str, "kind": str, "flags": [{"why": str, "detail": str}]}]},
        "diff_file": str,
    },
    "sandbox accept": {"landed": {"branch": str, "paths": [str], "written": bool}},
    "sandbox reject": {"rejected": bool},
    "sandbox destroy": {"destroyed": str},
    "error": {"error": ERROR},
}


def shape_of(arguments: tuple[str, ...]) -> Any:
    """Give the keys of what a command line asks for; raises KeyError for a verb that has none yet."""
    return KEYS[" ".join(arguments[:2]) if arguments[0] == "sandbox" else arguments[0]]


def missing(document: Any, shape: Any, path: str = "") -> list[str]:
    """Name each key of a shape that a document lacks, or whose value is of another kind."""
    if isinstance(shape, tuple):
        if document is None and None in shape:
            return []
        return min((missing(document, one, path) for one in shape if one is not None), key=len)
    if isinstance(shape, list):
        return _missing_in_list(document, shape[0], path)
    if isinstance(shape, dict):
        return _missing_in_object(document, shape, path)
    wrong = not isinstance(document, shape) or (isinstance(document, bool) and shape is not bool)
    return [f"{path} is {type(document).__name__}, not {shape.__name__}"] if wrong else []


def _missing_in_list(document: Any, shape: Any, path: str) -> list[str]:
    if not isinstance(document, list):
        return [f"{path} is no list"]
    return [fault for index, one in enumerate(document) for fault in missing(one, shape, f"{path}[{index}]")]


def _missing_in_object(document: Any, shape: dict[str, Any], path: str) -> list[str]:
    if not isinstance(document, dict):
        return [f"{path} is no object"]
    lacking = [f"{path}.{key} is missing" for key in shape if key not in document]
    there = [key for key in shape if key in document]
    return lacking + [fault for key in there for fault in missing(document[key], shape[key], f"{path}.{key}")]
