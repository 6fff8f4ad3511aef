#!/usr/bin/python3
"""Put the agents' commands where the people of a host find them, or take them away."""

from __future__ import annotations

import pathlib

from ansible.module_utils.agentrig import CURRENT, Refused, alone, discard, is_there, link, points_at
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_agents
short_description: Commands of the agents, as links through the current release
description:
  - A command that is there and is not a link of ours is left alone, and the task fails with its name.
  - A link of ours that is no longer wanted is removed, so that a release brought back has its own commands alone.
options:
  state: {type: str, choices: [present, absent], default: present, description: Put there or taken away.}
  links: {type: list, elements: dict, default: [], description: "Links, C(path) and C(target)."}
  folder: {type: path, default: /usr/local/bin, description: Where links of ours are looked for.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Put the commands in place
  agentrig_agents: {links: []}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
"""
#: Where commands of ours lead: agents, and the client of the door to sandboxes.
OURS = (f"{CURRENT}/agents/", f"{CURRENT}/sandbox/")


def is_ours(path):
    """Tell whether a path is a link that leads to a command of a release's."""
    return (points_at(path) or "").startswith(OURS)


def present(links, folder):
    """Give a (words, action) pair for each command that is missing or too much; refuse to replace another's."""
    wanted = {pathlib.Path(each["path"]): each["target"] for each in links}
    for path, target in wanted.items():
        if is_there(path) and not is_ours(path):
            raise Refused(f"{path} is there and is not ours: move it away, or take the agent out of the profile")
        if points_at(path) != target:
            yield f"link {path}", lambda path=path, target=target: link(path, target)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path not in wanted and is_ours(path):
            yield f"remove {path}", lambda path=path: discard(path)


def absent(links, folder):
    """Give a (words, action) pair for each command of ours."""
    named = {pathlib.Path(each["path"]) for each in links}
    there = set(folder.iterdir()) if folder.is_dir() else set()
    for path in sorted(named | there):
        if is_ours(path):
            yield f"remove {path}", lambda path=path: discard(path)


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "links": {"type": "list", "elements": "dict", "default": []},
            "folder": {"type": "path", "default": "/usr/local/bin"},
        },
        supports_check_mode=True,
    )
    steps_of = present if module.params["state"] == "present" else absent
    try:
        with alone(module):
            steps = list(steps_of(module.params["links"], pathlib.Path(module.params["folder"])))
            for _, action in [] if module.check_mode else steps:
                action()
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(steps), changes=[words for words, _ in steps])


if __name__ == "__main__":
    main()
