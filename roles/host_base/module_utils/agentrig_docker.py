"""Docker on a host, as the module ``agentrig_engine`` sees it: who reaches it, what of it is ours, and away again."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil

from ansible.module_utils.agentrig import Refused, discard, is_there, run

#: The name of our images, and the label by which each tells its key; containers have it of their image.
NAME, LABEL = "agentrig-sandbox", "agentrig.key"
SOCKET = pathlib.Path("/run/docker.sock")
#: In the order in which they are started.
UNITS = ("containerd.service", "docker.socket", "docker.service")
#: What the engine makes by itself besides what its packages bring.
LEAVINGS = ("/var/lib/docker", "/var/lib/containerd", "/run/docker", "/run/containerd", "/run/docker.pid",
            "/run/docker.sock", "/etc/docker/key.json")  # fmt: skip
#: What dockerd names its own chains by, its bridge, and its table's families.
CHAIN, BRIDGE = re.compile(r"DOCKER(-[A-Z0-9-]+)?$"), "docker0"


def show(unit, *properties):
    """Give properties of a unit as systemd tells them."""
    shown = run(["systemctl", "show", unit, *(f"--property={each}" for each in properties)])
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def is_active(unit="docker.service"):
    """Tell whether a unit of the engine runs."""
    return show(unit, "ActiveState").get("ActiveState") == "active"


def flags():
    """Give the words that dockerd is started with, by its unit and by the file of defaults that this reads."""
    words = re.findall(r"argv\[\]=(.*?) ; ", show("docker.service", "ExecStart").get("ExecStart", ""))
    defaults = pathlib.Path("/etc/default/docker")
    with contextlib.suppress(OSError):
        words += re.findall(r"^\s*DOCKER_OPTS=(.*)$", defaults.read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    for text in words:
        with contextlib.suppress(ValueError):
            found += [part for word in shlex.split(text) for part in word.split()]
    return found


def exposed(document):
    """Give in words where the engine's interface is open to more than root and its group, or None."""
    return opened(document, flags(), show("docker.socket", "Listen", "SocketMode"))


def opened(document, words, socket):
    """Give the same from its configuration, the words it is started with, and its socket's properties."""
    hosts = document.get("hosts") or []
    hosts = list(hosts) if isinstance(hosts, list) else [hosts]
    for number, word in enumerate(words):
        if word in ("-H", "--host"):
            hosts += words[number + 1 : number + 2]
        elif found := re.match(r"(?:--host=|-H=?)(.+)", word):
            hosts.append(found[1])
    verified = document.get("tlsverify") is True or bool({"--tlsverify", "--tlsverify=true"} & set(words))
    for host in hosts:
        if str(host).startswith(("tcp:", "http:")) and not verified:
            return f"it listens on {host} without tlsverify"
    streams = re.findall(r"(\S+) \(Stream\)", socket.get("Listen", ""))
    if open_to_all := [stream for stream in streams if not stream.startswith("/")]:
        return f"docker.socket listens on {open_to_all[0]}"
    if int(socket.get("SocketMode") or "0660", 8) & 0o007:
        return f"docker.socket opens {SOCKET} to all, with the mode {socket['SocketMode']}"
    return None


def tcp_port_of(unit):
    """Give a TCP port on which a unit's own process listens, or None."""
    pid, inodes = show(unit, "MainPID").get("MainPID", "0"), {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    inodes[f"socket:[{fields[9]}]"] = int(fields[1].rsplit(":", 1)[1], 16)
    for path in pathlib.Path("/proc", pid, "fd").glob("*") if pid != "0" else ():
        with contextlib.suppress(OSError):
            if (port := inodes.get(str(path.readlink()))) is not None:
                return port
    return None


def docker(*words, fine=(0,)):
    """Run the engine's command and give its output."""
    return run(["docker", *words], fine=fine)


def answers():
    """Tell whether there is an engine to talk to."""
    return shutil.which("docker", path="/usr/sbin:/usr/bin:/sbin:/bin") is not None and is_active()


def key_of(image):
    """Give the key that an image's label tells, or None where there is no such image."""
    said = docker("image", "inspect", "--format", "{{json .Config.Labels}}", image, fine=(0, 1)).strip()
    labels = json.loads(said) if said.startswith(("{", "null")) else None
    return None if not said.startswith(("{", "null")) else (labels or {}).get(LABEL, "")


def images():
    """Give id -> key of our images."""
    listed = docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={LABEL}").split()
    return {one: key_of(one) for one in dict.fromkeys(listed)}


def containers(*, ours):
    """Give the names of the containers that were made from our images, or of the others."""
    every = docker("ps", "--all", "--format", "{{.Names}}").split()
    mine = set(docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"label={LABEL}").split())
    return [name for name in every if (name in mine) is ours]


def strangers():
    """Give what others keep in the engine: containers that are not of our images, and volumes."""
    volumes = docker("volume", "ls", "--quiet").split()
    ours = set(docker("volume", "ls", "--quiet", "--filter", f"label={LABEL}").split())
    found = [f"container {name}" for name in containers(ours=False)]
    return found + [f"volume {name}" for name in volumes if name not in ours]


def tables():
    """Give the tables of nftables, as ``ip nat``; none where there is no nft to ask."""
    if shutil.which("nft", path="/usr/sbin:/sbin") is None:
        return []
    return re.findall(r"^table (\S+ \S+)", run(["nft", "list", "tables"]), re.MULTILINE)


def leave_nothing(before):
    """Stop the engine and take away all that it made by itself; ``before`` are the tables that were there earlier."""
    if answers():
        for network in docker("network", "ls", "--quiet", "--filter", "type=custom").split():
            docker("network", "rm", network)
    run(["systemctl", "stop", "docker.socket", "docker.service", "containerd.service"])
    unmount([path for path in LEAVINGS if is_there(pathlib.Path(path))])
    if pathlib.Path("/sys/class/net", BRIDGE).exists():
        run(["ip", "link", "delete", BRIDGE])
    for command in ("iptables", "ip6tables"):
        if shutil.which(command, path="/usr/sbin:/sbin"):
            for table in ("filter", "nat", "raw", "mangle"):
                forget_rules(command, table)
    for table in set(tables()) - set(before):
        forget_table(table)
    for path in map(pathlib.Path, LEAVINGS):
        clear(path)


def unmount(folders):
    """Take every mount below some folders away, the deepest first; a folder that is one itself stays."""
    mounts = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    below = [mount for mount in mounts if any(mount.startswith(f"{folder}/") for folder in folders)]
    for mount in sorted(below, key=len, reverse=True):
        run(["umount", "--lazy", mount.encode().decode("unicode_escape")], fine=(0, 32))


def forget_rules(command, table):
    """Take the engine's chains, and the rules that lead to them or name its bridge, out of a table."""
    said = run([command, "-t", table, "-S"], fine=(0, 1, 3, 4))
    lines = [shlex.split(line) for line in said.splitlines()]
    chains = [words[1] for words in lines if words[:1] == ["-N"] and CHAIN.match(words[1])]
    for words in lines:
        if words[:1] == ["-A"] and words[1] not in chains and (BRIDGE in words or set(chains) & set(words)):
            run([command, "-t", table, "-D", *words[1:]])
    for flag in ("-F", "-X"):
        for chain in chains:
            run([command, "-t", table, flag, chain])


def forget_table(table):
    """Take a table away that has no rule any more: its base chains were made for the engine."""
    text = run(["nft", "list", "table", *table.split()], fine=(0, 1))
    lines = [line.strip() for line in text.splitlines()]
    if not [line for line in lines if line and not line.startswith(("table ", "chain ", "type ", "}", "#"))]:
        run(["nft", "delete", "table", *table.split()], fine=(0, 1))


def clear(path):
    """Remove a path; of a folder that is a mount, what lies in it."""
    if not os.path.ismount(path):
        discard(path)
        return
    for entry in path.iterdir():
        discard(entry)


def refuse_strangers():
    """Refuse to take an engine away in which others keep something."""
    if found := strangers():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        what = f"the container engine keeps {found[0]}{more}, which is not ours"
        raise Refused(f"{what}: remove it, or leave --purge out")
