"""What the project's modules share: the folders of a host, changes told in words, files written whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import time

ROOT = pathlib.Path("/opt/agentrig")
STORE = ROOT / "store"
RELEASES = ROOT / "releases"
CURRENT = ROOT / "current"
APT = ROOT / "apt"
STAGING = ROOT / "staging"
#: Which unit was started with what: one file a unit, see ``agentrig_unit``.
STARTED = ROOT / "started"
#: What the host had before the first apply, written before anything is changed.
BEFORE = ROOT / "before.json"
MARKER = ".agentrig-complete"
#: One apply at a time works on a host, also when an earlier one was killed on the control machine.
LOCK = pathlib.Path("/run/agentrig.lock")
LOCK_SECONDS = 600
#: Trees larger than this, in bytes, are believed by their look: reading weights takes minutes.
LARGE_BYTES = 1 << 30
_CHUNK = 1 << 20


class Refused(Exception):  # noqa: N818 - it says what happened, and no program is at fault
    """The host cannot be brought to what was asked for; the message says why."""


@contextlib.contextmanager
def alone(module):
    """Hold the host's lock for a change; in check mode nothing is changed and nothing is held."""
    if module.check_mode:
        yield
        return
    with LOCK.open("w", encoding="utf-8") as file:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Refused("another deploy is still at work on this host") from None
                time.sleep(0.5)
        yield


def run(argv, *, env=None, fine=(0,), feed=None):
    """Run a command; give its output; raise Refused with its last words."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root", **(env or {})}
    done = subprocess.run(argv, env=environment, input=feed, capture_output=True, text=True, check=False)
    if done.returncode not in fine:
        said = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith(("E:", "ERROR", "error", "dpkg: error"))]
        raise Refused(f"{' '.join(map(str, argv[:3]))}: {' / '.join((errors or said[-3:])[:3]) or done.returncode}")
    return done.stdout


def write(path, content, mode=0o644, owner=0, group=0):
    """Write a file whole or not at all: beside it first, then renamed; a full disk leaves nothing of it."""
    beside = path.with_name(f".{path.name}.agentrig")
    beside.unlink(missing_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchown(descriptor, owner, group)
            os.fchmod(descriptor, mode)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def link(path, target):
    """Make a symbolic link point elsewhere in one step."""
    beside = path.with_name(f".{path.name}.agentrig")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


def points_at(path):
    """Give where a symbolic link points, or None where there is none."""
    try:
        return str(path.readlink())
    except OSError:
        return None


def is_there(path):
    """Tell whether a path exists, a dangling link included."""
    return path.is_symlink() or path.exists()


def discard(path):
    """Remove a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json(path):
    """Give a JSON file's value, or an empty dictionary where there is no whole one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def sha256_of(path):
    """Give the sha256 of a file's content, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def entries(tree):
    """Give all that lies under a folder but the marker, sorted by relative path as bytes."""
    found = []
    for folder, folders, files in os.walk(tree):
        found += [pathlib.Path(folder, name) for name in (*folders, *files)]
    return sorted(
        (path for path in found if path != tree / MARKER), key=lambda path: os.fsencode(path.relative_to(tree))
    )


def _lines(tree, body):
    for path in entries(tree):
        about = path.lstat()
        kind = "l" if stat.S_ISLNK(about.st_mode) else "d" if stat.S_ISDIR(about.st_mode) else "f"
        mode = "0777" if kind == "l" else f"{stat.S_IMODE(about.st_mode):04o}"
        tail = str(path.readlink()) if kind == "l" else "" if kind == "d" else body(path, about)
        yield f"{kind} {mode} {path.relative_to(tree)}\0{tail}\n".encode(errors="surrogateescape")


def tree_digest(tree):
    """Give a tree's digest: of each entry its kind, mode, path, and a link's target or a file's sha256."""
    return hashlib.sha256(b"".join(_lines(tree, lambda path, _: sha256_of(path)))).hexdigest()


def tree_look(tree):
    """Give a quick look at a tree, its files' sizes and times instead of their contents."""
    return hashlib.sha256(b"".join(_lines(tree, lambda _, about: f"{about.st_size} {about.st_mtime_ns}"))).hexdigest()


def marked(tree, *, thorough=False):
    """Give a complete tree's digest, or None for a tree that is not there, half there, or no longer what it was.

    The marker's first line is the tree's digest, its second the look. A tree that looks as it did is believed, unless
    all of it is to be read; even then one of more than 1 GiB is. One that looks different is read.
    """
    try:
        digest, look = (tree / MARKER).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    if tree_look(tree) == look and not (thorough and size_of(tree) <= LARGE_BYTES):
        return digest
    return digest if tree_digest(tree) == digest else None


def size_of(tree):
    """Give the bytes of all files of a tree."""
    return sum(path.lstat().st_size for path in entries(tree) if path.is_file() and not path.is_symlink())


def mark(tree):
    """Mark a tree as complete; give its digest."""
    digest = tree_digest(tree)
    write(tree / MARKER, f"{digest}\n{tree_look(tree)}\n")
    return digest


def installed(names):
    """Give name -> version of those packages that are installed, and the set of those that are held."""
    if not names:
        return {}, set()
    listing = run(["dpkg-query", "-W", "-f", "${Package}\t${Status}\t${Version}\n", *names], fine=(0, 1))
    versions, held = {}, set()
    for line in listing.splitlines():
        name, status, version = line.split("\t")
        if status.endswith(" installed"):
            versions[name] = version
        if status.startswith("hold "):
            held.add(name)
    return versions, held


def processes_of(unit):
    """Give the pids of a unit's processes, read from their control groups."""
    pids = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if re.search(rf"/{re.escape(unit)}(/|$)", path.read_text(encoding="utf-8"), re.MULTILINE):
                pids.add(int(path.parent.name))
    return pids


def _listening_inodes(port):
    inodes = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return inodes


def listeners_on(port):
    """Give pid -> program name of all that listens on a TCP port; pid 0 where the kernel does not say."""
    inodes = _listening_inodes(port)
    holders = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        with contextlib.suppress(OSError):
            if str(path.readlink()) in inodes:
                comm = pathlib.Path("/proc", path.parts[2], "comm").read_text(encoding="utf-8")
                holders[int(path.parts[2])] = comm.strip()
    return holders or dict.fromkeys([0] if inodes else [], "unknown")


def stranger_on(port, unit):
    """Give who listens on a port and is not of the unit, in words, or None."""
    ours = processes_of(unit)
    for pid, name in listeners_on(port).items():
        if pid not in ours:
            return f"{name} (pid {pid})" if pid else "another program"
    return None
