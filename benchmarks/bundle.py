"""A bundle's figures, each beside its reference in one run.

    python benchmarks/bundle.py [--rounds 5] [--mib 1024] [--ups 3]

Writing: one large file and two hundred small ones are put into a bundle, beside `cp` of the same files; both end when
the disk has them, and before each the page cache of what is read is given up (posix_fadvise(2), DONTNEED). Reading:
`bundle check` beside `sha256sum` of the same files. `--ups` (root): a cold `up` of a lab host over SSH, every registry
asked, beside that of a host without a route which builds itself from the bundle. Prints medians and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.deployment import Deployment
from orchestrator.lab import Lab
from orchestrator.lock import Store, bundle_folder, bundle_writing, read_signed, write
from orchestrator.lockfile import Artefact, HostLock, Lock
from orchestrator.progress import silent
from orchestrator.signing import public_of
from orchestrator.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

DEPLOY = str(Path(sys.executable).parent / "deploy")
SMALL, SMALL_KIB = 200, 300
MIB = 1 << 20
DECISION: dict[str, Any] = {
    "host": "one", "profile": "cpu", "llm": "a", "served_name": "a", "quant": "b", "runtime": "xllamacpp",
    "reasons": [], "context_tokens": 1, "output_tokens": 1, "kv_dtype": "f16", "agentic_class": "demonstration",
    "ledger": [], "confidence": "exact",
}  # fmt: skip


def timed(action: Callable[[], object]) -> float:
    """Give the wall seconds of an action."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def ran(*command: str | Path) -> None:
    """Run a command; it must succeed."""
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def forget(folder: Path) -> None:
    """Give up the page cache of all files of a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def filled(folder: Path, mib: int) -> State:
    """Give a state whose store holds what a lock names: one file of so many MiB and two hundred small ones."""
    state, made = State(folder / "state"), []
    store, beside, chunk = Store(state.store), folder / "beside", os.urandom(MIB)
    for number in range(SMALL + 1):
        with beside.open("wb") as file:
            file.write(number.to_bytes(4))
            for _ in range(mib if number == SMALL else 1):
                file.write(chunk if number == SMALL else chunk[: SMALL_KIB << 10])
        size = beside.stat().st_size
        digest = store.add_file(beside, move=True)
        made.append(Artefact(kind="file", name=f"n{number}", version="1", digest=digest, bytes=size, source="made"))
    decision = Deployment.model_validate(DECISION)
    links = {one.name: one.id for one in made}
    host = HostLock(profile_digest="p", hardware_digest="h", deployment=decision, links=links)
    write(folder / "deploy.lock", Lock(agentrig="0", hosts={"one": host}, artefacts=tuple(made)), state.sign)
    return state


def copying(folder: Path, rounds: int, mib: int) -> None:
    """Print the MB/s of writing and checking a bundle beside those of cp and sha256sum, side by side."""
    state, root, copy = filled(folder, mib), folder / "bundle", folder / "copy"
    signed = read_signed(folder / "deploy.lock", state.signers)
    assert signed is not None  # noqa: S101 - just written
    store = Store(state.store)
    size = sum(one.bytes or 0 for one in signed.lock.artefacts) / 1e6

    def bundled() -> None:
        bundle_writing.write(root, signed, store, None, state.sign, silent)

    def copied() -> None:
        ran("cp", "-r", "--reflink=never", store.root, copy)
        ran("sync", "-f", copy)

    def checked() -> None:
        bundle_folder.verify(bundle_folder.opened(root, state.signers()), silent)

    def summed() -> None:
        ran("sh", "-c", f"find {shlex.quote(str(copy))} -type f -print0 | xargs -0 sha256sum")

    figures: dict[str, list[float]] = {"cp": [], "bundle create": [], "sha256sum": [], "bundle check": []}
    for _ in range(rounds):
        for name, folder_read, action in (
            ("cp", store.root, copied),
            ("bundle create", store.root, bundled),
            ("sha256sum", copy, summed),
            ("bundle check", root, checked),
        ):
            ran("sync", "-f", folder)
            forget(folder_read)
            figures[name].append(size / timed(action))
        shutil.rmtree(root)
        shutil.rmtree(copy)
    print(f"{size:.0f} MB in {SMALL + 1} files, {rounds} rounds; load {os.getloadavg()[0]:.1f}")
    for name, taken in figures.items():
        print(f"{name:16}{statistics.median(taken):8.0f} MB/s   ({min(taken):.0f} to {max(taken):.0f})")
    pairs = (("bundle create", "cp"), ("bundle check", "sha256sum"))
    for one, other in pairs:
        ratios = [a / b for a, b in zip(figures[one], figures[other], strict=True)]
        print(f"{one} / {other}: {statistics.median(ratios):.2f}")


def ups(folder: Path, rounds: int) -> None:
    """Print the seconds of a cold `up` online beside those of one from a bundle, in turn."""
    taken: dict[str, list[dict[str, Any]]] = {"online": [], "from a bundle": []}
    for number in range(rounds):
        place = folder / str(number)
        (place / "rig/profiles").mkdir(parents=True)
        environment = os.environ | {"AGENTRIG_STATE": str(place / "state"), "HF_ENDPOINT": "http://127.0.0.1:9"}

        def deploy(*words: str, place: Path = place, environment: dict[str, str] = environment, **more: Any) -> str:
            command = [DEPLOY, *words]
            done = subprocess.run(
                command, cwd=place, env=environment, check=False, text=True, stdout=subprocess.PIPE, **more
            )
            if done.returncode:
                sys.exit(f"{' '.join(words)}: {done.returncode}\n{done.stdout}")
            return str(done.stdout)

        try:
            deploy("lab", "up", "2")
            one(place, deploy, taken)
        finally:
            deploy("lab", "down")
    for name, hosts in taken.items():
        seconds = [host["seconds"] for host in hosts]
        phases = {
            key: statistics.median([host["phases"].get(key, 0.0) for host in hosts]) for key in hosts[0]["phases"]
        }
        said = ", ".join(f"{key} {value:.1f}" for key, value in phases.items())
        print(f"cold up, {name:14}{statistics.median(seconds):7.1f} s   ({said})")
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(*taken.values(), strict=True)]
    print(f"from a bundle / online: {statistics.median(ratios):.2f}; load {os.getloadavg()[0]:.1f}")


def one(place: Path, deploy: Callable[..., str], taken: dict[str, list[dict[str, Any]]]) -> None:
    """Bring up the first host online and the second from the bundle of its lock."""
    online, _ = Lab(place / "state/lab").hosts()
    (place / "rig/profiles/small.yml").write_text('{"extends": "cpu", "llm": {"context_tokens": 1024}}')
    inventory = place / "rig/hosts.ini"
    common = "\n[all:vars]\nagentrig_profile=small\n"
    inventory.write_text(
        f"rig ansible_host={online.address} ansible_port={online.ssh_port}{common}"
        f"ansible_ssh_private_key_file={place}/state/lab/key\n"
        f"ansible_ssh_common_args='-o UserKnownHostsFile={place}/state/lab/known_hosts'\n"
    )
    taken["online"] += json.loads(deploy("up", "-i", "rig/hosts.ini", "--yes", "--json"))["hosts"]
    deploy("bundle", "create", "bundle", "-i", "rig/hosts.ini")
    inventory.write_text(f"rig ansible_connection=local{common}")
    signers = f"owner {public_of(place / 'state/keys/owner')}"
    with subprocess.Popen(["tar", "-cC", place, "bundle", "rig"], stdout=subprocess.PIPE) as tar:
        deploy("lab", "ssh", "host-2", "tar -xC /root && rm /root/rig/deploy.lock*", stdin=tar.stdout)
    pip = "venv/bin/python $(echo bundle/agentrig/pip-*.whl)/pip install -q --no-index --find-links bundle/agentrig"
    within = f"cd /root && python3 -m venv --without-pip venv && {pip} -r bundle/agentrig/requirements.txt"
    deploy("lab", "ssh", "host-2", f"{within} && echo {shlex.quote(signers)} > signers")
    command = "AGENTRIG_SIGNERS=signers venv/bin/deploy up -i rig/hosts.ini --bundle bundle --yes --json"
    taken["from a bundle"] += json.loads(deploy("lab", "ssh", "host-2", f"cd /root && {command}"))["hosts"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--ups", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="agentrig-bundle-"))
    try:
        if asked.rounds:
            copying(folder, asked.rounds, asked.mib)
        if asked.ups:
            ups(folder, asked.ups)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
