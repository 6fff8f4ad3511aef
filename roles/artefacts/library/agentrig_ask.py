#!/usr/bin/python3
"""Say which parts of the artefacts a host still lacks, so that nothing is carried twice."""

from __future__ import annotations

import os
from pwd import getpwnam

from ansible.module_utils.agentrig import APT, STAGING, STORE, Refused, alone, marked, sha256_of
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_ask
short_description: Which parts of the artefacts a host lacks
description:
  - Reads only, but for making the staging folder where something must be carried.
options:
  trees: {type: list, elements: dict, required: true, description: Trees with C(key) and C(parts).}
  debs: {type: list, elements: dict, required: true, description: Packages with C(file) and C(digest).}
  user: {type: str, default: root, description: Who will put the missing parts into the staging folder.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Ask what the host lacks
  agentrig_ask: {trees: [], debs: []}
"""
RETURN = r"""
missing: {description: Digests of the parts to carry., returned: always, type: list}
incomplete: {description: Keys of the trees to build; all others were read and are whole., returned: always, type: list}
staging: {description: Folder that the parts are put into., returned: always, type: str}
"""


def missing(params, incomplete):
    """Give the digests of all parts that are needed and not staged in their full length."""
    parts = {}
    for tree in params["trees"]:
        if tree["key"] in incomplete:
            parts |= {part["digest"]: part["bytes"] for part in tree["parts"]}
    for deb in params["debs"]:
        path = APT / deb["file"]
        if not path.is_file() or sha256_of(path) != deb["digest"]:
            parts[deb["digest"]] = deb["bytes"]
    staged = {path.name: path.stat().st_size for path in STAGING.iterdir()} if STAGING.is_dir() else {}
    return sorted(digest for digest, size in parts.items() if staged.get(digest) != size)


def open_staging(user):
    """Make the staging folder, for the connection's user alone."""
    STAGING.mkdir(mode=0o700, exist_ok=True)
    os.chown(STAGING, getpwnam(user).pw_uid, 0)


def main():
    module = AnsibleModule(
        argument_spec={
            "trees": {"type": "list", "elements": "dict", "required": True},
            "debs": {"type": "list", "elements": "dict", "required": True},
            "user": {"type": "str", "default": "root"},
        },
        supports_check_mode=True,
    )
    try:
        with alone(module):
            keys = [tree["key"] for tree in module.params["trees"]]
            incomplete = [key for key in keys if marked(STORE / key, thorough=True) is None]
            wanted = missing(module.params, incomplete)
            if wanted and not module.check_mode:
                open_staging(module.params["user"])
    except (Refused, OSError, KeyError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, missing=wanted, incomplete=incomplete, staging=str(STAGING))


if __name__ == "__main__":
    main()
