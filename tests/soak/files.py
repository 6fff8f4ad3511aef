"""The table, the evidence and the covered content, as they lie in the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath

import yaml

from tests.soak.core import Content, Evidence, Row, digest, from_text, to_text

ROOT = Path(__file__).resolve().parents[2]
#: Paths in the repository.
TABLE, EVIDENCE, PAGE = "tests/soak/matrices.yml", "tests/soak/evidence", "tests/soak/README.md"


def rows(root: Path = ROOT) -> tuple[Row, ...]:
    """Read the table; raises ValueError for a row that covers nothing, or its own evidence, or has unknown keys."""
    table = yaml.safe_load((root / TABLE).read_text(encoding="utf-8")) or {}
    found = []
    for name, said in table.items():
        try:
            row = Row(name=name, **said | {"covers": tuple(said["covers"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{TABLE}: {name}: {error}") from error
        if not any(_within(row.cases, path) for path in row.covers):
            raise ValueError(f"{TABLE}: {name} must cover its own cases, {row.cases}")
        for path in row.covers:
            if any(_within(own, path) or _within(path, own) for own in (EVIDENCE, PAGE)):
                raise ValueError(f"{TABLE}: {name} covers evidence: {path}")
        found.append(row)
    return tuple(found)


def _within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder, or lies in it."""
    return PurePosixPath(path).is_relative_to(PurePosixPath(folder))


def covered(row: Row, root: Path = ROOT) -> str:
    """Give the digest of what a matrix covers: the files that Git tracks there, as they lie in the checkout."""
    for path in row.covers:
        if not _listed((path,), root, "--cached", "--others", "--exclude-standard"):
            raise ValueError(f"{TABLE}: {row.name} covers {path}, where Git knows nothing")
    return digest(content(path, root) for path in listed(row, root))


def listed(row: Row, root: Path = ROOT) -> list[str]:
    """Give the files that Git tracks in what a matrix covers, and that are there."""
    return [path for path in _listed(row.covers, root) if os.path.lexists(root / path)]


def untracked(row: Row, root: Path = ROOT) -> list[str]:
    """Give the files in what a matrix covers that Git neither tracks nor ignores: no digest would count them."""
    return _listed(row.covers, root, "--others", "--exclude-standard")


def _listed(paths: tuple[str, ...], root: Path, *options: str) -> list[str]:
    """List files as Git knows them, whatever is special in a path taken as it is."""
    command = ["git", "--literal-pathspecs", "ls-files", "-z", *options, "--", *paths]
    said = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode()
    return sorted(filter(None, said.split("\0")))


def content(path: str, root: Path = ROOT) -> Content:
    """Give a file with the mode that Git would keep: a link, an executable or a plain file."""
    file = root / path
    if file.is_symlink():
        return Content(path, "120000", os.fsencode(file.readlink()))
    return Content(path, "100755" if file.stat().st_mode & 0o100 else "100644", file.read_bytes())


def commit(root: Path = ROOT) -> str:
    """Give the hash of the commit that is checked out."""
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def evidence(root: Path = ROOT) -> dict[str, Evidence]:
    """Read all evidence by the name of its matrix; raises ValueError where a file tells of another matrix."""
    found = {}
    for file in sorted((root / EVIDENCE).glob("*.jsonl")):
        found[file.stem] = from_text(file.read_text(encoding="utf-8"))
        if found[file.stem].matrix != file.stem:
            raise ValueError(f"{EVIDENCE}/{file.name} is the evidence of {found[file.stem].matrix}")
    return found


def keep(made: Evidence, root: Path = ROOT) -> None:
    """Write evidence, whole or not at all."""
    write(root / EVIDENCE / f"{made.matrix}.jsonl", to_text(made))


def write(file: Path, text: str) -> None:
    """Write a file beside its place, then move it there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
