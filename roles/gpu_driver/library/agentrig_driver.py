#!/usr/bin/python3
"""Keep nouveau out, load the module of NVIDIA's driver, set the cards; say where a reboot is needed, or no module."""

from __future__ import annotations

import pathlib
import platform
import re
import shutil

from ansible.module_utils.agentrig import Refused, alone, discard, run, write
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_driver
short_description: The module of NVIDIA's driver, and the files around it
description:
  - Writes the files, makes the first file system of the kernel anew where they keep nouveau out, then loads the module.
  - In a container no module can be loaded; the module of its machine counts, and that is said in RV(notes).
  - Where the loaded module is not the one on the disk, or nouveau has the cards, the task fails with RV(reboot).
options:
  state: {type: str, choices: [present, absent], default: present, description: Put there or taken away.}
  branch: {type: str, default: '', description: Branch of the packages that were installed; empty to load nothing.}
  files: {type: list, elements: dict, default: [], description: "Files, C(path) and C(content)."}
  unit: {type: str, default: '', description: Unit that sets the cards.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Keep nouveau out and the driver where it is
  agentrig_driver: {branch: "580", files: [], unit: agentrig-gpu.service}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
notes: {description: What its owner should know, a sentence each., returned: always, type: list}
reboot: {description: Why the host must be rebooted before it goes on., returned: on failure, type: str}
"""
#: All files that are ever written here.
OURS = (
    pathlib.Path("/etc/apt/apt.conf.d/53agentrig-driver"),
    pathlib.Path("/etc/modprobe.d/agentrig-nouveau.conf"),
)
UNIT = "agentrig-gpu.service"
LOADED = pathlib.Path("/proc/driver/nvidia/version")
_VERSION = re.compile(r"\b(\d{3,4}\.\d+(?:\.\d+)?)\b")


def wanted_files(files):
    """Give path -> bytes; refuse a path that is none of ours."""
    wanted = {pathlib.Path(each["path"]): each["content"].encode() for each in files}
    if strange := [path for path in wanted if path not in OURS]:
        raise Refused(f"{strange[0]} is no file of the driver's")
    return wanted


def file_steps(wanted):
    """Give a (words, action) pair for each file that is missing, other or too much, and for what follows from it."""
    moved = False
    for path in OURS:
        content = wanted.get(path)
        now = path.read_bytes() if path.is_file() else None
        if content is not None and now != content:
            yield f"write {path}", lambda path=path, content=content: write(path, content)
            moved = moved or path.parent.name == "modprobe.d"
        elif content is None and now is not None:
            yield f"remove {path}", lambda path=path: discard(path)
            moved = moved or path.parent.name == "modprobe.d"
    if moved and (tool := shutil.which("update-initramfs", path="/usr/sbin:/usr/bin:/sbin:/bin")):
        yield "make the kernel's first file system anew", lambda: run([tool, "-u"])


def loaded_version():
    """Give the version of the loaded module, None where none is."""
    try:
        said = _VERSION.search(LOADED.read_text(encoding="utf-8"))
    except OSError:
        return None
    return said[1] if said else None


def on_disk():
    """Give the version of the module that is made for the running kernel, None where there is none."""
    said = run(["sh", "-c", "modinfo -F version nvidia 2>/dev/null || :"]).strip()
    return said or None


def is_container():
    """Tell whether the host is a container, whose kernel is its machine's."""
    return run(["sh", "-c", "systemd-detect-virt --container || :"]).strip() not in {"", "none"}


def has_module(name):
    """Tell whether the kernel runs a module."""
    return pathlib.Path("/sys/module", name).is_dir()


def made_for_another():
    """Give a kernel other than the running one that a module was made for, None where there is none."""
    here = platform.release()
    for folder in sorted(pathlib.Path("/lib/modules").glob("*")):
        if folder.name != here and any(folder.rglob("nvidia.ko*")):
            return folder.name
    return None


def reboot_reason(loaded, disk, *, nouveau, other, kernel):
    """Give why nothing but a reboot helps, None where something else does or all is well. Pure.

    ``loaded`` and ``disk`` are the module's versions, ``other`` a kernel that one is made for while ``kernel`` runs.
    """
    if loaded and disk and loaded != disk:
        return f"the loaded NVIDIA module is {loaded}, the installed driver {disk}"
    if not loaded and nouveau:
        return "nouveau has the cards until the next start"
    if not loaded and not disk and other:
        return f"the NVIDIA module is made for the kernel {other}, and {kernel} runs"
    return None


def not_loaded(said, *, container, kernel):
    """Give what to say of a module that modprobe did not load in a container; refuse elsewhere. Pure."""
    said = said or "modprobe said nothing"
    if container:
        return (
            f"the NVIDIA module was not loaded: this host is a container, and runs its machine's kernel {kernel}"
            f" ({said}); the driver that its machine has loaded counts"
        )
    if re.search(r"key was rejected|required key not available", said, re.IGNORECASE):
        raise Refused(
            "Secure Boot does not let the NVIDIA module in: its key is not enrolled. mokutil --import "
            "/var/lib/dkms/mok.pub, reboot, choose Enroll MOK, then run it again"
        )
    raise Refused(f"the NVIDIA module does not load in the kernel {kernel}: {said}")


def load():
    """Load the module where none is; give (changes, notes, why a reboot is needed)."""
    loaded, kernel, container = loaded_version(), platform.release(), is_container()
    if not container:
        nouveau = has_module("nouveau")
        why = reboot_reason(loaded, on_disk(), nouveau=nouveau, other=made_for_another(), kernel=kernel)
        if why:
            return [], [], why
    if loaded:
        return [], [], ""
    said = run(["sh", "-c", "modprobe nvidia 2>&1 || :"]).strip()
    if loaded := loaded_version():
        return [f"load the NVIDIA module {loaded}"], [], ""
    return [], [not_loaded(said, container=container, kernel=kernel)], ""


def unit_steps(unit):
    """Give the step that starts the unit which sets the cards, where they can be set and it has not."""
    if not unit or not loaded_version():
        return
    shown = run(["systemctl", "show", "--property=ActiveState,NeedDaemonReload", unit])
    if "ActiveState=active" not in shown or "NeedDaemonReload=yes" in shown:

        def start():
            run(["systemctl", "daemon-reload"])
            run(["systemctl", "restart", unit])

        yield f"set the cards by {unit}", start


def present(params, *, check):
    """Bring files, module and settings; give the result."""
    changes, notes, reboot = [], [], ""
    for words, action in [*file_steps(wanted_files(params["files"]))]:
        changes.append(words)
        if not check:
            action()
    if params["branch"] and not check:
        did, notes, reboot = load()
        changes += did
    for words, action in unit_steps("" if reboot else params["unit"]):
        changes.append(words)
        if not check:
            action()
    return {"changed": bool(changes), "changes": changes, "notes": notes, "reboot": reboot}


def absent(*, check):
    """Take the files away; the module stays loaded until the next start."""
    steps = [*file_steps({})]
    for _, action in [] if check else steps:
        action()
    if not check:
        run(["systemctl", "stop", UNIT], fine=(0, 5))
    return {"changed": bool(steps), "changes": [words for words, _ in steps], "notes": [], "reboot": ""}


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "branch": {"type": "str", "default": ""},
            "files": {"type": "list", "elements": "dict", "default": []},
            "unit": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        with alone(module):
            if module.params["state"] == "present":
                result = present(module.params, check=module.check_mode)
            else:
                result = absent(check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    if result["reboot"]:
        module.fail_json(msg=f"{result['reboot']}: the host must be rebooted", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
