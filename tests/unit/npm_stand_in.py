"""A stand-in for npm: a registry in a folder, ``install --package-lock-only``, ``pack`` and ``view``.

``NPM_REGISTRY`` names a folder with ``packages.json`` (name -> version -> entry of a lock) and tarballs.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

REGISTRY = Path(os.environ["NPM_REGISTRY"])


def known() -> dict[str, dict[str, dict[str, object]]]:
    return json.loads((REGISTRY / "packages.json").read_text(encoding="utf-8"))


def install() -> None:
    wanted = json.loads(Path("package.json").read_text(encoding="utf-8"))
    places = {"": {"name": wanted["name"]}}
    for name, versions in known().items():
        held = wanted["overrides"].get(name) or wanted["dependencies"].get(name, "~")
        version = held if held in versions else max(versions)
        entry = {"version": version, **versions[version]}
        places[str(entry.pop("place", f"node_modules/{name}"))] = entry
    Path("package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": places}), encoding="utf-8")


def pack(specs: list[str]) -> None:
    for spec in specs:
        name, _, version = spec.rpartition("@")
        file = f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
        shutil.copy(REGISTRY / file, file)


def view(spec: str) -> None:
    name, _, version = spec.rpartition("@")
    sys.stdout.write(json.dumps(known()[name][version]["integrity"]))


def main() -> int:
    verb, *rest = [word for word in sys.argv[1:] if not word.startswith("--")]
    with (REGISTRY / "asked").open("a", encoding="utf-8") as asked:
        asked.write(" ".join([verb, *rest]) + "\n")
    if (REGISTRY / "silent").exists():
        sys.stderr.write("npm error code ENOTFOUND\nnpm error request to https://a.registry.example/ failed\n")
        return 1
    {"install": lambda _: install(), "pack": pack, "view": lambda words: view(words[0])}[verb](rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
