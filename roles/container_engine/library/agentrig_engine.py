#!/usr/bin/python3
"""Docker's settings: ours merged into those that a host has, never in the place of them, and taken out again."""

from __future__ import annotations

import json
import pathlib

from ansible.module_utils.agentrig import Refused, alone, discard, installed, read_json, run, write
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_engine
short_description: Docker's settings on a host
description:
  - Merges settings into C(/etc/docker/daemon.json). A key that its owner set stays as it is; what is ours is remembered
    in C(/opt/agentrig/engine.json) and taken out again with O(state=absent). Docker that runs is started anew where
    something moved; its containers live on where C(live-restore) is set.
  - Refuses a host whose Docker takes orders from a network without TLS.
options:
  state: {type: str, choices: [present, absent], default: present, description: Merged or taken out.}
  settings: {type: dict, default: {}, description: Keys of C(daemon.json).}
  alone: {type: dict, default: {}, description: Keys for a host whose Docker is ours alone.}
  package: {type: str, default: docker.io, description: The package that brings Docker.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Merge
  agentrig_engine: {settings: {live-restore: true}}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
"""
FILE = pathlib.Path("/etc/docker/daemon.json")
OURS = pathlib.Path("/opt/agentrig/engine.json")
UNIT = "docker.service"


def open_to_all(settings):
    """Give the address on which Docker would take orders from a network without TLS, or None."""
    if settings.get("tlsverify") is True:
        return None
    hosts = settings.get("hosts") or []
    return next((host for host in hosts if str(host).startswith(("tcp://", "http://"))), None)


def have():
    """Give the settings that the host has; refuses a file that cannot be read as an object."""
    if not FILE.exists():
        return {}
    try:
        found = json.loads(FILE.read_text(encoding="utf-8") or "{}")
    except ValueError as error:
        raise Refused(f"{FILE} is not JSON ({error}); mend it, or take it away") from error
    if not isinstance(found, dict):
        raise Refused(f"{FILE} is not an object; mend it, or take it away")
    return found


def put(settings, *, check):
    """Write settings; none takes the file away. Docker that runs takes them at once."""
    if check:
        return
    if settings:
        FILE.parent.mkdir(mode=0o755, exist_ok=True)
        write(FILE, json.dumps(settings, indent=2) + "\n")
    else:
        discard(FILE)
    if run(["systemctl", "is-active", UNIT], fine=(0, 3, 4)).strip() == "active":
        run(["systemctl", "restart", UNIT])


def present(params, *, check):
    """Merge; give what was done."""
    now, ours = have(), read_json(OURS) or {}
    if address := open_to_all(now):
        raise Refused(f"{FILE} opens Docker to a network without TLS ({address}): whoever reaches it is root here")
    owned = {key: value for key, value in now.items() if ours.get(key) != value}
    was_there = ours.get("was_there", bool(installed([params["package"]])))
    wanted = params["settings"] | ({} if was_there else params["alone"])
    added = {key: value for key, value in wanted.items() if key not in owned}
    merged = {**owned, **added}
    changes = []
    if merged != now:
        changes.append(f"write {', '.join(sorted(added))} into {FILE}")
        put(merged, check=check)
    kept = {**added, "was_there": was_there}
    if kept != ours and not check:
        write(OURS, json.dumps(kept, indent=2, sort_keys=True) + "\n")
    return changes


def absent(*, check):
    """Take ours out; give what was done."""
    ours = read_json(OURS)
    if ours is None:
        return []
    now = have()
    rest = {key: value for key, value in now.items() if ours.get(key) != value}
    changes = [f"remove {OURS}"]
    if rest != now:
        changes.append(f"take what is ours out of {FILE}")
        put(rest, check=check)
    if not check:
        discard(OURS)
    return changes


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "settings": {"type": "dict", "default": {}},
            "alone": {"type": "dict", "default": {}},
            "package": {"type": "str", "default": "docker.io"},
        },
        supports_check_mode=True,
    )
    try:
        with alone(module):
            if module.params["state"] == "present":
                changes = present(module.params, check=module.check_mode)
            else:
                changes = absent(check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
