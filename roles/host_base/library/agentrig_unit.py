#!/usr/bin/python3
"""Bring one systemd unit of ours to run what is current, and wait until it answers; or take it away."""

from __future__ import annotations

import contextlib
import pathlib
import time
import urllib.error
import urllib.request

from ansible.module_utils.agentrig import (
    STARTED,
    Refused,
    alone,
    discard,
    is_there,
    link,
    listeners_on,
    points_at,
    processes_of,
    run,
    stranger_on,
    write,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_unit
short_description: One systemd unit of ours
description:
  - Links the unit, and starts it anew when what it was started with is not what is asked for. What it was started
    with is kept under C(/opt/agentrig/started), so that a start that was missed is made up for.
  - Waits until the unit itself, and no other program, listens on its port, and until its address answers.
options:
  name: {type: str, required: true, description: "The unit's name, with its suffix."}
  state:
    {type: str, choices: [started, restarted, stopped, absent], default: started, description: What is to be reached.}
  links: {type: list, elements: dict, default: [], description: "Links that make it known, C(path) and C(target)."}
  fingerprint: {type: str, default: '', description: Digest of all that it is started with.}
  test: {type: list, elements: str, default: [], description: Command that must succeed before it is started.}
  port: {type: int, default: 0, description: TCP port that it must listen on; 0 for none.}
  health: {type: str, default: '', description: Address that must answer; empty for none.}
  health_statuses: {type: list, elements: int, default: [200], description: HTTP statuses that mean it is well.}
  seconds: {type: int, default: 60, description: How long it may take until it answers.}
  together:
    type: list
    elements: str
    default: []
    description: Units that are started anew in the same step where they run, lest they go on by what was before.
  purge: {type: bool, default: false, description: With O(state=absent) also its own folders (logs, state, cache).}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Run the unit
  agentrig_unit: {name: agentrig-runtime.service, port: 18080, health: "http://127.0.0.1:18080/health"}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
seconds: {description: "How long it took; of a start, until it was well.", returned: always, type: float}
"""
UNITS = pathlib.Path("/etc/systemd/system")
#: Folders that systemd makes for a unit, by the property that names them.
OWN_FOLDERS = {
    "LogsDirectory": "/var/log",
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "RuntimeDirectory": "/run",
    "ConfigurationDirectory": "/etc",
}
#: Where others put files that change a unit of ours (systemd.unit(5), systemctl(1) "set-property", "edit").
ADDED = tuple(pathlib.Path(root, "systemd", name) for root in ("/etc", "/run") for name in ("system", "system.control"))
POLL_SECONDS = 0.2
#: A unit that systemd had to start this often in one wait is failing.
FAILING_STARTS = 3


def show(name, *properties):
    """Give properties of a unit as systemd tells them."""
    shown = run(["systemctl", "show", name, *(f"--property={each}" for each in properties)])
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def is_active(name):
    """Tell whether a unit runs."""
    return show(name, "ActiveState").get("ActiveState") == "active"


def started_with(name):
    """Give the fingerprint of what the unit was last started with, or an empty string."""
    try:
        return (STARTED / name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def last_words(name):
    """Give the last line that the unit wrote to the journal."""
    said = run(["journalctl", "--unit", name, "--lines=12", "--output=cat", "--no-pager", "--quiet"], fine=(0, 1))
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    own = [
        line
        for line in lines
        if not line.startswith((name, "Started ", "Stopped ", "Starting ", "Failed ", "Stopping "))
    ]
    return (own or lines or ["it said nothing"])[-1][:300]


def why_not_well(params):
    """Give in a few words why the unit is not well, or None when it is."""
    if port := params["port"]:
        ours = processes_of(params["name"])
        if not any(pid in ours for pid in listeners_on(port)):
            return f"nothing of it listens on port {port}"
    if params["health"]:
        try:
            with urllib.request.urlopen(params["health"], timeout=5) as answer:  # noqa: S310 - the role gives http
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError as error:
            return f"{params['health']}: {error}"
        if status not in params["health_statuses"]:
            return f"{params['health']} answers {status}"
    return None


def wait(params):
    """Wait until the unit is well; refuse with its last words when it fails or takes too long."""
    name, end = params["name"], time.monotonic() + params["seconds"]
    begun = int(show(name, "NRestarts").get("NRestarts") or 0)
    while True:
        state = show(name, "ActiveState", "NRestarts")
        failing = int(state.get("NRestarts") or 0) - begun >= FAILING_STARTS
        if state.get("ActiveState") == "failed" or failing:
            raise Refused(f"{name} does not stay up: {last_words(name)}")
        reason = why_not_well(params) if state.get("ActiveState") == "active" else state.get("ActiveState", "unknown")
        if reason is None:
            return
        if time.monotonic() > end:
            raise Refused(
                f"{name} is not ready after {params['seconds']} s: {reason}; it last said: {last_words(name)}"
            )
        time.sleep(POLL_SECONDS)


def hangs(params):
    """Tell whether the unit has had all the time it may take, and still does not answer."""
    since = int(show(params["name"], "ActiveEnterTimestampMonotonic").get("ActiveEnterTimestampMonotonic") or 0)
    had_time = time.clock_gettime(time.CLOCK_MONOTONIC) - since / 1e6 > params["seconds"]
    return had_time and why_not_well(params) is not None


def start(params):
    """Start the unit anew, after its test, and remember what it was started with."""
    name = params["name"]
    if params["port"] and (who := stranger_on(params["port"], name)):
        raise Refused(f"port {params['port']}, meant for {name}, is taken by {who}")
    if params["test"]:
        run(params["test"])
    run(["systemctl", "daemon-reload"])
    discard(STARTED / name)
    run(["systemctl", "reset-failed", name], fine=(0, 1))
    try:
        run(["systemctl", "restart", name, *[each for each in params["together"] if is_active(each)]])
    except Refused as refused:
        raise Refused(f"{name} does not start: {last_words(name)}") from refused
    wait(params)
    STARTED.mkdir(mode=0o755, exist_ok=True)
    write(STARTED / name, params["fingerprint"] + "\n")


def drop_ins(name):
    """Give the files that others put beside the unit, in folders of its name or of what its name begins with."""
    stem, suffix = pathlib.Path(name).stem, pathlib.Path(name).suffix
    words = stem.split("-")
    folders = [f"{name}.d", *(f"{'-'.join(words[:count])}-{suffix}.d" for count in range(len(words) - 1, 0, -1))]
    return [path for root in ADDED for folder in folders for path in sorted((root / folder).glob("*.conf"))]


def started(params, *, check):
    """Bring the links and the unit; give what was done."""
    name, changes = params["name"], []
    for path in drop_ins(name):
        changes.append(f"remove {path}")
        if not check:
            discard(path)
            with contextlib.suppress(OSError):
                path.parent.rmdir()
    for each in params["links"]:
        path = pathlib.Path(each["path"])
        if points_at(path) != each["target"]:
            changes.append(f"link {path}")
            if not check:
                path.parent.mkdir(mode=0o755, exist_ok=True)
                discard(path)
                link(path, each["target"])
    stale = bool(changes) or started_with(name) != params["fingerprint"]
    if stale or not is_active(name) or hangs(params):
        changes.append(f"start {name}")
        if not check:
            start(params)
    elif not check:
        wait(params)
    return changes


def restarted(params, *, check):
    """Start the unit anew whatever it was started with, and wait until it is well; give what was done."""
    if not check:
        start(params)
    return [f"start {params['name']} anew"]


def stopped(params, *, check):
    """Stop the unit and keep it from the next boot; its file stays for reading."""
    name = params["name"]
    enabling = sorted(UNITS.glob(f"*.wants/{name}"))
    running = show(name, "ActiveState").get("ActiveState") not in (None, "inactive", "failed")
    if not check:
        for path in enabling:
            discard(path)
        if running:
            run(["systemctl", "stop", name])
    return [f"remove {path}" for path in enabling] + ([f"stop {name}"] if running else [])


def absent(params, *, check):
    """Stop the unit and take its links and, with purge, its own folders away; give what was done."""
    name = params["name"]
    folders = show(name, *OWN_FOLDERS) if params["purge"] else {}
    changes = stopped(params, check=check)
    paths = {pathlib.Path(each["path"]) for each in params["links"]} | {UNITS / name, UNITS / f"{name}.d"}
    paths |= {STARTED / name}
    for key, base in OWN_FOLDERS.items():
        for own in folders.get(key, "").split():
            paths |= {pathlib.Path(base, own), pathlib.Path(base, "private", own)}
    if params["purge"]:  # after a plain down the unit is gone, and can no longer say which folders were its own
        paths |= {pathlib.Path(base, pathlib.Path(name).stem) for base in ("/var/log", "/var/lib", "/var/cache")}
    gone = sorted(path for path in paths if is_there(path))
    changes += [f"remove {path}" for path in gone]
    if gone and not check:
        for path in gone:
            discard(path)
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "reset-failed", name], fine=(0, 1))
    return changes


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "restarted", "stopped", "absent"], "default": "started"},
            "links": {"type": "list", "elements": "dict", "default": []},
            "fingerprint": {"type": "str", "default": ""},
            "test": {"type": "list", "elements": "str", "default": []},
            "port": {"type": "int", "default": 0},
            "health": {"type": "str", "default": ""},
            "health_statuses": {"type": "list", "elements": "int", "default": [200]},
            "seconds": {"type": "int", "default": 60},
            "together": {"type": "list", "elements": "str", "default": []},
            "purge": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    work = {"started": started, "restarted": restarted, "stopped": stopped, "absent": absent}[module.params["state"]]
    began = time.monotonic()
    try:
        with alone(module):
            changes = work(module.params, check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changes), changes=changes, seconds=round(time.monotonic() - began, 2))


if __name__ == "__main__":
    main()
