"""The lab as its callers see it: hosts made, listed, reached and taken away."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LabError, PrivilegeError, UsageError
from orchestrator.lab import base, cgroups, client
from orchestrator.lab.commands import FOR_HOSTS, environment, need, run
from orchestrator.lab.make_believe import install_gpus
from orchestrator.lab.privileges import missing_privileges
from orchestrator.lab.record import Record
from orchestrator.lab.systems import system_named
from orchestrator.progress import Event, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.inventory import Host
    from orchestrator.progress import Progress
    from orchestrator.snapshot import Gpu

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")

#: How long a host may take to answer and to settle; machines that emulate their processor are slow.
_BOOT_SECONDS = 120.0

#: All that a lab writes in its folder; what others keep there stays.
_OWN = (
    *("base", "hosts", "key", "key.pub", "known_hosts", "known_hosts.lock", "known_hosts.new"),
    *("lab.json", "lab.new", "supervisor.log", "control.sock", "lock"),
)


@dataclass(frozen=True, slots=True)
class LabHost:
    """One throwaway host that lives, and how SSH reaches it as root from this machine."""

    name: str
    os: str
    address: str
    ssh_port: int
    private_key: Path
    known_hosts: Path
    #: Its address among the hosts of the same lab; this machine has no route to it.
    inner_address: str

    def ssh(self) -> tuple[str, ...]:
        """Give the command that reaches the host; what to run there is put behind it."""
        options = {"BatchMode": "yes", "ConnectTimeout": "10", "LogLevel": "ERROR"} | as_host(self).ssh_files()
        told = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ("ssh", "-F", "none", "-p", str(self.ssh_port), *told, f"root@{self.address}")


def as_host(made: LabHost) -> Host:
    """Give a lab host as an entry of the address book."""
    from orchestrator.inventory import Host  # noqa: PLC0415 - the supervisor does without pydantic

    return Host(
        name=made.name,
        address=made.address,
        port=made.ssh_port,
        private_key=str(made.private_key),
        known_hosts=str(made.known_hosts),
        lab=True,
    )


class Lab:
    """The throwaway hosts of one folder. They live in one process tree, until ``down`` or until it is killed."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def up(self, hosts: Mapping[str, str], progress: Progress = silent) -> tuple[LabHost, ...]:
        """Make the hosts that are not there (name to system), all at once; those that are there stay as they are.

        Gives the hosts asked for once each answers SSH and its systemd has settled. After a supervisor was killed its
        hosts come back with their files, as after a power cut. Raises ``UsageError``, ``PrivilegeError``, ``LabError``.
        """
        systems = {name: system_named(name) for name in sorted(set(hosts.values()))}
        self._check(hosts)
        alive = {host.name for host in self.hosts()}
        missing = {name: system for name, system in hosts.items() if name not in alive}
        if missing:
            need(FOR_HOSTS)
            if lacking := missing_privileges(self._root):
                raise PrivilegeError("; ".join(lacking), where="lab", do="give it, then run the same command again")
            self._make_folders()
            with self._alone():
                for system in systems.values():
                    base.unpack(system, self._root / "base", progress)
                self._open()
                with ThreadPoolExecutor(max_workers=16) as pool:
                    list(pool.map(lambda name: self._start(name, missing[name], progress), missing))
        return tuple(host for host in self.hosts() if host.name in hosts)

    def _make_folders(self) -> None:
        """Make the lab's folder: the rigs' owner passes through it, the hosts' disks are root's alone."""
        self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
        for name in ("base", "hosts"):
            (self._root / name).mkdir(mode=0o700, exist_ok=True)

    def hosts(self) -> tuple[LabHost, ...]:
        """Give the hosts that live; none where the supervisor does not."""
        reply = client.ask(self._root, op="hosts")
        return tuple(self._host(said) for said in reply["hosts"]) if reply else ()

    def supervisor(self) -> int | None:
        """Give the process id of the supervisor; None where none lives."""
        return client.pid_of(self._root)

    def forward(self, name: str, port: int) -> int:
        """Give the port of 127.0.0.1 of this machine that leads to 127.0.0.1:``port`` in a host.

        It stays the same for the host's life, and after a supervisor was killed where nobody has taken it since.
        """
        reply = client.ask(self._root, op="forward", name=name, port=port)
        if reply is None:
            raise LabError("the lab is not up", where=str(self._root), do="deploy lab up starts it")
        return int(reply["port"])

    def put_gpus(self, name: str, gpus: Sequence[Gpu], driver: str = "580.95.05", cuda: str = "13.0") -> None:
        """Put a make-believe NVML and nvidia-smi into a host, which tell of these cards."""
        install_gpus(self._named(name).ssh(), gpus, driver, cuda)

    def remove(self, name: str) -> None:
        """Take one host away with its files."""
        client.ask(self._root, op="remove", name=name)
        run_files = self._root / "hosts" / name
        if run_files.is_dir():
            shutil.rmtree(run_files)
            Record(self._root / "lab.json").forget(name)
        self._write_known_hosts()

    def down(self) -> None:
        """Take everything of the lab away: processes, mounts, namespaces, control groups, files."""
        if not self._root.is_dir():
            return
        with self._alone():
            client.end(self._root)
            for name in _OWN:
                path = self._root / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._root.rmdir()

    def _check(self, hosts: Mapping[str, str]) -> None:
        """Refuse names that cannot be, a host of another system, and a folder that the supervisor cannot see."""
        recorded = Record(self._root / "lab.json").hosts
        for name, system in hosts.items():
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} is no name for a lab host", do="use small letters, digits and hyphens")
            if name in recorded and recorded[name].system != system:
                raise UsageError(
                    f"the lab's host {name} is {recorded[name].system}, not {system}",
                    do="deploy lab down takes the hosts away",
                )
        if self._root.resolve().is_relative_to("/run"):
            raise UsageError("a lab cannot lie below /run", where=str(self._root), do="set AGENTRIG_STATE elsewhere")

    def _open(self) -> None:
        """Start a supervisor where none lives, after removing what a killed one could not."""
        key = self._root / "key"
        if not key.is_file():
            key.with_suffix(".pub").unlink(missing_ok=True)
            run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "agentrig lab", "-f", str(key)],
                what="no key was made",
            )
        if self.supervisor() is None:
            cgroups.clear(client.group_of(self._root))
            cgroups.sweep()
            client.start(self._root)

    def _start(self, name: str, system: str, progress: Progress) -> None:
        """Start one host and wait until it has settled."""
        began = time.monotonic()
        progress(Event("lab", f"starting {system}", host=name))
        client.ask(self._root, op="start", name=name, os=system)
        self._write_known_hosts()
        state = self._settled(self._named(name))
        words = f"{system} answers after {time.monotonic() - began:.1f} s"
        told = words if state == "running" else f"{words}; systemd says {state}"
        progress(Event("lab", told, host=name, state="ok"))

    def _settled(self, host: LabHost) -> str:
        """Wait until SSH answers and systemd has done its start; gives systemd's own word for how it went."""
        deadline = time.monotonic() + _BOOT_SECONDS
        complaint = "its console is silent"
        while time.monotonic() < deadline:
            asked = subprocess.run(
                [*host.ssh(), "systemctl is-system-running --wait"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=environment(),
                check=False,
            )
            if (state := asked.stdout.strip()) in {"running", "degraded"}:
                return state
            complaint = (asked.stderr.strip() or complaint).splitlines()[-1]
            if host.name not in {one.name for one in self.hosts()}:
                break
            time.sleep(0.1)
        console = self._root / "hosts" / host.name / "console.log"
        said = console.read_text(encoding="utf-8", errors="replace").strip().splitlines() if console.exists() else []
        raise LabError(f"the host did not come up: {said[-1] if said else complaint}", where=str(console))

    def _named(self, name: str) -> LabHost:
        for host in self.hosts():
            if host.name == name:
                return host
        raise LabError(f"the lab has no host {name}", do="deploy lab list shows those that live")

    def _host(self, said: Mapping[str, Any]) -> LabHost:
        return LabHost(
            name=said["name"],
            os=said["os"],
            address="127.0.0.1",
            ssh_port=said["ssh_port"],
            private_key=self._root / "key",
            known_hosts=self._root / "known_hosts",
            inner_address=said["inner"],
        )

    def _write_known_hosts(self) -> None:
        """Write the public keys of the hosts that live, each with the port that leads to it."""
        with (self._root / "known_hosts.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = []
            for host in self.hosts():
                key = (self._root / "hosts" / host.name / "host_key.pub").read_text(encoding="ascii").split()
                lines.append(f"[{host.address}]:{host.ssh_port} {key[0]} {key[1]}\n")
            beside = self._root / "known_hosts.new"
            beside.write_text("".join(lines), encoding="ascii")
            beside.rename(self._root / "known_hosts")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other command makes or ends this lab."""
        with (self._root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
