"""Runs llmfit, the tool that people use, on the same measured loads, beside this project's own ledger.

``python benchmarks/llmfit.py PATH_TO_LLMFIT`` (``pip install llmfit`` in an environment of its own). Compared is the
memory over all cards for the context that was asked for; llmfit's figure is the least that it says is needed.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from typing import Any

from memory import lines, predictions, scorer

MIB = 1024 * 1024
#: What a load's quantisation is called there, first match wins.
QUANTS = (
    (r"float16|fp16", "F16"),
    (r"none|bf16|bfloat16", "BF16"),
    (r"fp8", "FP8"),
    (r"w8a8|int8", "Q8_0"),
    (r"w4a16|gptq", "GPTQ-Int4"),
    (r"awq", "AWQ-4bit"),
    (r"mxfp4", "Q4_K_M"),
    (r"exl3 4", "Q4_K_M"),
)


def quant_of(text: str) -> str | None:
    """Give llmfit's name for a quantisation, None where it has none."""
    gguf = re.search(r"\b((?:I?Q)\d_[A-Z0-9]+(?:_[A-Z]+)?)\b", text.replace(" - Medium", "_M"))
    if gguf:
        return gguf.group(1)
    return next((name for pattern, name in QUANTS if re.search(pattern, text, re.IGNORECASE)), None)


def asked_mib(program: str, case: dict[str, Any]) -> float | None:
    """Give llmfit's figure for a load in MiB over all cards, None where it has no answer."""
    quant = quant_of(str(case.get("quant") or case["model"]))
    kv = str(case.get("kv_dtype_k") or case.get("kv_dtype") or "fp16")
    name = {"q8_0": "q8_0", "q4_0": "q4_0"}.get(kv, "fp8" if kv.startswith("fp8") else "fp16")
    command = [program, "plan", case["model"], "--context", str(case["n_ctx"]), "--kv-quant", name, "--json"]
    done = subprocess.run(
        [*command, *(["--quant", quant] if quant else []), "--no-dashboard"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        return None
    figure = json.loads(done.stdout)["minimum"]["vram_gb"]
    return None if figure is None else float(figure) * 1e9 / MIB


def main() -> int:
    """Print both tools' errors on every load whose whole was measured."""
    score, cases = scorer(), lines("cases.jsonl")
    ours: list[float] = []
    theirs: list[float] = []
    both: list[tuple[float, float]] = []
    tried = 0
    for case, answer in zip(cases, predictions(cases, score), strict=True):
        truth = score.truths(case).get("asked")
        if truth is None:
            continue
        tried += 1
        cards = (case.get("tp") or 1) if score.per_gpu_runtime(case) else 1
        own, other = score.figures(case, answer).get("asked"), asked_mib(sys.argv[1], case)
        mine = abs(own / truth - 1) if own else None
        peer = abs(other / (truth * cards) - 1) if other else None
        ours.extend([] if mine is None else [mine])
        theirs.extend([] if peer is None else [peer])
        if mine is not None and peer is not None:
            both.append((mine, peer))
    print(f"loads whose whole was measured: {tried}")
    print(f"{'':22}{'answered':>9}{'median %':>10}{'p90 %':>8}")
    for name, found in (
        ("this ledger", ours),
        ("llmfit", theirs),
        ("both: this ledger", [one for one, _ in both]),
        ("both: llmfit", [other for _, other in both]),
    ):
        ordered = sorted(found)
        last = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
        print(f"{name:22}{len(found):9}{100 * statistics.median(found):10.2f}{100 * last:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
