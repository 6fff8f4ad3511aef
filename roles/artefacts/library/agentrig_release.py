#!/usr/bin/python3
"""Write a release of rendered files and links into the store, or point the host at it."""

from __future__ import annotations

import grp
import os
import pathlib
import pwd
import stat

from ansible.module_utils.agentrig import (
    CURRENT,
    RELEASES,
    STARTED,
    STORE,
    Refused,
    alone,
    discard,
    entries,
    is_there,
    link,
    points_at,
    write,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_release
short_description: A release of rendered files, and the pointer to it
description:
  - A release is written beside its place and renamed, so that a folder of its name is always whole. In one that is
    there, files that are not as rendered are written again, what is not of it is removed, and the units are told to
    start anew.
  - With O(state=current) C(/opt/agentrig/current) and links outside the release are made to point at it.
options:
  state: {type: str, choices: [written, current, none], default: written, description: What is to be reached.}
  id: {type: str, default: '', description: The release's id.}
  files: {type: list, elements: dict, default: [], description: "C(path), C(mode), C(owner), C(group), C(content)."}
  artefacts: {type: dict, default: {}, description: Link name -> the artefact's key.}
  links: {type: list, elements: dict, default: [], description: Links outside the release, C(path) and C(target).}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Write the release
  agentrig_release: {id: 0123456789abcdef, files: [], artefacts: {}}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
previous: {description: The release that was current before., returned: when pointing, type: str}
"""


def uid_of(name):
    """Give a user's number, or None where the user is yet to be made."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def gid_of(name):
    """Give a group's number, or None where the group is yet to be made."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def is_as_rendered(path, file):
    """Tell whether a file has its content, mode and owner."""
    if path.is_symlink() or not path.is_file():
        return False
    about = path.stat()
    facts = (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid)
    wanted = (int(file["mode"], 8), uid_of(file["owner"]), gid_of(file["group"]))
    return facts == wanted and path.read_bytes() == file["content"].encode()


def put(path, file):
    """Write one file of a release."""
    owner, group = uid_of(file["owner"]), gid_of(file["group"])
    if owner is None or group is None:
        raise Refused(f"{file['path']}: there is no user {file['owner']} or no group {file['group']}")
    for folder in reversed(path.relative_to(RELEASES).parents):
        (RELEASES / folder).mkdir(mode=0o755, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        discard(path)
    write(path, file["content"], int(file["mode"], 8), owner, group)


def differences(params, folder):
    """Give a (words, action) pair for all that is not as rendered in a release that is there."""
    files = {folder / file["path"]: file for file in params["files"]}
    links = {folder / "artefacts" / name: str(STORE / key) for name, key in params["artefacts"].items()}
    folders = {parent for path in (*files, *links) for parent in path.parents}
    for path, file in files.items():
        if not is_as_rendered(path, file):
            yield f"write {path}", lambda path=path, file=file: put(path, file)
    for path, target in links.items():
        if points_at(path) != target:
            yield f"link {path}", lambda path=path, target=target: relink(path, target)
    for path in entries(folder) if folder.is_dir() else ():
        if path not in files and path not in links and path not in folders and is_there(path):
            yield f"remove {path}", lambda path=path: discard(path)


def relink(path, target):
    """Make a link into the store."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    discard(path)
    link(path, target)


def write_anew(params, folder):
    """Write a whole release beside its place, then give it its name; nothing is left of one that fails."""
    beside = folder.with_name(f".{folder.name}")
    discard(beside)
    beside.mkdir(mode=0o755)
    try:
        for _, action in differences(params, beside):
            action()
        beside.replace(folder)
    except (Refused, OSError):
        discard(beside)
        raise


def written(params):
    """Give the steps that bring the release; what a killed run left half-written goes first."""
    folder = RELEASES / params["id"]
    left = [(f"remove half-written {path.name}", lambda path=path: discard(path)) for path in RELEASES.glob(".*")]
    if not folder.is_dir():
        return [*left, (f"write release {params['id']}", lambda: write_anew(params, folder))]
    steps = list(differences(params, folder))
    if steps and points_at(CURRENT) == f"releases/{params['id']}":
        steps.insert(0, ("start the units anew", lambda: discard(STARTED)))
    return left + steps


def current(params):
    """Give the steps that point the host at the release, or at none."""
    target = f"releases/{params['id']}"
    steps = []
    if params["state"] == "none":
        links = [pathlib.Path(each["path"]) for each in params["links"]]
        return [(f"remove {path}", lambda path=path: discard(path)) for path in (*links, CURRENT) if is_there(path)]
    if points_at(CURRENT) != target:
        steps.append((f"make release {params['id']} current", lambda: point(target)))
    for each in params["links"]:
        path = pathlib.Path(each["path"])
        if points_at(path) != each["target"]:
            steps.append((f"link {path}", lambda path=path, each=each: relink(path, each["target"])))
    return steps


def point(target):
    """Move the pointer in one step, to a release that is there."""
    if not (CURRENT.parent / target).is_dir():
        raise Refused(f"{target} is not on the host")
    link(CURRENT, target)


def main():
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["written", "current", "none"], "default": "written"},
            "id": {"type": "str", "default": ""},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": text,
                    "mode": text,
                    "owner": text,
                    "group": text,
                    "content": {"type": "str", "required": True, "no_log": True},
                },
            },
            "artefacts": {"type": "dict", "default": {}},
            "links": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    previous = (points_at(CURRENT) or "").removeprefix("releases/")
    try:
        with alone(module):
            steps = (written if module.params["state"] == "written" else current)(module.params)
            for _, action in [] if module.check_mode else steps:
                action()
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(steps), changes=[words for words, _ in steps], previous=previous)


if __name__ == "__main__":
    main()
