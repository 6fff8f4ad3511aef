#!/usr/bin/python3
"""Take former releases away from a host, and the artefacts that no release of it uses any more."""

from __future__ import annotations

import contextlib
import pathlib
import re

from ansible.module_utils.agentrig import (
    CURRENT,
    RELEASES,
    STORE,
    Refused,
    alone,
    discard,
    points_at,
    size_of,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_sweep
short_description: Former releases and unused artefacts, taken away
description:
  - Takes the releases that are named away, then every artefact that no release left on the host links to, whoever
    put that release there. What is current, and what a process of the host runs from or has open, stays.
  - Only folders whose names are those of releases and of artefacts are ever touched.
options:
  releases: {type: list, elements: str, default: [], description: Ids of the releases that may go.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Sweep
  agentrig_sweep: {releases: [0123456789abcdef]}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
gone: {description: Those of the releases that are not on the host any more., returned: always, type: list}
freed: {description: Bytes of the files that went., returned: always, type: int}
"""
RELEASE, KEY = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{64}")
USED = re.compile(rf"{RELEASES}/([0-9a-f]{{16}})(?=[/\s\0]|$)|{STORE}/([0-9a-f]{{64}})(?=[/\s\0]|$)")


def folders(root, named):
    """Give name -> folder of what lies under a root and is named as ours are."""
    there = root.iterdir() if root.is_dir() else ()
    return {path.name: path for path in there if named.fullmatch(path.name) and path.is_dir() and not path.is_symlink()}


def in_use():
    """Give the names of releases and artefacts that processes run from, name in their command lines, or have open."""
    names = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        texts = []
        for name in ("maps", "cmdline"):
            with contextlib.suppress(OSError):
                texts.append((process / name).read_bytes().decode(errors="replace"))
        links = [process / "cwd", process / "exe"]
        with contextlib.suppress(OSError):
            links += (process / "fd").iterdir()
        for link in links:
            with contextlib.suppress(OSError):
                texts.append(str(link.readlink()))
        names |= {name for text in texts for found in USED.findall(text) for name in found if name}
    return names


def linked(release):
    """Give the keys of the artefacts that a release links to."""
    links = (release / "artefacts").iterdir() if (release / "artefacts").is_dir() else ()
    return {pathlib.PurePath(points_at(link) or "").name for link in links}


def to_go(releases):
    """Give the folders that go: releases first, then what none that stays uses."""
    there, used = folders(RELEASES, RELEASE), in_use()
    used.add((points_at(CURRENT) or "").removeprefix("releases/"))
    going = {name: path for name, path in there.items() if name in releases and name not in used}
    if not going:
        return {}, {}
    kept = {key for name, path in there.items() if name not in going for key in linked(path)}
    trees = {key: path for key, path in folders(STORE, KEY).items() if key not in kept and key not in used}
    return going, trees


def main():
    module = AnsibleModule(
        argument_spec={"releases": {"type": "list", "elements": "str", "default": []}}, supports_check_mode=True
    )
    asked = set(module.params["releases"])
    try:
        with alone(module):
            going, trees = to_go(asked)
            paths = [*going.values(), *trees.values()]
            freed = sum(size_of(path) for path in paths)
            for path in () if module.check_mode else paths:
                discard(path)
            gone = asked - set(folders(RELEASES, RELEASE))
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    changes = [f"remove {path}" for path in paths]
    module.exit_json(changed=bool(changes), changes=changes, gone=sorted(gone), freed=freed)


if __name__ == "__main__":
    main()
