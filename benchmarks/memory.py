"""Grades the memory ledger against measured loads: the whole table, without the rig that repeats, and refitted.

Run it from the repository: ``python benchmarks/memory.py [--worst N] [--refit]``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.catalog.loader import load
from orchestrator.plan import constants
from orchestrator.plan.cases import estimate_line, knowledge

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
TRUTH = ROOT / "tests" / "fixtures" / "ground_truth"
#: The group whose loads are many and alike.
MUCH_REPEATED = "llm-d-planner#205"
#: What a refit may change: every constant that was read off measured peaks.
FITTED = (
    "SAMPLER_BYTES_SORTED",
    "SAMPLER_BYTES",
    "PROFILE_BASE_MIB",
    "LAYER_HIDDEN_COPIES",
    "LAYER_HIDDEN_COPIES_COMPILED",
    "VISION_PROFILE_MIB",
    "NON_TORCH_EARLY_MIB",
    "NON_TORCH_SORTED_MIB",
    "NON_TORCH_MIB",
    "COMMUNICATION_EARLY_MIB",
    "COMMUNICATION_MIB",
    "RECURRENT_COPIES",
)
#: Summed error that a constant must move to be touched by a load.
UNTOUCHED = 1e-9
FACTORS = (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3)


def scorer() -> Any:
    """Give the module that says what may be seen, and grades."""
    spec = importlib.util.spec_from_file_location("ground_truth_score", TRUTH / "score.py")
    if spec is None or spec.loader is None:
        raise SystemExit("tests/fixtures/ground_truth/score.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(name: str) -> list[dict[str, Any]]:
    """Give the JSON lines of a file of measured loads."""
    text = (TRUTH / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def predictions(cases: list[dict[str, Any]], score: Any) -> list[dict[str, Any]]:
    """Give an estimate for each load, from what an estimator may see of it."""
    catalog = load()
    known = knowledge(catalog, {line["model"]: line["fields"] for line in lines("configs.jsonl")})
    return [estimate_line(score.inputs(case), known, catalog) for case in cases]


def table(cases: list[dict[str, Any]], answers: list[dict[str, Any]], score: Any, worst: int) -> int:
    """Print the table of these loads; give 1 where a limit is missed."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "cases.jsonl"), Path(folder, "answers.jsonl")
        for file, rows in zip(files, (cases, answers), strict=True):
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return int(
            score.grade(
                argparse.Namespace(
                    cases=str(files[0]), predictions=str(files[1]), limits=str(TRUTH / "limits.json"), worst=worst
                )
            )
        )


def errors(cases: list[dict[str, Any]], score: Any) -> dict[str, list[float]]:
    """Give the relative errors of weights with compute, and of what was asked for, by group."""
    found: dict[str, list[float]] = {}
    for case, answer in zip(cases, predictions(cases, score), strict=True):
        truths, seen = score.truths(case), score.figures(case, answer)
        for quantity in ("resident", "asked"):
            if quantity in truths and seen.get(quantity):
                found.setdefault(case["group"], []).append(abs(math.log(seen[quantity] / truths[quantity])))
    return found


@contextlib.contextmanager
def changed(name: str, factor: float) -> Iterator[None]:
    """Hold one constant at a multiple of its value."""
    own = getattr(constants, name)
    setattr(constants, name, dataclasses.replace(own, value=own.value * factor))
    try:
        yield
    finally:
        setattr(constants, name, own)


def refit(cases: list[dict[str, Any]], score: Any) -> dict[str, float | None]:
    """Give the factor for each constant that makes the summed error of these loads least, one after the other.

    None: none of these loads touches it, so it keeps the value that came from the loads left out.
    """
    factors: dict[str, float | None] = {}
    with contextlib.ExitStack() as held:
        for name in FITTED:
            losses = {}
            for factor in FACTORS:
                with changed(name, factor):
                    losses[factor] = sum(sum(group) for group in errors(cases, score).values())
            if max(losses.values()) - min(losses.values()) < UNTOUCHED:
                factors[name] = None
                continue
            best = min(losses, key=lambda factor: (round(losses[factor], 6), abs(factor - 1)))
            factors[name] = best
            held.enter_context(changed(name, best))
    return factors


def left_out(cases: list[dict[str, Any]], score: Any) -> None:
    """Print, for each group with a measured whole, its error with constants refitted without it."""
    full = errors(cases, score)
    measured = [case for case in cases if case["group"] in full]
    print(f"{'group left out, by one of its loads':52}{'figures':>8}{'full %':>8}{'without %':>10}  constants")
    touched = {name for name, factor in refit(measured, score).items() if factor is not None}
    for group in sorted(full):
        factors = refit([case for case in measured if case["group"] != group], score)
        with contextlib.ExitStack() as held:
            for name, factor in factors.items():
                if factor is not None:
                    held.enter_context(changed(name, factor))
            without = errors([case for case in measured if case["group"] == group], score)[group]
        moved = ", ".join(f"{name} x{factor:g}" for name, factor in factors.items() if factor not in (None, 1.0))
        alone = ", ".join(name for name, factor in factors.items() if factor is None and name in touched)
        label = next(case["id"] for case in measured if case["group"] == group)
        print(
            f"{label[:50]:52}{len(full[group]):8}{100 * statistics.median(full[group]):8.2f}"
            f"{100 * statistics.median(without):10.2f}  {moved or 'none moved'}"
            + (f"; rest on it alone: {alone}" if alone else "")
        )


def main() -> int:
    """Print the tables; give 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worst", type=int, default=10, help="how many of the worst figures to name")
    parser.add_argument("--refit", action="store_true", help="refit every constant with each group left out")
    args = parser.parse_args()
    score, cases = scorer(), lines("cases.jsonl")
    answers = predictions(cases, score)
    print("All measured loads")
    outcome = table(cases, answers, score, args.worst)
    for title, wanted in (("Without the rig that repeats", False), ("That rig alone", True)):
        chosen = [pair for pair in zip(cases, answers, strict=True) if (pair[0]["group"] == MUCH_REPEATED) == wanted]
        print(f"\n{title}")
        with contextlib.redirect_stdout(io.StringIO()) as text:
            table([pair[0] for pair in chosen], [pair[1] for pair in chosen], score, 0)
        print("\n".join(line for line in text.getvalue().splitlines() if not line.startswith(("missed", "all limits"))))
    found = lines("found.jsonl")
    print("\nLoads found elsewhere, off which no constant was read")
    with contextlib.redirect_stdout(io.StringIO()) as text:
        table(found, predictions(found, score), score, args.worst)
    print("\n".join(line for line in text.getvalue().splitlines() if not line.startswith(("missed", "all limits"))))
    if args.refit:
        print("\nConstants refitted with each group left out in turn")
        left_out(cases, score)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
