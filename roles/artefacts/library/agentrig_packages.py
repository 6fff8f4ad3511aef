#!/usr/bin/python3
"""Install exactly the packages of the lock from a signed archive on the host itself, or take ours away."""

from __future__ import annotations

import base64
import pathlib
import re

from ansible.module_utils.agentrig import (
    APT,
    BEFORE,
    STAGING,
    Refused,
    alone,
    discard,
    installed,
    is_there,
    link,
    points_at,
    read_json,
    run,
    sha256_of,
    write,
)
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: agentrig_packages
short_description: Packages of the lock, from an archive on the host itself
description:
  - Puts the staged packages and the archive's signed lists under C(/opt/agentrig/apt), then installs with apt from
    there and nowhere else; the host's own sources and lists are neither read nor changed. Packages that were not
    there before are held, and unattended upgrades are told to leave them alone. A package that
    was there before is upgraded where it is older than the lock's, else left.
  - With O(state=absent) the packages that were not there before are purged, those that others need are left.
options:
  state: {type: str, choices: [present, absent], default: present, description: Installed or taken away.}
  debs: {type: list, elements: dict, default: [], description: "C(name), C(version), C(file), C(digest) of each."}
  lists: {type: dict, default: {}, description: "The archive's C(Packages), C(Release), C(InRelease), and C(key)."}
  masked: {type: dict, default: {}, description: Unit to mask -> the package that would start it.}
  waiting: {type: dict, default: {}, description: Unit to keep from starting while its package is installed -> that.}
  litter: {type: dict, default: {}, description: File that a package makes when installed and forgets -> the package.}
author: [agentrig]
"""
EXAMPLES = r"""
- name: Install the packages of the lock
  agentrig_packages: {debs: [], lists: {}, masked: {nginx.service: nginx}}
"""
RETURN = r"""
changes: {description: What was done or would be, in words., returned: always, type: list}
files: {description: Path of each file of the archive -> its sha256., returned: always, type: dict}
masked: {description: Units that are masked., returned: always, type: list}
left: {description: What stays on the host and why., returned: when absent, type: list}
"""
UNITS = pathlib.Path("/etc/systemd/system")
#: Where a mask lies that is to last for an installation, or until the next boot where that is killed.
UNTIL_BOOT = pathlib.Path("/run/systemd/system")
#: What unattended-upgrades leaves alone (its README, "Unattended-Upgrade::Package-Blacklist": regular expressions that
#: match from a name's beginning), should somebody take a hold off.
BLACKLIST = pathlib.Path("/etc/apt/apt.conf.d/52agentrig")
SOURCE = f"deb [signed-by={APT}/agentrig.gpg] file://{APT} ./\n"
#: apt reads this archive only, and keeps its lists and its cache away from the host's own.
APT_OPTIONS = (
    f"Dir::Etc::SourceList={APT}/agentrig.list",
    "Dir::Etc::SourceParts=-",
    f"Dir::State::Lists={APT}/lists",
    f"Dir::Cache={APT}/cache",
    "APT::Sandbox::User=root",
    "Acquire::Languages=none",
    "Acquire::Check-Date=false",
    "DPkg::Lock::Timeout=120",
    "Dpkg::Use-Pty=0",
    "Dpkg::Options::=--force-confdef",
    "Dpkg::Options::=--force-confold",
    "APT::Get::AllowUnauthenticated=false",
)
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "DEBCONF_NONINTERACTIVE_SEEN": "true"}


def apt(*arguments):
    """Run apt-get on our archive alone."""
    options = [word for option in APT_OPTIONS for word in ("-o", option)]
    return run(["apt-get", "-q", "-y", *options, *arguments], env=QUIET)


def wanted_lists(lists):
    """Give file name -> content of the archive's own files."""
    if not lists:
        return {}
    texts = {name: lists[name].encode() for name in ("Packages", "Release", "InRelease")}
    return texts | {"agentrig.gpg": base64.b64decode(lists["key"]), "agentrig.list": SOURCE.encode()}


def put_archive(debs, lists):
    """Bring the archive on the host to the lock's packages and lists."""
    APT.mkdir(mode=0o755, exist_ok=True)
    for deb in debs:
        path, staged = APT / deb["file"], STAGING / deb["digest"]
        if path.is_file() and sha256_of(path) == deb["digest"]:
            continue
        if sha256_of(staged) != deb["digest"]:
            staged.unlink()
            raise Refused(f"{deb['name']} {deb['version']}: what arrived is not sha256:{deb['digest']}")
        write(path, staged.read_bytes())
        staged.unlink()
    for path in APT.iterdir():
        if path.name not in {deb["file"] for deb in debs} | set(lists):
            discard(path)
    for name, content in lists.items():
        write(APT / name, content)


def archive_differs(debs, lists):
    """Tell whether the archive on the host is another than the lock's. A signature made anew is no difference."""
    if not (debs or lists):
        return False
    files = {path.name for path in APT.iterdir()} - {"lists", "cache"} if APT.is_dir() else set()
    if files != {deb["file"] for deb in debs} | set(lists):
        return True
    fixed = [name for name in lists if name != "InRelease"]
    return any((APT / name).read_bytes() != lists[name] for name in fixed) or any(
        sha256_of(APT / deb["file"]) != deb["digest"] for deb in debs
    )


def is_older(version, other):
    """Tell whether dpkg sorts a version before another."""
    return bool(run(["sh", "-c", 'dpkg --compare-versions "$1" lt "$2" && echo older || :', "-", version, other]))


def to_install(debs, versions, before):
    """Give the packages that must be installed: ours at the very version, others that are older than the lock's."""
    for deb in debs:
        have = versions.get(deb["name"])
        was_there = before.get(deb["name"]) is not None
        if have is None or (have != deb["version"] and (not was_there or is_older(have, deb["version"]))):
            yield deb


def install(debs):
    """Install packages at their versions from our archive; apt's lists and cache of it are thrown away."""
    for folder in (APT / "lists/partial", APT / "cache/archives/partial"):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        apt("update")
        pinned = [f"{deb['name']}={deb['version']}" for deb in debs]
        apt("install", "--no-install-recommends", "--allow-downgrades", "--allow-change-held-packages", *pinned)
    finally:
        discard(APT / "lists")
        discard(APT / "cache")


def install_unstarted(debs, units):
    """Install packages and keep some units from being started by it: another role sets those up first."""
    UNTIL_BOOT.mkdir(parents=True, exist_ok=True)
    for unit in units:
        link(UNTIL_BOOT / unit, "/dev/null")
    try:
        install(debs)
    finally:
        for unit in units:
            discard(UNTIL_BOOT / unit)
        if units:
            run(["systemctl", "daemon-reload"])


def select(names, what):
    """Hold packages, or let them go, as apt-mark does, but without its cache."""
    run(["dpkg", "--set-selections"], feed="".join(f"{name} {what}\n" for name in names))


def blacklist(names):
    """Give the file that keeps unattended upgrades away from packages."""
    lines = "".join('  "^' + re.sub("([.+])", r"[\1]", name) + '$";\n' for name in sorted(names))
    return f"Unattended-Upgrade::Package-Blacklist {{\n{lines}}};\n"


def is_broken():
    """Tell whether dpkg was interrupted: half-configured packages are finished first."""
    return bool(run(["dpkg", "--audit"], fine=(0, 1)).strip())


def steps_to_install(params, lists, before):
    """Give a (words, action) pair for each step, each asked about when the steps before it are done."""
    debs, names = params["debs"], [deb["name"] for deb in params["debs"]]
    if archive_differs(debs, lists):
        yield f"put an archive of {len(debs)} packages", lambda: put_archive(debs, lists)
    for unit in masked_units(params, before):
        if points_at(UNITS / unit) != "/dev/null":
            yield f"mask {unit}", lambda unit=unit: link(UNITS / unit, "/dev/null")
    if debs and is_broken():
        finish = ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"]
        yield "finish an interrupted installation", lambda: run(finish, env=QUIET)
    versions, held = installed(names)
    if missing := list(to_install(debs, versions, before)):
        words = ", ".join(f"{deb['name']} {deb['version']}" for deb in missing)
        new = {deb["name"] for deb in missing if deb["name"] not in versions}
        waiting = [unit for unit, package in params["waiting"].items() if package in new]
        yield f"install {words}", lambda: install_unstarted(missing, waiting)
        _, held = installed(names)  # apt lets go of a hold when it changes the package
    for folder in (APT / "lists", APT / "cache"):
        if is_there(folder):
            yield f"remove {folder}, which an interrupted installation left", lambda folder=folder: discard(folder)
    if loose := [name for name in names if before.get(name) is None and name not in held]:
        yield f"hold {', '.join(loose)}", lambda: select(loose, "hold")
    text = blacklist(name for name in names if before.get(name) is None).encode()
    if names and (not BLACKLIST.is_file() or BLACKLIST.read_bytes() != text):
        yield "keep unattended upgrades away from them", lambda: write(BLACKLIST, text)


def masked_units(params, before):
    """Give the units that are kept from starting: those whose package was not there before."""
    names = {deb["name"] for deb in params["debs"]}
    return [unit for unit, package in params["masked"].items() if before.get(package) is None and package in names]


def present(params, *, check):
    """Bring archive, masks, packages and holds; give the result."""
    lists, before, changes = wanted_lists(params["lists"]), read_json(BEFORE).get("packages", {}), []
    if not before and check:
        before = installed([deb["name"] for deb in params["debs"]])[0]
    for words, action in steps_to_install(params, lists, before):
        changes.append(words)
        if not check:
            action()
    files = {str(path): sha256_of(path) for path in sorted(APT.iterdir()) if path.is_file()} if APT.is_dir() else {}
    files |= {str(BLACKLIST): sha256_of(BLACKLIST)} if BLACKLIST.is_file() else {}
    return {"changed": bool(changes), "changes": changes, "files": files, "masked": masked_units(params, before)}


def removable(names):
    """Give those of the packages that nothing else on the host needs, and for each other who needs it."""
    names, left = list(names), []
    while names:
        done = run(
            ["sh", "-c", 'dpkg --dry-run --purge "$@" 2>&1 || :', "-", *names],
        )
        needed = set(re.findall(r"dependency problems prevent removal of ([^ :]+)", done)) & set(names)
        if not needed:
            break
        for name in sorted(needed):
            who = re.findall(rf"^ (\S+) (?:pre-)?depends on {re.escape(name)}", done, re.MULTILINE)
            left.append(f"package {name} stays: {', '.join(who) or 'another package'} needs it")
        names = [name for name in names if name not in needed]
    return names, left


def sweep(path):
    """Remove a file that a package forgot, and the folders that are empty then and no package's."""
    discard(path)
    for folder in path.parents:
        if any(folder.iterdir()) or run(["dpkg", "--search", str(folder)], fine=(0, 1)).strip():
            break
        folder.rmdir()


def absent(params, *, check):
    """Take away the packages that were not there before, their holds, masks and archive; give the result."""
    before = read_json(BEFORE).get("packages", {})
    names = [deb["name"] for deb in params["debs"]] + [name for name in before if before[name] is None]
    ours = sorted({name for name in names if before.get(name) is None})
    versions, held = installed(ours)
    gone, left = removable(versions)
    changes = [f"purge {name}" for name in gone]
    masked = [unit for unit in params["masked"] if points_at(UNITS / unit) == "/dev/null"]
    masked = [unit for unit in masked if before.get(params["masked"][unit]) is None]
    changes += [f"unmask {unit}" for unit in masked]
    changes += [f"remove {path}" for path in (APT, BLACKLIST) if is_there(path)]
    litter = [path for path, package in params["litter"].items() if package in gone and is_there(pathlib.Path(path))]
    changes += [f"remove {path}" for path in litter]
    was_there = {name: version for name, version in before.items() if version is not None}
    now, _ = installed(list(was_there))
    for name, version in was_there.items():
        upgraded = f", upgraded from {version}" if now.get(name, version) != version else ""
        left.append(f"package {name} {now.get(name, version)} was there before{upgraded}")
    if not check:
        if held:
            select(sorted(held), "install")
        if gone:
            run(["dpkg", "--purge", *gone], env=QUIET)
        for unit in masked:
            discard(UNITS / unit)
        for path in litter:
            sweep(pathlib.Path(path))
        discard(APT)
        discard(BLACKLIST)
    return {"changed": bool(changes), "changes": changes, "left": left, "masked": masked}


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "debs": {"type": "list", "elements": "dict", "default": []},
            "lists": {"type": "dict", "default": {}},
            "masked": {"type": "dict", "default": {}},
            "waiting": {"type": "dict", "default": {}},
            "litter": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        with alone(module):
            work = present if module.params["state"] == "present" else absent
            result = work(module.params, check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
