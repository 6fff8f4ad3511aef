"""One throwaway host, as the supervisor keeps it: overlay, network namespace, control groups, systemd-nspawn."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import LabError
from orchestrator.lab import cgroups
from orchestrator.lab.commands import environment, run
from orchestrator.lab.namespaces import Network

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

#: Where the supervisor keeps what only it may see; a tmpfs of its own mount namespace.
PRIVATE = Path("/run/agentrig")
BRIDGE = "agentrig0"
#: The network between the hosts of a lab (RFC 2544's, which no real network uses); no host has a route out of it.
SUBNET = "198.18.0"

#: What systemd-nspawn ends with when a host asked for a reboot, so that its caller starts it again.
_REBOOT = 133

#: Device files that software in a host may use; copies, so that a change of mode stays inside.
_DEVICES = ("/dev/kvm", "/dev/net/tun", "/dev/fuse")

#: Folders of a host that lie on this machine's own file system: a container engine lays file systems one over the other
#: there, and the kernel lays none over a host's own, which is such a one already.
_DISKS = ("/var/lib/containerd", "/var/lib/docker")

#: Covers /tmp (nspawn leaves a folder there when killed), goes into the host's control groups, becomes nspawn.
_LAUNCH = """
set -e
mount -t tmpfs -o mode=1777 agentrig-lab /tmp
while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs"; shift; done
shift
exec "$@"
"""

#: API_VFS_WRITABLE=network: with 1 a host could write the machine's own sysctls.
_NSPAWN_VARIABLES = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}

_MNT_DETACH = 2

#: Processes that somebody here waits for; every other dead child is an orphan that came to process 1.
_LAUNCHED: set[int] = set()


def nspawn(name: str, tree: Path, devices: Sequence[str], disks: Mapping[str, Path]) -> list[str]:
    """Give the command that boots a tree. ``disks`` are folders of this machine, by their places in the host.

    Without the system call filter, systemd's ``IPAddressDeny=`` and ``DevicePolicy=`` silently do nothing inside.
    """
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={tree}",
        f"--machine={name}",
        f"--hostname={name}",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=pipe",
        "--capability=all",
        "--system-call-filter=bpf add_key keyctl",
        *[f"--bind={folder}:{place}" for place, folder in disks.items()],
        *[f"--bind={PRIVATE / 'dev' / device.replace('/', '-')}:{device}" for device in devices],
    ]


class Throwaway:
    """One host: started, watched, taken away. Every path of it is below the lab's folder, or private."""

    def __init__(self, root: Path, group: str, name: str, system: str, index: int) -> None:
        self.name = name
        self.system = system
        self.index = index
        self._root = root
        self._group = f"{group}/{name}"
        self._folder = root / "hosts" / name
        self._tree = PRIVATE / "trees" / name
        self._net = PRIVATE / "net" / name
        self._disks = PRIVATE / "disks" / name
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self.network: Network | None = None

    @property
    def address(self) -> str:
        """Give the host's address among the hosts of its lab."""
        return f"{SUBNET}.{self.index}"

    @property
    def alive(self) -> bool:
        """Say whether the host runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Mount, wire and boot; a tree that an earlier supervisor left is booted again, as after a power cut."""
        fresh = self._mount()
        if fresh:
            self._introduce()
        self._wire()
        self._boot()
        threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True).start()

    def stop(self) -> None:
        """Kill the host and take away its mounts, namespace and control groups; its files stay."""
        self._ending.set()
        cgroups.clear(self._group)
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        if self.network is not None:
            self.network.close()
        cgroups.clear(self._group)
        _reap_orphans()
        subprocess.run(["ip", "link", "del", f"lab{self.index}"], capture_output=True, env=environment(), check=False)
        for mounted in (self._net, self._tree, self._disks):
            _detach(mounted)
        shutil.rmtree(self._folder / "work", ignore_errors=True)

    def _mount(self) -> bool:
        """Lay the host's own changes over the base tree; says whether there were none yet."""
        upper, work = self._folder / "upper", self._folder / "work"
        fresh = not (self._folder / "introduced").exists()
        if fresh:
            shutil.rmtree(upper, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
        for folder in (upper, work, self._tree):
            folder.mkdir(parents=True, exist_ok=True)
        upper.chmod(0o755)
        layers = f"lowerdir=base/{self.system},upperdir=hosts/{self.name}/upper,workdir=hosts/{self.name}/work"
        mount = ["mount", "-t", "overlay", "agentrig-lab", "-o", layers, str(self._tree)]
        run(mount, what=f"the tree of {self.name} was not mounted", cwd=self._root)
        for place in _DISKS:
            (self._folder / "disks" / _named(place)).mkdir(mode=0o711, parents=True, exist_ok=True)
        self._disks.mkdir(parents=True, exist_ok=True)
        bind = ["mount", "--bind", f"hosts/{self.name}/disks", str(self._disks)]
        run(bind, what=f"the disks of {self.name} were not mounted", cwd=self._root)
        return fresh

    def _introduce(self) -> None:
        """Give a new host its identity: machine id, name, host key, and the lab's key for root."""
        etc = self._tree / "etc"
        (etc / "machine-id").write_text(f"{secrets.token_hex(16)}\n", encoding="ascii")
        (etc / "hostname").write_text(f"{self.name}\n", encoding="ascii")
        names = f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n"
        (etc / "hosts").write_text(names, encoding="ascii")
        ssh = self._tree / "root/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(self._root / "key.pub", ssh / "authorized_keys")
        key = self._folder / "host_key"
        for half in (key, key.with_suffix(".pub")):
            half.unlink(missing_ok=True)
        run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(key)],
            what="no host key was made",
        )
        inside = etc / "ssh/ssh_host_ed25519_key"
        shutil.copyfile(key, inside)
        inside.chmod(0o600)
        shutil.copyfile(key.with_suffix(".pub"), inside.with_suffix(".pub"))
        key.unlink()
        (self._folder / "introduced").touch()

    def _wire(self) -> None:
        """Make the host's network namespace and its one cable; MAC addresses are fixed, or stale ARP stops SSH."""
        self._net.parent.mkdir(parents=True, exist_ok=True)
        self._net.touch()
        run(["unshare", f"--net={self._net}", "true"], what=f"no network namespace for {self.name}")
        outer, inner = f"02:00:00:00:01:{self.index:02x}", f"02:00:00:00:00:{self.index:02x}"
        cable = ["ip", "link", "add", f"lab{self.index}", "address", outer, "type", "veth"]
        run(
            [*cable, "peer", "name", "eth0", "address", inner, "netns", str(self._net)],
            what=f"no cable for {self.name}",
        )
        run(["ip", "link", "set", f"lab{self.index}", "master", BRIDGE, "up"], what=f"no cable for {self.name}")
        batch = f"link set lo up\nlink set eth0 up\naddr add {self.address}/24 dev eth0\n"
        run(["nsenter", f"--net={self._net}", "ip", "-batch", "-"], what=f"no network in {self.name}", stdin=batch)
        descriptor = os.open(self._net, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.network = Network(descriptor)
            self.network.stream().close()
        finally:
            os.close(descriptor)

    def _boot(self) -> None:
        """Start systemd-nspawn in the host's namespace and control groups."""
        groups = [str(group) for group in cgroups.make(self._group)]
        disks = {place: self._disks / _named(place) for place in _DISKS}
        command = nspawn(self.name, self._tree, _devices(), disks)
        launch = ["nsenter", f"--net={self._net}", "unshare", "--mount", "--propagation=private"]
        with (self._folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [*launch, "sh", "-c", _LAUNCH, "sh", *groups, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=environment(**_NSPAWN_VARIABLES),
                start_new_session=True,
            )
            _LAUNCHED.add(self._process.pid)

    def _watch(self) -> None:
        """Boot the host again each time it asks for a reboot."""
        while self._process is not None:
            status = self._process.wait()
            if status != _REBOOT or self._ending.is_set():
                return
            cgroups.clear(self._group)
            self._boot()


def prepare() -> None:
    """Make the supervisor's private places: a tmpfs over /run, device copies, the bridge between the hosts."""
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "agentrig-lab", "/run"], what="/run was not covered")
    for folder in ("trees", "net", "dev"):
        (PRIVATE / folder).mkdir(parents=True)
    for device in _devices():
        with contextlib.suppress(OSError):
            copy = PRIVATE / "dev" / device.replace("/", "-")
            os.mknod(copy, stat.S_IFCHR | 0o600, Path(device).stat().st_rdev)
    bridge = ["ip", "link", "add", BRIDGE, "address", "02:00:00:00:02:01", "type", "bridge", "forward_delay", "0"]
    run(bridge, what="the bridge between the hosts was not made")
    run(["ip", "-batch", "-"], what="the bridge was not set up", stdin=f"link set lo up\nlink set {BRIDGE} up\n")


def _devices() -> tuple[str, ...]:
    """Give the devices that this machine has and a host may have a copy of."""
    return tuple(device for device in _DEVICES if Path(device).is_char_device())


def _named(place: str) -> str:
    """Give the folder that stands for a place of a host, by a name without slashes."""
    return place.strip("/").replace("/", "-")


def _detach(path: Path) -> None:
    """Take a mount away at once, and the mount point; silent where there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(os.fsencode(path), _MNT_DETACH)
    with contextlib.suppress(OSError):
        path.rmdir() if path.is_dir() else path.unlink()


def _reap_orphans() -> None:
    """Bury the dead of a killed host, which process 1 inherits; commands that are being run share our session."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent, _, session = entry.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
            pid = int(entry.parent.name)
            ours = pid in _LAUNCHED or int(session) == os.getsid(0)
            if state == "Z" and int(parent) == os.getpid() and not ours:
                os.waitpid(pid, os.WNOHANG)


def free_listener(network: Network, wanted: int) -> socket.socket:
    """Listen on the port that was given before, or on a free one where that is taken; raises ``LabError``."""
    try:
        return network.listener(wanted)
    except OSError:
        pass
    try:
        return network.listener(0)
    except OSError as error:
        raise LabError(f"no port of 127.0.0.1 could be had: {error}") from error
