"""Writes the golden trees anew; with ``--check`` says which would move, and changes nothing."""

from __future__ import annotations

import sys

from tests.golden.cases import CASES, HERE, Case, expected, kept


def moved(case: Case) -> list[str]:
    """Give the paths of a case that differ, are missing, or are too many."""
    now, before = expected(case), kept(case)
    return sorted(path for path in now.keys() | before.keys() if now.get(path) != before.get(path))


def renew(case: Case) -> None:
    """Write a case's tree: what is rendered and nothing else."""
    now, folder = expected(case), HERE / case.name
    for path in kept(case).keys() - now.keys():
        (folder / path).unlink()
    for path, content in now.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Renew, or check; give the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m tests.golden.renew [--check]\n")
        return 2
    found = [(case, path) for case in CASES for path in moved(case)]
    for case, path in found:
        sys.stdout.write(f"{case.name}/{path}\n")
    if arguments:
        return 1 if found else 0
    for case in CASES:
        renew(case)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
