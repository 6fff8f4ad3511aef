#!/usr/bin/python3
"""Give Docker the image that sandboxes start from, out of the release's own tarball; or take ours away."""

from __future__ import annotations

import pathlib

from ansible.module_utils.agentrig import STORE, Refused, alone, run
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_image
short_description: The image of the sandboxes
description:
  - Imports C(image.tar) of an artefact under the tag C(agentrig-sandbox:) and the head of its key, with the whole
    key as a label; one that bears the label is there already. Images of other keys that no container uses go.
options:
  key: {type: str, required: true, description: "The artefact's key, 64 hex digits."}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Import
  agentrig_image: {key: "{{ sandbox_host_image }}"}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
"""
NAME, TAG = "agentrig-sandbox", 16
LABEL = "agentrig.key"


def images():
    """Give tag -> the key that its image bears, of ours."""
    listed = run(["docker", "images", NAME, "--format", "{{.Tag}}"]).split()
    form = f'{{{{ index .Config.Labels "{LABEL}" }}}}'
    return {tag: run(["docker", "image", "inspect", "--format", form, f"{NAME}:{tag}"]).strip() for tag in listed}


def imported(key, *, check):
    """Bring the image; give what was done."""
    if run(["systemctl", "is-active", "docker.service"], fine=(0, 3, 4)).strip() != "active":
        if check:
            return ["start docker.service", f"import the image {NAME}:{key[:TAG]}"]
        run(["systemctl", "enable", "--now", "docker.service"])
    there, changes = images(), []
    if there.get(key[:TAG]) != key:
        changes.append(f"import the image {NAME}:{key[:TAG]}")
        if not check:
            tarball = STORE / key / "image.tar"
            if not pathlib.Path(tarball).is_file():
                raise Refused(f"{tarball} is not there")
            run(["docker", "import", "--change", f"LABEL {LABEL}={key}", str(tarball), f"{NAME}:{key[:TAG]}"])
    for tag in sorted(there.keys() - {key[:TAG]}):
        changes.append(f"remove the image {NAME}:{tag}")
        if not check:
            run(["docker", "image", "rm", f"{NAME}:{tag}"], fine=(0, 1))
    return changes


def main():
    module = AnsibleModule(argument_spec={"key": {"type": "str", "required": True}}, supports_check_mode=True)
    try:
        with alone(module):
            changes = imported(module.params["key"], check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
