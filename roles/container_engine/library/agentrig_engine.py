#!/usr/bin/python3
"""Set Docker up beside what its owner has set, run it, and import our image; or take ours away."""

from __future__ import annotations

import contextlib
import grp
import json
import pathlib
import pwd
import stat

from ansible.module_utils import agentrig_docker as engine
from ansible.module_utils.agentrig import (
    BEFORE,
    ROOT,
    STORE,
    Refused,
    alone,
    discard,
    installed,
    is_there,
    points_at,
    read_json,
    run,
    sha256_of,
    write,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_engine
short_description: Docker and the image of the sandboxes
description:
  - Merges keys into C(/etc/docker/daemon.json). What its owner has set stays; an engine whose interface is open on TCP
    without TLS, or to every user, is refused. Which keys are ours is kept in C(/opt/agentrig/engine.json).
  - Runs Docker and imports the image of a key under the name C(agentrig-sandbox), where it is not there already.
  - With O(state=absent) containers and images of ours and our keys go; with O(purge) also all that Docker keeps, where
    it was not there before us. With O(state=swept) images go whose artefact is no longer on the host.
options:
  state: {type: str, choices: [present, absent, swept], default: present, description: What is to be reached.}
  settings: {type: dict, default: {}, description: Keys of the engine's configuration file.}
  own_settings: {type: dict, default: {}, description: Further keys where the engine was not there before.}
  image: {type: str, default: '', description: Key of the image; empty for none.}
  purge: {type: bool, default: false, description: Whether what the engine keeps goes too.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Set the container engine up
  agentrig_engine: {settings: {live-restore: true}}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
files: {description: "Each file of it, C(path), C(mode), C(owner), C(group), C(sha256).", returned: always, type: list}
units: {description: Its units as they must be, with the files that change them., returned: always, type: list}
images: {description: "Name and key of the image.", returned: always, type: list}
"""
RECORD = ROOT / "engine.json"
DAEMON = pathlib.Path("/etc/docker/daemon.json")
CONTAINERD = pathlib.Path("/etc/containerd/config.toml")
#: containerd's own door to Kubernetes, which listens on a TCP port; Docker does without it.
NO_CRI = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
#: Keys that only go together: options of one driver of logs are unknown to another.
TOGETHER = ("log-driver", "log-opts")
SWARM = pathlib.Path("/var/lib/docker/swarm/docker-state.json")
#: Package -> those from its maker's own archive that stand for it.
INSTEAD = {"docker.io": ("docker-ce",), "containerd": ("containerd.io",)}
MASKS = pathlib.Path("/run/systemd/system")


def is_ours(package):
    """Tell whether a package was not on the host before us."""
    if BEFORE.is_file():
        return read_json(BEFORE).get("packages", {}).get(package, "another's") is None
    return not installed([package, *INSTEAD.get(package, ())])[0]


def text_of(path):
    """Give a file's text, or None where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else None


def document_of(text):
    """Give the engine's configuration; refuse one that nobody can read."""
    try:
        document = json.loads(text) if text and text.strip() else {}
    except ValueError as error:
        raise Refused(f"{DAEMON} is no JSON ({error}): mend it, then run it again") from None
    if not isinstance(document, dict):
        raise Refused(f"{DAEMON} holds no keys: mend it, then run it again")
    return document


def without_ours(document, record):
    """Give the configuration without the keys that we put there and that are still as we put them."""
    ours = record.get("settings", {})
    return {key: value for key, value in document.items() if key not in ours or ours[key] != value}


def additions(theirs, settings):
    """Give the keys of ours that go into the file; a swarm's engine takes no live-restore (dockerd(8))."""
    left = {key: value for key, value in settings.items() if key != "live-restore"} if SWARM.is_file() else settings
    return added_to(theirs, engine.flags(), left)


def added_to(theirs, words, settings):
    """Give the keys of ours that the engine's owner has set nowhere, neither in the file nor by a flag."""
    flagged = {word.split("=", 1)[0].removeprefix("--") for word in words if word.startswith("--")}
    set_there = set(theirs) | flagged | ({"log-opts"} if "log-opt" in flagged else set())
    if set_there & set(TOGETHER):
        set_there |= set(TOGETHER)
    return {key: value for key, value in settings.items() if key not in set_there}


def put_settings(theirs, added, record):
    """Write the configuration, what of it is ours remembered first."""
    write(RECORD, json.dumps(record | {"settings": added}, indent=2, sort_keys=True) + "\n")
    put(DAEMON, json.dumps(theirs | added, indent=2) + "\n")


def put(path, text):
    """Write a file with the mode and owner that it has, or root's, mode 0644."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    about = path.stat() if path.is_file() else None
    if about is None:
        write(path, text)
    else:
        write(path, text, stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid)


def fingerprint():
    """Give the digests of what the engine reads when it starts."""
    return {str(path): sha256_of(path) for path in (CONTAINERD, DAEMON) if path.is_file()}


def steps_to_set_up(params):
    """Give a (words, action) pair for each step, each asked about when the steps before it are done."""
    text = text_of(DAEMON)
    document, record = document_of(text), read_json(RECORD)
    if why := engine.exposed(document):
        raise Refused(f"the host's Docker is root for everybody who reaches it: {why}; close that first")
    ours = is_ours("docker.io")
    first = {"original": text, "tables": engine.tables(), "containerd": is_there(CONTAINERD)}
    record = first | record
    theirs = without_ours(document, record)
    added = additions(theirs, params["settings"] | (params["own_settings"] if ours else {}))
    if theirs | added != document or record.get("settings") != added:
        words = f"merge {', '.join(sorted(added)) or 'nothing'} into {DAEMON}"
        yield words, lambda: put_settings(theirs, added, record)
    if ours and is_ours("containerd") and "disabled_plugins" not in (configuration := text_of(CONTAINERD) or ""):
        yield f"close containerd's TCP port in {CONTAINERD}", lambda: put(CONTAINERD, without_cri(configuration))
    yield from steps_to_run(ours=ours)
    if engine.SOCKET.exists() and stat.S_IMODE(engine.SOCKET.stat().st_mode) & 0o007:
        yield f"close {engine.SOCKET} to all but root and its group", lambda: engine.SOCKET.chmod(0o660)
    if key := params["image"]:
        name = name_of(key)
        if not engine.answers() or engine.key_of(name) != key:
            yield f"import the image {name}", lambda: import_image(key, name)


def without_cri(configuration):
    """Give containerd's configuration with its door to Kubernetes closed: a key of the first level comes first."""
    lines = configuration.splitlines(keepends=True) or ["version = 2\n"]
    place = next((number for number, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    return "".join([*lines[:place], NO_CRI, *lines[place:]])


def steps_to_run(*, ours):
    """Give the steps that have the engine run as it is set up: ours starts anew, another's reads its file again."""
    for unit in engine.UNITS:
        if points_at(MASKS / unit) == "/dev/null":
            yield f"let {unit} start", lambda unit=unit: unmask(unit)
        if engine.show(unit, "UnitFileState").get("UnitFileState") != "enabled":
            yield f"enable {unit}", lambda unit=unit: run(["systemctl", "enable", unit])
    idle = [unit for unit in engine.UNITS if not engine.is_active(unit)]
    if idle:
        yield f"start {', '.join(idle)}", lambda: start(idle)
    elif read_json(RECORD).get("read") != fingerprint():
        units = ("containerd.service", "docker.service")
        again = ["systemctl", "restart", *units] if ours else ["systemctl", "reload", "docker.service"]
        yield "have Docker read its settings", lambda: have_read(again)


def unmask(unit):
    """Take a mask away that was to last for an installation."""
    discard(MASKS / unit)
    run(["systemctl", "daemon-reload"])


def start(units):
    """Start what does not run."""
    run(["systemctl", "reset-failed", *units], fine=(0, 1))
    have_read(["systemctl", "start", *units])


def have_read(command):
    """Run what makes the engine read its files, and remember what it read."""
    run(command)
    record = read_json(RECORD) | {"read": fingerprint()}
    write(RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def name_of(key):
    """Give the name of an image of ours."""
    return f"{engine.NAME}:{key[:16]}"


def import_image(key, name):
    """Import an artefact of the host as an image that tells its key."""
    tarball = STORE / key / "image.tar"
    if not tarball.is_file():
        raise Refused(f"{tarball} is not on the host")
    told = ["--change", f"LABEL {engine.LABEL}={key}", "--change", "ENV LANG=C.UTF-8"]
    engine.docker("import", *told, str(tarball), name)


def present(params, *, check):
    """Set the engine up; give what was done and what it is now."""
    changes = []
    for words, action in steps_to_set_up(params):
        changes.append(words)
        if not check:
            action()
    if not check:
        for unit in ("docker.service", *(["containerd.service"] if is_ours("containerd") else [])):
            if port := engine.tcp_port_of(unit):
                raise Refused(f"{unit} listens on TCP port {port}: what lets it do so must be taken away first")
    paths = [RECORD, DAEMON, *([CONTAINERD] if is_ours("containerd") else [])]
    drop_ins = {unit: engine.show(unit, "DropInPaths").get("DropInPaths", "").split() for unit in engine.UNITS}
    return changes, {
        "files": [about(path) for path in paths if path.is_file()],
        "units": [
            {"name": unit, "enabled": True, "active": True, "drop_ins": files} for unit, files in drop_ins.items()
        ],
        "images": [{"name": name_of(params["image"]), "key": params["image"]}] if params["image"] else [],
    }


def about(path):
    """Give what a file is."""
    stated = path.stat()
    owner, group = str(stated.st_uid), str(stated.st_gid)
    with contextlib.suppress(KeyError):
        owner, group = pwd.getpwuid(stated.st_uid).pw_name, grp.getgrgid(stated.st_gid).gr_name
    mode = f"{stat.S_IMODE(stated.st_mode):04o}"
    return {"path": str(path), "mode": mode, "owner": owner, "group": group, "sha256": sha256_of(path)}


def steps_away(params):
    """Give a (words, action) pair for each thing of ours that goes."""
    record = read_json(RECORD)
    everything = params["purge"] and is_ours("docker.io") and bool(installed(["docker.io"])[0])
    if engine.answers():
        if everything:
            engine.refuse_strangers()
        for name in engine.containers(ours=True):
            yield f"remove container {name}", lambda name=name: engine.docker("rm", "--force", "--volumes", name)
        for image, key in engine.images().items():
            yield f"remove image {name_of(key)}", lambda image=image: engine.docker("image", "rm", "--force", image)
    yield from steps_out_of_settings(record)
    if everything:
        yield "stop Docker and remove what it keeps", lambda: take_engine(record)
    elif is_there(RECORD) and engine.answers() and record.get("read") != fingerprint():
        yield "have Docker read its settings", lambda: have_read(["systemctl", "reload", "docker.service"])
    if params["purge"] and is_there(RECORD):
        yield f"remove {RECORD}", lambda: discard(RECORD)


def steps_out_of_settings(record):
    """Give the step that takes our keys out of the engine's configuration; a file of ours alone goes."""
    if not record.get("settings"):
        return
    text = text_of(DAEMON)
    theirs, original = without_ours(document_of(text), record), record.get("original")
    if original is not None and document_of(original) == theirs:
        left = original
    else:
        left = json.dumps(theirs, indent=2) + "\n" if theirs or original is not None else None
    if text is not None:
        words = f"take ours out of {DAEMON}" if left is not None else f"remove {DAEMON}"
        yield words, lambda: put(DAEMON, left) if left is not None else discard(DAEMON)
    kept = json.dumps(record | {"settings": {}}, indent=2, sort_keys=True) + "\n"
    yield f"forget our keys of {DAEMON}", lambda: write(RECORD, kept)


def take_engine(record):
    """Stop an engine that was not there before us, and leave nothing of what it made by itself."""
    engine.leave_nothing(record.get("tables", []))
    mine = [unit for unit in engine.UNITS if unit != "containerd.service" or is_ours("containerd")]
    run(["systemctl", "disable", *mine])
    if not record.get("containerd") and not run(["dpkg", "--search", str(CONTAINERD)], fine=(0, 1)).strip():
        discard(CONTAINERD)
        with contextlib.suppress(OSError):
            CONTAINERD.parent.rmdir()
    with contextlib.suppress(KeyError):
        if not grp.getgrnam("docker").gr_mem:
            run(["groupdel", "docker"])


def absent(params, *, check):
    """Take ours away; give what was done."""
    changes = []
    for words, action in steps_away(params):
        changes.append(words)
        if not check:
            action()
    return changes, {}


def swept(_, *, check):
    """Remove images whose artefact is gone; one that a container still uses stays."""
    gone = {one: key for one, key in (engine.images() if engine.answers() else {}).items() if not is_there(STORE / key)}
    for image in () if check else gone:
        engine.docker("image", "rm", image, fine=(0, 1))
    return [f"remove image {name_of(key)}" for key in gone.values()], {}


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent", "swept"], "default": "present"},
            "settings": {"type": "dict", "default": {}},
            "own_settings": {"type": "dict", "default": {}},
            "image": {"type": "str", "default": ""},
            "purge": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    work = {"present": present, "absent": absent, "swept": swept}[module.params["state"]]
    try:
        with alone(module):
            changes, told = work(module.params, check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes, **told)


if __name__ == "__main__":
    main()
