#!/usr/bin/python3
"""Put the folders and users of ours on a host, or take them away; remember what was there before."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pathlib
import pwd
import stat

from ansible.module_utils.agentrig import (
    BEFORE,
    LOCK,
    ROOT,
    Refused,
    alone,
    discard,
    installed,
    is_there,
    read_json,
    run,
    stranger_on,
    write,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_host
short_description: Folders and users of ours on a host
description:
  - Refuses when a port of ours is taken, then remembers in C(/opt/agentrig/before.json) what the host has,
    and only then makes folders, groups and users. With O(state=absent) all of it is taken away.
options:
  state: {type: str, choices: [present, absent], default: present, description: Put there or taken away.}
  folders: {type: list, elements: path, default: [], description: Folders under C(/opt/agentrig), root's, mode 0755.}
  users: {type: list, elements: dict, default: [], description: System users, C(name) and further C(groups).}
  packages: {type: list, elements: str, default: [], description: Packages whose presence is remembered.}
  listeners: {type: list, elements: dict, default: [], description: Listening sockets that are remembered.}
  ports: {type: list, elements: dict, default: [], description: TCP ports of ours, C(port) and its C(unit).}
  people: {type: list, elements: str, default: [], description: Accounts that must be there.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Put the folders and users in place
  agentrig_host: {folders: [/opt/agentrig], users: [{name: agentrig-runtime, groups: []}]}
"""
RETURN = r"""
before: {description: What the host had before the first apply., returned: always, type: dict}
changes: {description: What was done or would be, in words., returned: always, type: list}
"""
NO_HOME, NO_SHELL = "/nonexistent", "/usr/sbin/nologin"


def user_of(name):
    """Give a user's entry, or None."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    return None


def group_of(name):
    """Give a group's entry, or None."""
    with contextlib.suppress(KeyError):
        return grp.getgrnam(name)
    return None


def refuse_taken_ports(ports):
    """Refuse before anything is changed when a port of ours is someone else's."""
    for each in ports:
        if who := stranger_on(each["port"], each["unit"]):
            raise Refused(f"port {each['port']}, meant for {each['unit']}, is taken by {who}")


def refuse_strangers(people):
    """Refuse before anything is changed when someone the agents are set up for has no account."""
    strangers = [name for name in people if user_of(name) is None]
    if strangers:
        names = ", ".join(map(repr, strangers))
        raise Refused(f"no account of this host is called {names}: make it, or take it out of the profile's people")


def remembered(params):
    """Give what was there before: as remembered, with what is asked about for the first time added."""
    kept = read_json(BEFORE)
    before = {"listeners": kept.get("listeners", params["listeners"]), "packages": dict(kept.get("packages", {}))}
    versions, _ = installed([name for name in params["packages"] if name not in before["packages"]])
    for name in params["packages"]:
        before["packages"].setdefault(name, versions.get(name))
    return before


def folder_steps(folders):
    """Give a (words, action) pair for each folder that is not as it should be."""
    for path in map(pathlib.Path, folders):
        about = path.lstat() if is_there(path) else None
        if about is None:
            yield f"make {path}", lambda path=path: make_folder(path)
        elif not stat.S_ISDIR(about.st_mode):
            raise Refused(f"{path} is there and is no folder")
        elif (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) != (0o755, 0, 0):
            yield f"set the mode of {path}", lambda path=path: make_folder(path)


def make_folder(path):
    """Make a folder, root's, mode 0755."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)
    os.chown(path, 0, 0)


def user_steps(users):
    """Give a (words, action) pair for each group and user that is missing."""
    for user in users:
        name, groups = user["name"], user.get("groups") or []
        if group_of(name) is None:
            yield f"make group {name}", lambda name=name: run(["groupadd", "--system", name])
        if user_of(name) is None:
            command = ["useradd", "--system", "--gid", name, "--no-create-home", "--home-dir", NO_HOME]
            yield f"make user {name}", lambda command=command, name=name: run([*command, "--shell", NO_SHELL, name])
        yield from account_steps(name, groups)
        for member in sorted(set(group_of(name).gr_mem) - {name} if group_of(name) else ()):
            if member not in {other["name"] for other in users}:
                command = ["gpasswd", "--delete", member, name]
                yield f"take {member} out of group {name}", lambda command=command: run(command)


def account_steps(name, groups):
    """Give a (words, action) pair for all that a user is and should not be, or should be and is not."""
    about, theirs = user_of(name), {entry.gr_name for entry in grp.getgrall() if name in entry.gr_mem}
    if theirs != set(groups):
        command = ["usermod", "--groups", ",".join(groups), name]
        words = f"put user {name} into {', '.join(groups)}" if groups else f"take user {name} out of all other groups"
        yield words, lambda: run(command)
    if about is None:
        return
    own = group_of(name)
    if own is not None and about.pw_gid != own.gr_gid:
        yield f"give user {name} his own group", lambda: run(["usermod", "--gid", name, name])
    if about.pw_shell != NO_SHELL:
        yield f"take the shell of user {name}", lambda: run(["usermod", "--shell", NO_SHELL, name])
    if about.pw_dir != NO_HOME:
        yield f"take the home of user {name}", lambda: take_home(name)


def take_home(name):
    """Give a user of ours no home; the system refuses that while a process of his runs (usermod(8), status 8)."""
    try:
        run(["usermod", "--home", NO_HOME, name])
    except Refused as refused:
        raise Refused(f"{refused}: stop what runs as {name}, then run it again") from refused


def present(params):
    """Give all steps that bring the folders and users."""
    refuse_taken_ports(params["ports"])
    refuse_strangers(params["people"])
    before = remembered(params)
    steps = [*folder_steps([ROOT])]
    if before != read_json(BEFORE):
        text = json.dumps(before, indent=2, sort_keys=True) + "\n"
        steps.append(("remember what was there before", lambda: write(BEFORE, text)))
    return before, [
        *steps,
        *folder_steps([each for each in params["folders"] if each != str(ROOT)]),
        *user_steps(params["users"]),
    ]


def absent(params):
    """Give all steps that take folders, users and groups away."""
    steps = []
    for name in (user["name"] for user in params["users"]):
        if user_of(name):
            steps.append((f"remove user {name}", lambda name=name: run(["userdel", name])))
        if group_of(name):  # userdel takes a user's own group along
            steps.append((f"remove group {name}", lambda name=name: run(["groupdel", name], fine=(0, 6))))
    steps += [(f"remove {path}", lambda path=path: discard(path)) for path in [ROOT] if is_there(path)]
    return read_json(BEFORE), steps


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "folders": {"type": "list", "elements": "path", "default": []},
            "users": {"type": "list", "elements": "dict", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "listeners": {"type": "list", "elements": "dict", "default": []},
            "ports": {"type": "list", "elements": "dict", "default": []},
            "people": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        with alone(module):
            before, steps = (present if module.params["state"] == "present" else absent)(module.params)
            for _, action in [] if module.check_mode else steps:
                action()
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    if module.params["state"] == "absent" and not module.check_mode:
        LOCK.unlink(missing_ok=True)
    module.exit_json(changed=bool(steps), changes=[words for words, _ in steps], before=before)


if __name__ == "__main__":
    main()
