# ruff: noqa: S108 - /tmp as it is inside
"""Every wall of a sandbox, and the probes that push at it: a row each, its name the check's name. Pure.

No two rows share wall, path and protocol. ``way`` is the function that tries it: of ``inside`` as the agent, of
``http`` against the gateway with the sandbox's token, of ``wire`` with root's frames on the sandbox's own wire, or of
``host`` from outside. What a row passes on: nothing came through. What cannot be tried has failed.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A probe: what it is called, the wall, where it pushes, and how bad it is when that gives way."""

    name: str
    wall: str
    path: str
    protocol: str
    severity: str
    guards: str
    way: str
    arguments: dict[str, Any]


#: Wall -> what it is made of.
WALLS = {
    "seam": "the one way that must be open: the gateway's port on the bridge",
    "firewall": "the tables bridge agentrig and inet agentrig: ARP and one TCP port of the gateway, nothing else",
    "places": "the set places: each port of the bridge speaks with one hardware address and one IPv4 address",
    "routes": "one route, to the gateway's address; no default route",
    "IPv6 off": "the kernel's own switch, in the sandbox's network",
    "capabilities": "none: --cap-drop=ALL",
    "no new privileges": "--security-opt=no-new-privileges",
    "system calls": "an allow-list of system calls and families of sockets: seccomp.json",
    "user": "a number of its own, above all accounts",
    "read-only root": "--read-only",
    "read-only mounts": "what the sandbox is given to read is mounted so",
    "masked files": "files of /proc and /sys that tell of the host or steer it are covered",
    "devices": "the least set of /dev",
    "mounts": "what of the host is seen inside, by a list",
    "namespaces": "processes, network, names and shared memory of its own",
    "environment": "no variable but those by a list",
    "temporary folder": "/tmp is bounded, without devices and without programs of another's rights",
    "resource limits": "limits of the kernel for each process and each user",
    "control group": "memory, processes and processors of the whole sandbox",
    "token check": "the gateway lets nobody in without a token that it knows",
    "token's end": "a token is good until its time is over",
    "token's place": "a sandbox's token is good from that sandbox's address alone",
    "path list": "what is not on the gateway's list of paths is not there",
    "method list": "a path takes one method",
    "request parser": "the gateway refuses what is no plain HTTP request; nothing malformed is passed on",
    "body limit": "a body has an end",
    "canary": "what got past the first wall is written down by the second",
}
HIGH, MEDIUM, LOW = "high", "medium", "low"

#: TCP port of the gateway's address -> what listens there on other people's machines.
_TCP = {
    22: "SSH", 25: "SMTP", 53: "DNS", 80: "a web server", 111: "the port mapper", 443: "a web server",
    2375: "Docker without TLS", 3306: "MySQL", 4222: "NATS", 5432: "PostgreSQL", 6379: "Redis", 8000: "vLLM",
    9000: "an object store", 10250: "the kubelet", 11434: "Ollama", 18080: "the runtime itself",
}  # fmt: skip
_UDP = {53: "DNS", 67: "DHCP", 123: "NTP", 161: "SNMP", 500: "IKE", 4789: "VXLAN", 5353: "multicast DNS"}
#: Address -> whose it is. No packet is sent to any of them: the kernel is asked whether it knows a way.
_NOWHERE = {
    "169.254.169.254": "metadata of AWS, Azure, GCP and others", "169.254.170.2": "credentials of AWS ECS",
    "100.100.100.200": "metadata of Alibaba", "168.63.129.16": "the wire server of Azure",
    "10.0.0.1": "private addresses, 10/8", "172.17.0.1": "Docker's own bridge", "192.168.0.1": "private, 192.168/16",
    "100.64.0.1": "carriers' addresses, 100.64/10", "192.0.2.1": "the internet", "127.53.53.53": "the host's resolver",
}  # fmt: skip
_NOWHERE_6 = {"fd00:ec2::254": "metadata of AWS", "2001:db8::1": "the internet", "fe80::1": "a neighbour by itself"}


def _network() -> list[Row]:
    rows = [
        Row("the gateway answers inside", "seam", "gateway", "http", HIGH, "the agent's work", "http",
            {"send": "GET {health} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n", "statuses": [204]}),
    ]  # fmt: skip
    for kind, ports in (("tcp", _TCP), ("udp", _UDP)):
        for port, what in ports.items():
            name, guards = f"{kind.upper()} {port} of the gateway's address", f"{what} on the host"
            rows.append(Row(name, "firewall", f"gateway:{port}", kind, HIGH, guards, kind, {"port": port}))
    rows.append(Row("ping of the gateway's address", "firewall", "gateway", "icmp", LOW, "the host", "ping", {}))
    for address, what in _NOWHERE.items():
        way = "loopback" if address.startswith("127.") else "route"
        wall = "namespaces" if way == "loopback" else "routes"
        rows.append(Row(f"a way to {address}", wall, address, "ip", HIGH, what, way, {"address": address}))
    for address, what in _NOWHERE_6.items():
        rows.append(Row(f"a way to {address}", "IPv6 off", address, "ip6", HIGH, what, "route", {"address": address}))
    return rows


def _wire() -> list[Row]:
    def row(name: str, path: str, protocol: str, guards: str, frame: str, **more: Any) -> Row:
        wall = more.pop("wall", "firewall")
        return Row(name, wall, path, protocol, more.pop("severity", HIGH), guards, "wire", {"frame": frame} | more)

    return [
        row("another's hardware address", "wire, source", "ethernet", "who speaks", "other_hardware", wall="places"),
        row("another's IPv4 address", "wire, source", "ip", "who speaks", "other_address", wall="places"),
        row("ARP in another's name", "wire, sender", "arp", "who is asked", "arp_as_other", wall="places"),
        row("ARP in the gateway's name", "wire, gateway as sender", "arp", "the gateway's name", "arp_as_gateway",
            wall="places"),
        row("ARP for another sandbox", "wire, target", "arp", "who else is there", "arp_for_other"),
        row("a frame to another sandbox", "sandbox", "ethernet", "the other sandboxes", "to_other"),
        row("a frame to everybody", "broadcast", "ethernet", "the other sandboxes", "to_all"),
        row("the host's other address", "host", "tcp", "all of the host's ports", "to_host"),
        row("an address of the internet", "internet", "udp", "everything beyond the host", "to_internet"),
        row("the host's loopback", "127.0.0.1", "tcp", "what listens for the host alone", "to_loopback"),
        row("multicast", "224.0.0.251", "udp", "multicast DNS, UPnP", "multicast", severity=MEDIUM),
        row("DHCP", "255.255.255.255", "udp", "the address of others", "dhcp", severity=MEDIUM),
        row("IPv6", "ff02::1", "ip6", "a network that nobody looks at", "ipv6"),
        row("a router's advertisement", "ff02::1", "icmp6", "the host's own routes", "router"),
        row("a VLAN's tag", "gateway", "802.1q", "filters that read one header", "vlan", severity=MEDIUM),
        row("an unknown kind of frame", "gateway", "0x88b5", "what speaks no IP", "unknown", severity=MEDIUM),
        row("a bridge's word", "01:80:c2:00:00:00", "stp", "the bridge itself", "stp", severity=MEDIUM),
        row("GRE", "gateway", "gre", "tunnels", "gre", severity=MEDIUM),
        row("SCTP", "gateway:8080", "sctp", "a protocol that is forgotten", "sctp", severity=MEDIUM),
    ]  # fmt: skip


def _container() -> list[Row]:
    def row(name: str, wall: str, at: str, guards: str, way: str, **arguments: Any) -> Row:
        return Row(name, wall, at, "kernel", arguments.pop("severity", HIGH), guards, way, arguments)

    rows = [row("no capability to be had", "capabilities", "CapBnd", "the kernel", "status", field="CapBnd", wanted=0)]
    families = {
        "AF_VSOCK": (40, "a virtual machine's own hypervisor"), "AF_ALG": (38, "the kernel's cryptography"),
        "AF_NETLINK, netfilter": ([16, 3, 12], "the firewall's own interface"),
        "AF_NETLINK, kernel events": ([16, 3, 15], "the host's devices"),
    }  # fmt: skip
    calls = {
        "unshare a user": ("unshare", "a kernel's namespaces, where most escapes began"),
        "io_uring": ("io_uring", "a way around filters of system calls"),
    }
    rows += [row("gain rights by a program", "no new privileges", "NoNewPrivs", "root", "status",
                 field="NoNewPrivs", wanted=1)]  # fmt: skip
    rows += [
        row(f"a socket of {name}", "system calls", name, guards, "family", family=which)
        for name, (which, guards) in families.items()
    ]
    rows += [row(f"call {name}", "system calls", name, guards, way) for name, (way, guards) in calls.items()]
    rows += [
        row("a number that is nobody's", "user", "uid", "files of the host's accounts", "numbers"),
        row("the root is for reading", "read-only root", "/", "what the next session starts", "reading", path="/"),
        *(
            row(f"{path} is for reading", "read-only root", path, "whom a name leads to", "reading", path=path)
            for path in ("/etc/hosts", "/etc/resolv.conf")
        ),
        *(
            row(f"{path} is for reading", "read-only mounts", path, guards, "reading", path=path)
            for path, guards in {
                "/etc/passwd": "who the agent is", "/etc/group": "who the agent is",
                "/opt/agentrig/current/agents": "the agents' own permissions",
                "/opt/agentrig/current/agents/tokens/agent": "the token",
            }.items()
        ),
        *(
            row(f"{path} is for reading", "masked files", path, "settings of the host's kernel", "reading", path=path)
            for path in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/sys")
        ),
        *(
            row(f"{path} is covered", "masked files", path, "the host's memory and hardware", "covered", path=path,
                severity=MEDIUM)
            for path in ("/proc/keys", "/proc/timer_list", "/sys/firmware")
        ),
        row("no device but the least", "devices", "/dev", "hardware, /dev/kvm, /dev/mem, cards", "devices"),
        row("nothing of the host but what is listed", "mounts", "mountinfo", "the host's files", "mounts"),
        row("no socket of the host", "mounts", "/run", "Docker, D-Bus, containerd", "sockets"),
        row("processes of its own", "namespaces", "pid", "the host's processes", "processes"),
        row("a network of its own", "namespaces", "net", "the host's network", "interfaces"),
        row("names of its own", "namespaces", "uts", "the host's name", "hostname", severity=LOW),
        row("shared memory of its own", "namespaces", "ipc", "the host's shared memory", "shared"),
        row("no secret in the environment", "environment", "environ", "tokens and keys", "variables"),
        row("/tmp gives nobody rights", "temporary folder", "nosuid", "root", "flags", path="/tmp", flag=2),
        row("/tmp has no devices", "temporary folder", "nodev", "hardware", "flags", path="/tmp", flag=4),
        row("/tmp has an end", "temporary folder", "size", "the host's memory", "bounded", path="/tmp"),
        row("files have an end", "resource limits", "fsize", "the host's disk", "limit", limit="RLIMIT_FSIZE"),
        row("open files have an end", "resource limits", "nofile", "the host's files", "open_files"),
        row("processes have an end", "resource limits", "nproc", "the host's processes", "processes_end"),
        row("no memory is written down", "resource limits", "core", "what lies in memory", "limit",
            limit="RLIMIT_CORE", severity=LOW),
    ]  # fmt: skip
    rows += [
        Row(f"{words} of the whole", "control group", key, "kernel", HIGH, guards, "held", {"limit": key})
        for key, words, guards in (
            ("memory_mib", "memory", "the host's memory"), ("processes", "processes", "the host's processes"),
            ("cpus", "processors", "everybody's time"),
        )
    ]  # fmt: skip
    return rows


def _gateway() -> list[Row]:
    def ask(target: str, *headers: str, method: str = "GET") -> str:
        lines = [f"{method} {target} HTTP/1.1", "Host: gateway", "Connection: close", *headers]
        return "\r\n".join(lines) + "\r\n\r\n"

    def row(
        name: str, wall: str, path: str, send: str, *statuses: int, guards: str = "the runtime", **more: Any
    ) -> Row:
        told = {"send": send, "statuses": list(statuses)} | more
        return Row(name, wall, path, "http", HIGH, guards, "http", told)

    models, chat = "/v1/models", "/v1/chat/completions"
    own = "Authorization: Bearer {token}"
    rows = [
        row("no token", "token check", "none", ask(models), 401),
        row("a token that nobody has", "token check", "unknown", ask(models, "Authorization: Bearer " + "x" * 43), 401),
        row("a token in the address", "token check", "query", ask(models + "?api_key={token}"), 401),
        row("a token as a cookie", "token check", "cookie", ask(models, "Cookie: token={token}"), 401),
        row("a token as a password", "token check", "basic", ask(models, "Authorization: Basic {token}"), 401),
        row("a token whose time is over", "token's end", "ended", ask(models, "Authorization: Bearer {ended}"), 401),
        row("another sandbox's token", "token's place", "other", ask(models, "Authorization: Bearer {other}"), 401),
    ]
    paths = ("/", "/metrics", "/props", "/slots", "/lora-adapters", "/v1/load_lora_adapter", "/server_info",
             "/v1/../metrics", "/v1/%2e%2e/props", "//slots", "/v1/models/", "/.env")  # fmt: skip
    rows += [row(f"the path {path}", "path list", path, ask(path, own), 404) for path in paths]
    rows += [
        row("an address in place of a path", "path list", "absolute", ask("http://127.0.0.1:18080/props", own), 404),
        row("another host's name", "path list", "host",
            "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:18080\r\nConnection: close\r\n" + own + "\r\n\r\n", 404),
    ]  # fmt: skip
    rows += [
        row(f"the method {method}", "method list", method, ask(chat, own, method=method), 405)
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")
    ]
    wrong = {
        "CONNECT": ("CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: x\r\n" + own + "\r\n\r\n"),
        "TRACE": ask(chat, own, method="TRACE"),
        "two lengths": ask(chat, own, "Content-Length: 0", "Content-Length: 30", method="POST"),
        "a length and chunks": ask(chat, own, "Content-Length: 5", "Transfer-Encoding: chunked", method="POST")
        + "0\r\n\r\n",
        "chunks by another name": ask(chat, own, "Transfer-Encoding: xchunked", method="POST"),
        "a space before the colon": ask(models, own, "X-A : b"),
        "a NUL in a header": ask(models, own, "X-A\x00: b"),
        "no host": "GET " + models + " HTTP/1.1\r\n" + own + "\r\n\r\n",
        "a header without end": ask(models, own, "X-A: {long}"),
        "an address without end": ask(models + "?{long}", own),
        "another HTTP": "GET " + models + " HTTP/7.0\r\nHost: x\r\n" + own + "\r\n\r\n",
        "a bad length": ask(chat, own, "Content-Length: -1", method="POST"),
        "a bad chunk": ask(chat, own, "Transfer-Encoding: chunked", method="POST") + "zz\r\n{}\r\n0\r\n\r\n",
    }  # fmt: skip
    rows += [
        row(name, "request parser", name, send, *range(400, 600), guards="requests of others", closed=True)
        for name, send in wrong.items()
    ]
    huge = ask(chat, own, "Content-Type: application/json", "Content-Length: 99999999999", method="POST")
    rows.append(row("a body without end", "body limit", "length", huge, 413, guards="the host's memory"))
    return rows


def _host() -> list[Row]:
    return [
        Row(
            "nothing got past the first wall", "canary", "bridge", "ip", HIGH, "what no probe thought of", "canary", {}
        ),
    ]


#: Every probe, in the order in which they are told.
ROWS = (*_network(), *_wire(), *_container(), *_gateway(), *_host())
