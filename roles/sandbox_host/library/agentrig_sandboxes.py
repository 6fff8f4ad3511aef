#!/usr/bin/python3
"""Take every sandbox of ours away from a host, the bridge and the walls; the copies in them stay."""

from __future__ import annotations

import functools
import pathlib
import shutil

from ansible.module_utils.agentrig import Refused, alone, discard, run
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_sandboxes
short_description: The sandboxes of a host, taken away
description:
  - Stops the door, removes the containers that bear our label, their tokens, the bridge and our two tables.
options:
  state: {type: str, choices: [absent], default: absent, description: What is to be reached.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Take them away
  agentrig_sandboxes: {state: absent}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
"""
UNIT, BRIDGE = "agentrig-sandbox.service", "agentrig0"
LABEL = "agentrig.sandbox"
TABLES = (("bridge", "agentrig"), ("inet", "agentrig"))
CLIENTS = pathlib.Path("/var/lib/agentrig/gateway/clients")


def containers():
    """Give the containers that bear our label; none where Docker is not there or does not run."""
    if shutil.which("docker") is None:
        return []
    return run(["docker", "ps", "--all", "--quiet", f"--filter=label={LABEL}"], fine=(0, 1)).split()


def tables():
    """Give those of our two tables that are there."""
    if shutil.which("nft") is None:
        return []
    listed = run(["nft", "list", "tables"]).splitlines()
    return [table for table in TABLES if f"table {table[0]} {table[1]}" in listed]


def tokens():
    """Give the files of the gateway's clients that are sandboxes."""
    found = sorted(CLIENTS.glob("*.json")) if CLIENTS.is_dir() else []
    return [path for path in found if '"name": "sandbox-' in path.read_text(encoding="utf-8")]


def steps():
    """Give what is to be done, in its order: the words for it, and the work."""
    if run(["systemctl", "is-active", UNIT], fine=(0, 3, 4)).strip() == "active":
        yield f"stop {UNIT}", lambda: run(["systemctl", "stop", UNIT])
    for each in containers():
        yield f"remove the container {each[:12]}", functools.partial(run, ["docker", "rm", "--force", each])
    for path in tokens():
        yield f"remove {path}", functools.partial(discard, path)
    if pathlib.Path("/sys/class/net", BRIDGE).exists():
        yield f"remove the bridge {BRIDGE}", lambda: run(["ip", "link", "delete", BRIDGE])
    for family, name in tables():
        yield f"remove the table {family} {name}", functools.partial(run, ["nft", "delete", "table", family, name])


def taken_away(*, check):
    """Take them away; give what was done."""
    changes = []
    for words, work in steps():
        changes.append(words)
        if not check:
            work()
    return changes


def main():
    module = AnsibleModule(
        argument_spec={"state": {"type": "str", "choices": ["absent"], "default": "absent"}}, supports_check_mode=True
    )
    try:
        with alone(module):
            changes = taken_away(check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
