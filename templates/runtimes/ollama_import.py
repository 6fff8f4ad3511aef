#!/usr/bin/python3
"""Gives a running Ollama the llm that lies on this host, by its digest: no byte of it is copied or fetched.

usage: ollama-import ADDRESS NAME MODELFILE STORE

STORE is the folder that the server keeps llms in (OLLAMA_MODELS). The llm's file is linked there under its digest,
the server is asked whether it has it, and the name is made from it with the parameters of the Modelfile. What was
made is written down beside it: for the same file and Modelfile nothing is done again. It ends with 0, or with 1 and
a line on standard error.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

#: Seconds until the server must answer, and the longest that making a name may take.
START_SECONDS = 60
CREATE_SECONDS = 600
CHUNK = 1 << 20


class RefusalError(Exception):
    """The server, the Modelfile or the file is not as it must be."""


def ask(address: str, path: str, body: object = None, method: str | None = None) -> list[dict[str, object]]:
    """Give the documents that the server answers with, a line each; raises RefusalError with its own words."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address + path, data=content, headers=headers, method=method)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=CREATE_SECONDS) as answer:
            lines = [json.loads(line) for line in answer.read().splitlines() if line.strip().startswith(b"{")]
    except urllib.error.HTTPError as error:
        raise RefusalError(f"{path}: {error.code} {error.read(400).decode(errors='replace')}") from None
    except OSError as error:
        raise RefusalError(f"{path}: {error}") from None
    if wrong := [line["error"] for line in lines if "error" in line]:
        raise RefusalError(f"{path}: {wrong[0]}")
    return lines


def wait(address: str) -> None:
    """Wait until the server answers; raises RefusalError."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            ask(address, "/api/version")
        except RefusalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def value_of(text: str) -> int | float | str:
    """Give a parameter as its own kind: a whole number, a number, or text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read(modelfile: str) -> tuple[Path, dict[str, object], str | None]:
    """Give the file, the parameters and the template of a Modelfile; raises RefusalError for a strange line."""
    head, _, rest = modelfile.partition('TEMPLATE """')
    template = rest.rpartition('"""')[0] if rest else None
    weights, parameters = None, {}
    for line in head.splitlines():
        word, _, value = line.partition(" ")
        if word == "FROM":
            weights = Path(value)
        elif word == "PARAMETER":
            name, _, text = value.partition(" ")
            parameters[name] = value_of(text)
        elif line.strip():
            raise RefusalError(f"the Modelfile's line {line!r} is not known")
    if weights is None:
        raise RefusalError("the Modelfile names no file")
    return weights, parameters, template


def digest_of(path: Path) -> str:
    """Give the sha256 of a file, read once; raises RefusalError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except AttributeError:  # Python 3.10
        total = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                total.update(piece)
        return total.hexdigest()
    except OSError as error:
        raise RefusalError(f"{path}: {error.strerror}") from None


def bring_in(address: str, name: str, modelfile: str, store: Path) -> None:
    """Make a name from the file on this host; raises RefusalError."""
    weights, parameters, template = read(modelfile)
    try:
        real = weights.resolve(strict=True)
    except OSError as error:
        raise RefusalError(f"{weights}: {error.strerror}") from None
    note = store / "agentrig.json"
    made = {"name": name, "file": str(real), "modelfile": hashlib.sha256(modelfile.encode()).hexdigest()}
    known = [one.get("name") for one in ask(address, "/api/tags")[0].get("models", [])]
    if f"{name}:latest" in known and note.exists() and json.loads(note.read_text(encoding="utf-8")) == made:
        return
    digest = digest_of(real)
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        blob.unlink(missing_ok=True)
        blob.symlink_to(real)
    ask(address, f"/api/blobs/sha256:{digest}", method="HEAD")
    body: dict[str, object] = {"model": name, "files": {real.name: f"sha256:{digest}"}, "parameters": parameters}
    if template is not None:
        body["template"] = template
    ask(address, "/api/create", body | {"stream": False})
    shown = str(ask(address, "/api/show", {"model": name})[0].get("parameters", ""))
    if str(parameters.get("num_ctx", "")) not in shown.split():
        raise RefusalError(f"{name} was made, and its window is not the one that was asked for: {shown}")
    note.write_text(json.dumps(made), encoding="utf-8")


def main(words: list[str]) -> int:
    """Run it; give the exit code."""
    if len(words) != len(("ADDRESS", "NAME", "MODELFILE", "STORE")):
        sys.stderr.write("usage: ollama-import ADDRESS NAME MODELFILE STORE\n")
        return 2
    address, name, modelfile, store = words
    try:
        wait(address)
        bring_in(address, name, Path(modelfile).read_text(encoding="utf-8"), Path(store))
    except (RefusalError, OSError) as error:
        sys.stderr.write(f"ollama-import: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
