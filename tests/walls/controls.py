# ruff: noqa: S108 - /tmp and /dev/shm as they are inside
"""The control of each probe: how exactly the wall that it guards is taken down, for it to be seen failing. Pure.

A control is ``nft`` rules put in front, shell lines in the sandbox's network (``inside``) or on the host (``host``),
words of ``docker run`` left out and added (``container``), lines of the gateway's files changed (``gateway``), or
another server in the gateway's place (``naive``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: Rows whose limits no host of the lab has: held to it by a unit test, tests/unit/test_sandbox_door.py.
WITHOUT = "control group"


@dataclass(frozen=True)
class Control:
    """One wall down. ``words`` say it for a person."""

    words: str
    nft: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    files: tuple[tuple[str, str, str], ...] = ()
    naive: bool = False
    alarm: bool = False

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


FROM, TO = "insert rule bridge agentrig from_sandbox", "insert rule bridge agentrig to_sandbox"
IN, OUT = 'insert rule inet agentrig input iifname "agentrig0"', 'insert rule inet agentrig output oifname "agentrig0"'
ECHOES = (f"{TO} ether type ip ip protocol icmp accept", f"{OUT} ip protocol icmp accept")

#: Frame -> the match of the rule that lets it in.
FRAMES = {
    "other_hardware": "ether saddr 02:61:67:72:01:ff",
    "other_address": "ether type ip ip saddr {other}",
    "arp_as_other": "ether type arp arp saddr ip {other}",
    "arp_as_gateway": "ether type arp arp saddr ip {gateway}",
    "arp_for_other": "ether type arp arp daddr ip {other}",
    "to_all": "ether daddr ff:ff:ff:ff:ff:ff ether type ip ip daddr {everybody}",
    "to_host": "ether type ip ip daddr {host}",
    "to_internet": "ether type ip ip daddr 192.0.2.1",
    "to_loopback": "ether type ip ip daddr 127.0.0.1",
    "multicast": "ether type ip ip daddr 224.0.0.251",
    "dhcp": "ether type ip udp dport 67",
    "ipv6": "ether type ip6 ip6 nexthdr udp",
    "router": "ether type ip6 ip6 nexthdr icmpv6",
    "vlan": "ether type 8021q",
    "unknown": "ether type 0x88b5 ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00",
    "stp": "ether daddr 01:80:c2:00:00:00",
    "gre": "ether type ip ip protocol gre",
    "sctp": "ether type ip ip protocol sctp",
}
TMPFS = "--tmpfs=/tmp:rw,{suid},{dev},exec,size={size},mode=1777"
#: Path mounted for reading -> what is added so that it is for writing.
CONTAINERS: dict[str, Control] = {
    "no capability to be had": Control("--cap-drop=ALL left out", without=("--cap-drop",)),
    "gain rights by a program": Control(
        "no-new-privileges left out", without=("--security-opt=no-new-privileges",)
    ),
    "a number that is nobody's": Control("--user=0:0", without=("--user",), added=("--user=0:0",)),
    "no device but the least": Control("--device added", added=("--device=/dev/null:/dev/kvm",)),
    "nothing of the host but what is listed": Control(
        "a folder of the host mounted", added=("--mount=type=bind,source=/srv,target=/srv,readonly",)
    ),
    "no socket of the host": Control(
        "Docker's socket mounted", added=("--mount=type=bind,source=/run/docker.sock,target=/run/docker.sock",)
    ),
    "processes of its own": Control("--pid=host", added=("--pid=host",)),
    "a network of its own": Control("--network=host", without=("--network", "--sysctl"), added=("--network=host",)),
    "names of its own": Control("another --hostname", without=("--hostname",), added=("--hostname=elsewhere",)),
    "shared memory of its own": Control(
        "--ipc=host", host=("touch /dev/shm/of-the-host",), without=("--ipc",), added=("--ipc=host",)
    ),
    "no secret in the environment": Control("a variable added", added=("--env=API_KEY=x",)),
    "/tmp gives nobody rights": Control(
        "nosuid left out", without=("--tmpfs",), added=(TMPFS.format(suid="suid", dev="nodev", size="9m"),)
    ),
    "/tmp has no devices": Control(
        "nodev left out", without=("--tmpfs",), added=(TMPFS.format(suid="nosuid", dev="dev", size="9m"),)
    ),
    "/tmp has an end": Control(
        "another size", without=("--tmpfs",), added=(TMPFS.format(suid="nosuid", dev="nodev", size="99g"),)
    ),
    "files have an end": Control("no limit of fsize", without=("--ulimit=fsize",), added=("--ulimit=fsize=-1:-1",)),
    "open files have an end": Control(
        "another limit of nofile", without=("--ulimit=nofile",), added=("--ulimit=nofile=16384:16384",)
    ),
    "processes have an end": Control(
        "no limit of nproc", without=("--ulimit=nproc", "--pids-limit"), added=("--ulimit=nproc=4096:4096",)
    ),
    "no memory is written down": Control(
        "no limit of core", without=("--ulimit=core",), added=("--ulimit=core=-1:-1",)
    ),
}  # fmt: skip
UNCONFINED = Control(
    "seccomp=unconfined", without=("--security-opt=seccomp",), added=("--security-opt=seccomp=unconfined",)
)
SHOWN = Control("systempaths=unconfined", added=("--security-opt=systempaths=unconfined",))
WRITTEN = Control("--read-only left out", without=("--read-only",))
NO_TOKEN = Control("the check left out", files=(("gateway/nginx.conf", 'if ($client = "") { return 401; }', ""),))
NO_END = Control("a token never ends", files=(("gateway/gateway.js", "const timely = ", "const timely = true || "),))
NO_PLACE = Control(
    "a token is good everywhere", files=(("gateway/gateway.js", "const at_home = ", "const at_home = true || "),)
)
NO_LIST = Control("any path is answered", files=(("gateway/nginx.conf", "return 404;", "return 200;"),))
NO_METHOD = Control("any method is answered", files=(("gateway/nginx.conf", "return 405;", "return 200;"),))
NAIVE = Control("a server in its place that answers anything", naive=True)


def control_of(row: Any) -> Control | None:
    """Give the control of a row; None for those that no host of the lab can show."""
    if row.wall == WITHOUT:
        return None
    by_way = {"tcp": _port, "udp": _port, "route": _route, "wire": _frame, "reading": _reading, "http": _http}
    if row.name in CONTAINERS:
        return CONTAINERS[row.name]
    if row.way in by_way:
        return by_way[row.way](row)
    return {
        "ping": Control(
            "ICMP let through",
            nft=(f"{FROM} ether type ip ip protocol icmp accept", f"{IN} ip protocol icmp accept", *ECHOES),
        ),
        "loopback": CONTAINERS["a network of its own"],
        "family": UNCONFINED,
        "unshare": UNCONFINED,
        "io_uring": UNCONFINED,
        "covered": SHOWN,
        "canary": Control("the first wall opened, and a packet sent to the host", alarm=True),
    }[row.way]


def _port(row: Any) -> Control:
    kind, port = row.way, row.arguments["port"]
    back = (
        (f"{TO} ether type ip tcp sport {port} accept", f"{OUT} tcp sport {port} accept") if kind == "tcp" else ECHOES
    )
    rules = (f"{FROM} ether type ip {kind} dport {port} accept", f"{IN} {kind} dport {port} accept", *back)
    return Control(f"{kind} {port} let through both tables", nft=rules)


def _route(row: Any) -> Control:
    address = row.arguments["address"]
    if ":" not in address:
        return Control("a route to it", inside=(f"ip route add {address}/32 dev eth0",))
    on = "for one in all eth0; do echo 0 > /proc/sys/net/ipv6/conf/$one/disable_ipv6; done"
    return Control(
        "IPv6 on, with an address and a route",
        inside=(on, "ip -6 address add fe80::2/64 dev eth0 nodad; ip -6 address add fd00:ec2::2/64 dev eth0 nodad",
                "ip -6 route add default dev eth0"),
    )  # fmt: skip


def _frame(row: Any) -> Control:
    frame = row.arguments["frame"]
    if frame == "to_other":
        return Control(
            "the port not isolated, forwarding let through",
            nft=('insert rule bridge agentrig forward iifname "{port}" accept',),
            host=("bridge link set dev {port} isolated off",),
        )
    return Control(f"let through: {FRAMES[frame]}", nft=(f"{FROM} {FRAMES[frame]} accept",))


def _reading(row: Any) -> Control:
    if row.wall == "read-only root":
        return WRITTEN
    path = row.arguments["path"]
    if path == "/sys":
        return Control("--privileged", without=("--security-opt=seccomp",), added=("--privileged",))
    if path.startswith("/proc"):
        return SHOWN
    source = {"/etc/passwd": "passwd", "/etc/group": "group", "/opt/agentrig/current/agents": "agents"}.get(
        path, "token"
    )
    word = f"--mount=type=bind,source={{folder}}/{source},target={path}"
    return Control("mounted for writing", without=(word,), added=(word,))


def _http(row: Any) -> Control:
    if row.wall == "seam":
        return Control("the gateway stopped", host=("systemctl stop agentrig-gateway",))
    return {
        "token check": NO_TOKEN,
        "token's end": NO_END,
        "token's place": NO_PLACE,
        "path list": NO_LIST,
        "method list": NO_METHOD,
        "request parser": NAIVE,
        "body limit": NAIVE,
    }[row.wall]
