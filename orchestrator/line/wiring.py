"""The rooms wired to the line's ports: the only place where they meet."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import DetectError
from orchestrator.line.ports import Ports
from orchestrator.plan import plan, rehearse
from orchestrator.render import render

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence

    from orchestrator.apply import Applied
    from orchestrator.catalog.rows import Catalog
    from orchestrator.detect import Answer, Question
    from orchestrator.errors import AgentrigError
    from orchestrator.inventory import Host
    from orchestrator.lab import Lab
    from orchestrator.line.sizes import Sizes
    from orchestrator.line.values import Proposal
    from orchestrator.lock import Request
    from orchestrator.lockfile import Lock
    from orchestrator.manifest import Manifest
    from orchestrator.progress import Progress
    from orchestrator.rendered import Rendered
    from orchestrator.snapshot import HostSnapshot
    from orchestrator.state import HostState, State


class Removed(NamedTuple):
    """What ``down`` did to a host: how many things changed, and what stays there and why."""

    changed: int
    left: tuple[str, ...]


class Questions(NamedTuple):
    """What a person is asked: before hosts are changed, before much is fetched; and whether there is one to ask."""

    confirm: Callable[[Proposal], bool]
    confirm_fetch: Callable[[Sequence[Sizes]], bool]
    ready_to_ask: Callable[[], None]


def pci_names(catalog: Catalog) -> dict[str, tuple[str, int, str | None]]:
    """Give PCI id -> name, memory in MiB, compute capability, for cards seen before any driver is installed."""
    return {
        pci_id: (row.name, row.vram_mib, row.compute_capability)
        for row in catalog.gpus.values()
        for pci_id in row.pci_ids
    }


def real(
    here: State,
    catalog: Catalog,
    lab: Lab,
    questions: Questions,
) -> Ports:
    """Give the ports that really do it."""
    from orchestrator import apply as applying  # noqa: PLC0415 - Ansible is loaded when it is needed
    from orchestrator import verify  # noqa: PLC0415 - so is requests
    from orchestrator.detect import ask  # noqa: PLC0415
    from orchestrator.line.locks import Locks  # noqa: PLC0415
    from orchestrator.lock import Store, resolve  # noqa: PLC0415
    from orchestrator.lock import check as check_lock  # noqa: PLC0415

    store, names, locks = Store(here.store), pci_names(catalog), Locks(here)

    def state_of(host: Host) -> HostState:
        return here.host(host.name, lab=host.lab)

    def put(  # noqa: PLR0913, PLR0917 - the port's own shape
        host: Host,
        rendered: Rendered,
        lock: Lock,
        snapshot: HostSnapshot,
        state: HostState,
        progress: Progress,
        *,
        check: bool,
    ) -> Applied:
        secrets = state.secrets(name for file in rendered.files for name in file.secrets)
        if not check:
            state.keep_intended(applying.intended(rendered, lock, host.name, secrets))
        return applying.apply(
            host,
            rendered,
            lock,
            host.name,
            store.root,
            secrets,
            state.work,
            progress,
            check=check,
            snapshot=snapshot,
            signed=locks.signed(lock),
            former=state.manifest() or next(reversed(state.manifests()), None),
        )

    def remove(
        host: Host, manifests: Sequence[Manifest], state: HostState, progress: Progress, *, purge: bool
    ) -> Removed:
        done = applying.remove(host, manifests, state.work, progress, purge=purge)
        return Removed(done.changed, done.left)

    def asked(questions: Sequence[Question]) -> dict[str, Answer]:
        return ask(questions, pci_names=names)

    def resolved(
        requests: Mapping[str, Request],
        previous: Lock | None,
        progress: Progress,
        *,
        upgrade: Collection[str] = (),
        failures: MutableMapping[str, AgentrigError] | None = None,
    ) -> Lock:
        return resolve(requests, store, previous, progress, catalog=catalog, upgrade=upgrade, failures=failures)

    return Ports(
        catalog=catalog,
        state_of=state_of,
        ask=asked,
        plan=lambda snapshot, profile: plan(snapshot, profile, catalog),
        rehearse=lambda deployment, snapshot: rehearse(deployment, snapshot, catalog),
        render=lambda deployment: render(deployment, catalog),
        resolve=resolved,
        still_resolves=lambda lock, progress: check_lock(lock, store, progress),
        read_lock=locks.read,
        write_lock=locks.write,
        sign_lock=locks.sign,
        signed_lock=locks.seen,
        sign=here.sign,
        signers=here.signers,
        apply=put,
        activate=lambda host, manifest, progress: applying.activate(host, manifest, state_of(host).work, progress),
        restart=lambda host, manifest, progress: applying.restart(host, manifest, state_of(host).work, progress),
        reboot=lambda host, progress: applying.reboot(host, state_of(host).work, progress),
        stop=lambda host, progress: applying.stop(host, state_of(host).work, progress),
        sweep=lambda host, releases, progress: applying.sweep(host, releases, state_of(host).work, progress),
        remove=remove,
        reach=lambda host, port: reach(host, port, lab),
        accept=verify.run,
        again=verify.again,
        chat=verify.chat_once,
        ready_to_ask=questions.ready_to_ask,
        confirm=questions.confirm,
        confirm_fetch=questions.confirm_fetch,
        in_store=store.has,
    )


@contextlib.contextmanager
def reach(host: Host, port: int, lab: Lab) -> Iterator[str]:
    """Give the address at which a loopback port of a host answers from here, for as long as the block lasts."""
    if host.lab:
        yield f"http://127.0.0.1:{lab.forward(host.name, port)}"
    elif host.connection == "local":
        yield f"http://127.0.0.1:{port}"
    else:
        with _tunnel(host, port) as here:
            yield f"http://127.0.0.1:{here}"


@contextlib.contextmanager
def _tunnel(host: Host, port: int) -> Iterator[int]:
    """Pass a free port of this machine to a loopback port of an SSH host."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        here = int(probe.getsockname()[1])
    options = ["-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=10"]
    options += [f"-o{name}={value}" for name, value in host.ssh_files().items()]
    forward = f"127.0.0.1:{here}:127.0.0.1:{port}"
    command = ["ssh", "-N", "-L", forward, *options, "-p", str(host.port), f"{host.user}@{host.address}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tunnel:
        try:
            _wait_for(here, tunnel, host)
            yield here
        finally:
            tunnel.terminate()


def _wait_for(port: int, tunnel: subprocess.Popen[str], host: Host) -> None:
    for _ in range(150):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if tunnel.poll() is not None:
            break
        time.sleep(0.1)
    said = tunnel.stderr.read().strip() if tunnel.poll() is not None and tunnel.stderr else "no answer"
    raise DetectError(f"no way to its gateway: {said}", where=host.name, do="see whether ssh reaches it")
