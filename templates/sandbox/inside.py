"""What the agent of a sandbox can do, tried as the agent: one JSON document asked, a line of JSON for each probe.

It runs inside, from its own text on the command line, with the standard library alone; what it is asked comes on
standard input, since tokens are in it. Of what it finds it says
``passed`` where the wall held, ``failed`` where something came through, and ``failed`` too where it could not try.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import stat
import struct
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that the gateway may take to answer, on a machine that has much else to do.
ANSWER = 20.0
#: Seconds that a packet is waited for: on one machine an answer takes less than a thousandth of it.
WAIT = 1.0
#: statvfs(3): the flag of a file system that is mounted for reading.
READ_ONLY = 1
#: io_uring_setup(2), the same number on every machine.
IO_URING_SETUP = 425
#: clone(2): CLONE_NEWUSER.
NEW_USER = 0x10000000
#: What /dev holds for every container (OCI runtime specification, default devices), and what a terminal adds.
DEVICES = {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
           "stdout", "tty", "urandom", "zero"}  # fmt: skip
#: Mounts that every container has, below which there may be more of the same kind.
KERNELS = ("/proc", "/sys", "/dev")
VARIABLES = {"AGENTRIG_SESSION", "HOME", "HOSTNAME", "LANG", "PATH", "PWD", "SHLVL", "TERM", "_", "LC_CTYPE"}
#: Answers of the kernel to what a filter or a missing right denies, or to what it has not at all.
DENIED = {errno.EPERM, errno.EACCES, errno.ENOSYS}


class Through(Exception):  # noqa: N818 - an outcome, written down as a failure
    """Something came through a wall; the text says what."""


def tcp(asked: dict[str, Any], port: int) -> str:
    """Connect to a port of the gateway's address: what is dropped is silent, anything else has arrived."""
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(WAIT)
        try:
            one.connect((asked["gateway"], port))
        except TimeoutError:
            return f"silent for {time.monotonic() - began:.1f} s"
        except ConnectionRefusedError:
            raise Through("the host answered that nothing listens: the packet arrived") from None
    raise Through("connected")


def udp(asked: dict[str, Any], port: int) -> str:
    """Send a datagram to a port of the gateway's address: nothing may come back, not even that nobody is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(WAIT)
        one.connect((asked["gateway"], port))
        one.send(b"agentrig asks")
        try:
            one.recv(1)
        except TimeoutError:
            return f"silent for {WAIT:.1f} s"
        except ConnectionRefusedError:
            raise Through("the host answered that nobody is there: the packet arrived") from None
    raise Through("answered")


def ping(asked: dict[str, Any]) -> str:
    """Ask for an echo (RFC 792), by the kernel's own socket for it, which needs no right."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as one:
        one.settimeout(WAIT)
        one.sendto(struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"agentrig", (asked["gateway"], 0))
        try:
            one.recv(1)
        except TimeoutError:
            return f"silent for {WAIT:.1f} s"
    raise Through("answered")


def route(_: dict[str, Any], address: str) -> str:
    """Ask the kernel whether it knows a way; a datagram socket that is connected sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        try:
            one.connect((address, 9, 0, _interface()) if address.startswith("fe80") else (address, 9))
        except OSError as error:
            if error.errno in {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH}:
                return str(error.strerror)
            raise
    raise Through("there is a way to it")


def _interface() -> int:
    return next((number for number, name in socket.if_nameindex() if name == "eth0"), 0)


def loopback(_: dict[str, Any], address: str) -> str:
    """Look whether what listens on the host's own loopback does so here."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(WAIT)
        try:
            one.connect((address, 53))
        except (ConnectionRefusedError, TimeoutError):
            pass
        else:
            raise Through("connected")
    listening = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    heard = [words[1] for words in listening if words[3] == "0A"]
    if heard:
        raise Through(f"{len(heard)} sockets listen here")
    return "nobody listens"


def status(_: dict[str, Any], field: str, wanted: int) -> str:
    """Read a number of the kernel's about this process (proc(5))."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    if int(found, 16) != wanted:
        raise Through(f"{field} is {found}")
    return f"{field} is {found}"


def family(_: dict[str, Any], family: int | list[int]) -> str:
    """Open a socket of a family that no agent needs."""
    which = family if isinstance(family, list) else [family, socket.SOCK_SEQPACKET if family == 38 else 1]  # noqa: PLR2004 - AF_ALG has this kind alone
    try:
        socket.socket(*which).close()
    except OSError as error:
        if error.errno in DENIED:
            return str(error.strerror)
        raise Through(f"the kernel itself refused it: {error.strerror}") from None
    raise Through("there is a socket")


def io_uring(_: dict[str, Any]) -> str:
    """Ask for a ring, with nothing to write it down in: the kernel that looks says so."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(IO_URING_SETUP, 1, 0)
    if (code := ctypes.get_errno()) not in DENIED:
        raise Through(f"the kernel looked at it: {os.strerror(code)}")
    return os.strerror(code)


def unshare(_: dict[str, Any]) -> str:
    """Ask for a namespace of users, in a child."""
    child = os.fork()
    if child == 0:
        library = ctypes.CDLL(None, use_errno=True)
        os._exit(0 if library.unshare(NEW_USER) == 0 else ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in DENIED:
        raise Through("there is a namespace" if code == 0 else f"the kernel looked at it: {os.strerror(code)}")
    return os.strerror(code)


def numbers(asked: dict[str, Any]) -> str:
    """Look at the numbers of user and groups."""
    found = {*os.getresuid(), *os.getresgid(), *os.getgroups()}
    if low := sorted(number for number in found if number < asked["first_uid"]):
        raise Through(f"it is {low}")
    return f"{os.getuid()}"


def reading(_: dict[str, Any], path: str) -> str:
    """Look whether what lies at a path is mounted for reading."""
    if not os.statvfs(path).f_flag & READ_ONLY:
        raise Through("it is mounted for writing")
    return "mounted for reading"


def covered(_: dict[str, Any], path: str) -> str:
    """Look whether a folder is empty, and a file is not the kernel's own."""
    where = Path(path)
    try:
        if not where.exists():
            return "not there"
        if where.is_dir() and (found := os.listdir(where)):  # noqa: PTH208 - names alone
            raise Through(f"it shows {len(found)} names")
        if not where.is_dir() and not stat.S_ISCHR(where.stat().st_mode):
            raise Through(f"it is the kernel's own file, of mode {stat.S_IMODE(where.stat().st_mode):04o}")
    except PermissionError as error:
        raise Through(f"it is there, and only its mode keeps it: {error.strerror}") from None
    return "covered"


def devices(_: dict[str, Any]) -> str:
    """Compare /dev with the least set."""
    found = {name for name in os.listdir("/dev")}  # noqa: C416, PTH208 - names alone
    if more := sorted(found - DEVICES):
        raise Through(f"/dev has {', '.join(more)}")
    return f"{len(found)} names"


def mounts(asked: dict[str, Any]) -> str:
    """Compare what is mounted with what was given."""
    known = {*asked["seen"], "/", "/tmp", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/sbin/docker-init",  # noqa: S108 - as it is here
             "/usr/sbin/docker-init"}  # fmt: skip
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    more = [one for one in points if one not in known and not any(f"{one}/".startswith(f"{at}/") for at in KERNELS)]
    if more:
        raise Through(f"also mounted: {', '.join(sorted(more)[:3])}")
    return f"{len(points)} mounts, all known"


def sockets(_: dict[str, Any]) -> str:
    """Look for sockets in the places where daemons have theirs."""
    found = []
    for top in ("/run", "/var/run", "/var/lib"):
        for folder, _folders, names in os.walk(top):
            for name in names:
                with contextlib.suppress(OSError):
                    if stat.S_ISSOCK(os.lstat(f"{folder}/{name}").st_mode):
                        found.append(f"{folder}/{name}")
    if found:
        raise Through(f"{', '.join(found[:3])}")
    return "none"


def processes(_: dict[str, Any]) -> str:
    """Look who else runs: a first process that is not the container's own is the host's."""
    first = Path("/proc/1/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    if not first.endswith(("docker-init", "tini", "sleep")):
        raise Through(f"the first process is {first[:60]}")
    return f"the first process is {first}"


def interfaces(_: dict[str, Any]) -> str:
    """Look at the interfaces of the network."""
    found = sorted(name for _, name in socket.if_nameindex())
    extra = [name for name in found if name not in {"lo", "eth0"} and not name.startswith(("sit", "tunl", "ip6tnl"))]
    if extra or "eth0" not in found:
        raise Through(f"there are {', '.join(found)}")
    return ", ".join(found)


def hostname(asked: dict[str, Any]) -> str:
    """Compare the name with the one that was given."""
    if os.uname().nodename != asked["hostname"]:
        raise Through(f"it is {os.uname().nodename}")
    return asked["hostname"]


def shared(_: dict[str, Any]) -> str:
    """Look for shared memory, and for message queues, that is not ours (proc(5), sysvipc)."""
    segments = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()[1:]
    found = os.listdir("/dev/shm")  # noqa: PTH208, S108 - names alone, of this container's own
    if segments or found:
        raise Through(f"{len(segments)} segments, {len(found)} files in /dev/shm")
    return "none"


def variables(_: dict[str, Any]) -> str:
    """Look at the names of the environment."""
    if more := sorted(os.environ.keys() - VARIABLES):
        raise Through(f"there are also {', '.join(more)[:80]}")
    return f"{len(os.environ)} variables"


def flags(_: dict[str, Any], path: str, flag: int) -> str:
    """Look at a flag of a file system (statvfs(3): 2 is nosuid, 4 is nodev)."""
    if not os.statvfs(path).f_flag & flag:
        raise Through(f"{path} has not {'nosuid' if flag == 2 else 'nodev'}")  # noqa: PLR2004 - as above
    return "it is set"


def bounded(asked: dict[str, Any], path: str) -> str:
    """Compare how large a folder can grow with what one sandbox may take of memory."""
    found = os.statvfs(path)
    mib = found.f_blocks * found.f_frsize >> 20
    if mib > asked["limits"]["memory_mib"]:
        raise Through(f"{mib} MiB")
    return f"{mib} MiB"


def limit(asked: dict[str, Any], limit: str) -> str:
    """Compare a limit of the kernel for this process with the one declared."""
    most = {"RLIMIT_FSIZE": asked["limits"]["disk_mib"] << 20, "RLIMIT_CORE": 0}[limit]
    found = resource.getrlimit(getattr(resource, limit))[1]
    if found == resource.RLIM_INFINITY or found > most:
        raise Through(f"{limit} is {found}")
    return f"{found} bytes"


def open_files(asked: dict[str, Any]) -> str:
    """Open files until there are no more, in a child; a bound that nobody sets is not waited for."""
    most = asked["limits"]["open_files"]
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        count = 0
        with contextlib.suppress(OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
            while count <= most:
                os.dup(0)
                count += 1
        os.write(writer, str(count).encode())
        os._exit(0)
    count = int(os.read(reader, 32))
    os.waitpid(child, 0)
    if count > most:
        raise Through(f"more than {most} files")
    return f"{count} more files"


def processes_end(asked: dict[str, Any]) -> str:
    """Start processes that do nothing until there are no more, and end them all."""
    most, children = asked["limits"]["processes"], []
    try:
        while len(children) <= most:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except OSError:
        pass
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    if len(children) > most:
        raise Through(f"more than {most} processes")
    return f"{len(children)} more processes"


def http(asked: dict[str, Any], send: str, statuses: list[int], *, closed: bool = False) -> str:
    """Send a request to the gateway as it is written; the status of the answer must be one of those."""
    words = {"token": asked["token"], "other": asked["other"], "ended": asked["ended"], "health": asked["health"]}
    words["long"] = "a" * 70000
    text = send
    for key, value in words.items():
        text = text.replace("{" + key + "}", value)
    try:
        with socket.create_connection((asked["gateway"], asked["port"]), ANSWER) as one:
            one.sendall(text.encode("latin-1"))
            said = one.recv(4096)
    except ConnectionResetError:
        said = b""
    except (TimeoutError, ConnectionRefusedError) as error:
        raise Through(f"no answer: {error}") from None
    first = said.split(b"\r\n", 1)[0].decode("ascii", "replace")
    number = first.split(" ")[1] if first.startswith("HTTP/") and " " in first else ""
    if not said and closed:
        return "closed without a word"
    if number.isdecimal() and int(number) in statuses:
        return f"HTTP {number}"
    raise Through(f"HTTP {number}" if number else f"it answered {first[:60]!r}")


#: What sends nothing off by itself, and what takes all there is: that comes last, alone.
TOGETHER: tuple[Callable[..., str], ...] = (
    *(tcp, udp, ping, route, loopback, status, family, io_uring, unshare, numbers, reading, covered),
    *(devices, mounts, sockets, processes, interfaces, hostname, shared, variables, flags, bounded, limit, http),
)
ALONE: tuple[Callable[..., str], ...] = (open_files, processes_end)
WAYS = {one.__name__: one for one in (*TOGETHER, *ALONE)}


def tried(asked: dict[str, Any], name: str, way: str, arguments: dict[str, Any]) -> dict[str, str]:
    """Try one probe and say how it went."""
    try:
        return {"name": name, "result": "passed", "detail": WAYS[way](asked, **arguments)}
    except Through as through:
        return {"name": name, "result": "failed", "detail": str(through)}
    except Exception as error:  # noqa: BLE001 - whatever keeps a probe from running is its failure
        return {"name": name, "result": "failed", "detail": f"it could not be tried: {type(error).__name__}: {error}"}


def main() -> int:
    """Try all that is asked for, side by side, then what must be alone."""
    asked = json.load(sys.stdin) | {"token": _token()}
    found: list[dict[str, str]] = []
    side_by_side = [row for row in asked["rows"] if WAYS[row[1]] in TOGETHER]

    def one(row: list[Any]) -> None:
        found.append(tried(asked, *row))

    threads = [threading.Thread(target=one, args=(row,)) for row in side_by_side if row[1] != "unshare"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in asked["rows"]:
        if WAYS[row[1]] in ALONE or row[1] == "unshare":
            one(row)
    sys.stdout.write("".join(json.dumps(each) + "\n" for each in found))
    return 0


def _token() -> str:
    with contextlib.suppress(OSError):
        return Path("/opt/agentrig/current/agents/tokens/agent").read_text(encoding="ascii").strip()
    return ""


if __name__ == "__main__":
    sys.exit(main())
