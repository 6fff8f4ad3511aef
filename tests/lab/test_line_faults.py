"""Bad input and faults of the line: one clear line, the right exit code, nothing half-installed, what served serves."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import subprocess
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from orchestrator.lab import Lab
from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Set AGENTRIG_SEED to have the moments of an earlier run again.
SEED = int(os.environ.get("AGENTRIG_SEED") or random.SystemRandom().randrange(1 << 32))
HOST = "lab-mine"
UP = ("up", "--lab", "--profile", "mine")
PORT, OTHER_PORT = 8080, 8090
#: User nobody of Debian; with the one capability to read any file, since a checkout may be root's alone.
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all,+dac_read_search"),
    *("--ambient-caps=-all,+dac_read_search", "--bounding-set=-all,+dac_read_search"),
)
NOTHING_OF_OURS = "ls -d /opt/agentrig /etc/systemd/system/agentrig-*; getent passwd agentrig-runtime agentrig-gateway"


class Moment(NamedTuple):
    """When a run is killed: as a line of its progress comes for the nth time, or so many seconds later."""

    line: str
    nth: int = 1
    seconds: float = 0.0


#: The tasks of apply in their order; each is named as it starts, and again once it has changed something.
TASKS = (
    "Make folders and users",
    "Ask what the host lacks",
    "Carry what the host lacks",
    "Install the packages",
    "Build the artefacts",
    "Write the release",
    "Run the runtime and wait until it answers",
    "Run the gateway and wait until it answers",
)
IN_LOCK = ("resolving apt packages", "resolving llama.cpp's server", "fetching xllamacpp", "fetched apt packages")
IN_VERIFY = ("llm identity", "streaming", "streamed tool call", "links point where")
BETWEEN = Moment("Write the release", nth=2)


def set_port(rig: Rig, port: int) -> None:
    """Write the profile ``mine`` beside the lock: as ``cpu``, with a gateway port of its own."""
    profiles = rig.folder / "profiles"
    profiles.mkdir(exist_ok=True)
    (profiles / "mine.yml").write_text(f"extends: cpu\ngateway: {{port: {port}}}\n")


@pytest.fixture(scope="module")
def mine(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig of this module's own, on one fresh host."""
    rig = Rig(tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("state"), (str(installed),))
    set_port(rig, PORT)
    Lab(rig.state / "lab").up({HOST: "debian-12"})
    yield rig
    assert rig.run("lab", "down").returncode == 0


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Rig:
    """An empty folder and an empty state, without any host."""
    (tmp_path / "empty").mkdir()
    return Rig(tmp_path / "empty", tmp_path / "state", (str(installed),))


def refused(rig: Rig, *arguments: str, code: int, kind: str) -> dict[str, Any]:
    """Run a verb that must fail; give its error, which is told in a line or two and without a trace."""
    done = rig.run(*arguments, "--json", stdin=subprocess.DEVNULL)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    document = json.loads(done.stdout)
    error = document["error"]
    assert isinstance(error, dict)
    assert set(error) >= {"kind", "what", "where", "do"}
    assert error["kind"] == kind, error
    assert error["what"], error
    assert error["do"], error
    assert "\n" not in error["what"] + error["do"], error
    assert isinstance(document["hosts"], list)
    assert all(host["error"] == error for host in document["hosts"])
    return error


# ---------------------------------------------------------------- on a fresh host, before anything is put there


def test_a_taken_port_is_named_and_the_stranger_stays(mine: Rig) -> None:
    stranger = f"systemd-run --unit=stranger --property=Type=exec python3 -m http.server {PORT} --bind 127.0.0.1"
    answers = f"python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:{PORT}\").status)'"
    mine.read(HOST, f"{stranger}; for i in $(seq 50); do {answers} 2>/dev/null && break; sleep 0.1; done")
    error = refused(mine, *UP, code=1, kind="apply")
    assert f"port {PORT} is taken" in error["what"]
    assert "gateway.port" in error["do"]
    assert mine.on(HOST, NOTHING_OF_OURS).stdout == ""
    assert mine.read(HOST, answers).strip() == "200"
    mine.read(HOST, "systemctl stop stranger")


def test_check_changes_nothing(mine: Rig) -> None:
    (host,) = mine.document(*UP, "--check")["hosts"]
    assert (host["result"], host["error"]) == ("changed", None)
    assert mine.on(HOST, NOTHING_OF_OURS).stdout == ""
    assert not (mine.state / "lab/deploy.lock").exists()


def weights(rig: Rig) -> Path:
    """Give the largest blob of the store: that of the weights."""
    return max((rig.state / "store/sha256").glob("*/*"), key=lambda path: path.stat().st_size)


def test_weights_with_other_bytes_are_never_placed(mine: Rig) -> None:
    """The blob in the store is damaged, its length kept; the next run fetches it anew."""
    blob = weights(mine)
    size = blob.stat().st_size
    with blob.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\0" * 64)
    done = mine.run(*UP, "--json", stdin=subprocess.DEVNULL)
    document = json.loads(done.stdout)
    if done.returncode:
        assert done.returncode == 1
        assert blob.name in document["error"]["what"]
        assert document["error"]["do"]
        placed = mine.read(HOST, "find /opt/agentrig -name '*.gguf'; ls -d /opt/agentrig/current 2>/dev/null; true")
        assert placed == ""
        assert not blob.exists() or digest(blob) == blob.name
    else:
        assert digest(blob) == blob.name
    assert "Traceback" not in done.stderr


def digest(path: Path) -> str:
    """Give a file's sha256 as coreutils count it."""
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_a_part_that_arrives_damaged_is_refused_by_the_host(mine: Rig) -> None:
    """What lies staged on the host has the right name and length, and other bytes."""
    lock = json.loads((mine.state / "lab/deploy.lock").read_text())
    (llm,) = [one for one in lock["artefacts"] if one["kind"] == "file"]
    name = llm["digest"].removeprefix("sha256:")
    staged = f"/opt/agentrig/staging/{name}"
    mine.read(HOST, f"mkdir -p /opt/agentrig/staging; head -c {llm['bytes']} /dev/zero > {staged}")
    error = refused(mine, *UP, code=1, kind="apply")
    assert ".gguf" in error["what"]
    assert f"sha256:{name}" in error["what"]
    assert error["where"] == HOST
    assert mine.on(HOST, f"ls /opt/agentrig/store/*/*.gguf {staged} /opt/agentrig/current").stdout == ""


# ---------------------------------------------------------------- kill -9 at three moments, one between write and move


class Killed(NamedTuple):
    """What a killed run was, and what an asking beside it heard of the endpoint until after the kill."""

    pid: int
    answers: list[str]


def kill_at(rig: Rig, moment: Moment, url: str = "") -> Killed:
    """Start ``up`` and kill it at a moment; ``url`` is asked all the while."""
    answers: list[str] = []
    over = threading.Event()
    asking = threading.Thread(target=keep_asking, args=(rig, url, answers, over))
    asking.start()
    try:
        with rig.start(*UP) as running:
            assert running.stderr is not None
            seen, told = 0, []
            for line in running.stderr:
                told.append(line)
                seen += moment.line in line
                if seen == moment.nth:
                    break
            assert seen == moment.nth, f"seed {SEED}: {moment} never came\n{''.join(told)}"
            time.sleep(moment.seconds)
            running.kill()
        time.sleep(0.5)
    finally:
        over.set()
        asking.join()
    return Killed(running.pid, answers)


def keep_asking(rig: Rig, url: str, answers: list[str], over: threading.Event) -> None:
    """Ask an endpoint for its llms again and again, and write down how each asking went."""
    while url and not over.wait(0.05):
        answers.append(ask(rig, url))


def ask(rig: Rig, url: str) -> str:
    """Give the status of one request with the token, or what went wrong."""
    token = (rig.state / f"lab/rigs/{HOST}/token").read_text().strip()
    place = urlsplit(url)
    connection = HTTPConnection(place.netloc, timeout=20)
    try:
        connection.request("GET", f"{place.path}/models", headers={"Authorization": f"Bearer {token}"})
        return str(connection.getresponse().status)
    except (HTTPException, OSError) as error:
        return repr(error)
    finally:
        connection.close()


def manifest(rig: Rig) -> dict[str, Any]:
    """Give what is declared to be on the host, but for the digests of what units are started with: secrets are in."""
    kept = json.loads((rig.state / f"lab/rigs/{HOST}/manifest.json").read_text())
    assert isinstance(kept, dict)
    for file in kept["files"]:
        if file["path"].startswith("/opt/agentrig/started/"):
            assert len(file.pop("sha256")) == 64
    return kept


def left_behind(rig: Rig, killed: Killed) -> list[str]:
    """Give the processes, connections and folders of a killed run that are still there; the lab's hosts are none."""
    found = [str(path) for path in Path("/tmp").glob(f"agentrig-ssh-{killed.pid}-*")]  # noqa: S108
    found += [str(path) for path in (rig.state / f"lab/rigs/{HOST}/work").glob("run-*")]
    lab = family(Lab(rig.state / "lab").supervisor() or 0)
    for path in Path("/proc").glob("[0-9]*"):
        if int(path.name) in lab or path.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if not command or "orchestrator.lab.supervisor" in command:
                continue
            environment = (path / "environ").read_bytes().decode(errors="replace")
            if str(rig.state) in command + environment or f"agentrig-ssh-{killed.pid}-" in command:
                found.append(f"{path.name} {command}")
    return found


def family(pid: int) -> set[int]:
    """Give a process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def nothing_is_left_behind(rig: Rig, killed: Killed, moment: Moment) -> None:
    """Give a killed run's companions a few seconds to see that it is gone."""
    for _ in range(80):
        if not left_behind(rig, killed):
            return
        time.sleep(0.1)
    pytest.fail(f"seed {SEED}, killed at {moment}: {left_behind(rig, killed)}")


def converges(rig: Rig, moment: Moment, expected: dict[str, Any]) -> None:
    """Run ``up`` again: it ends accepted, with the manifest of an undisturbed run, and leaves nothing half-written."""
    about = f"seed {SEED}, killed at {moment}"
    (host,) = rig.document(*UP)["hosts"]
    assert host["error"] is None, about
    assert ask(rig, host["endpoint"]["openai"]) == "200", about
    found = manifest(rig)
    assert {key for key in expected if found[key] != expected[key]} == set(), about
    assert found == expected, about
    (status,) = rig.document("status", "--lab", "--check")["hosts"]
    assert (status["drift"], status["serving"]) == ([], True), about
    assert not list((rig.state / "store/partial").glob("*")), about
    half = "ls -A /opt/agentrig/releases | grep '^\\.'; ls -d /opt/agentrig/staging /opt/agentrig/apt/lists 2>/dev/null"
    assert rig.on(HOST, half).stdout == "", about
    written = "find /opt/agentrig /etc/systemd/system -name '.*.agentrig' -o -name '*.part' -o -name 'wheels-*'"
    assert rig.read(HOST, written) == "", about
    assert rig.on(HOST, "ps -eo args | grep -i '[a]nsible\\|[a]gentrig_'").stdout == "", about


@pytest.fixture(scope="module")
def undisturbed(mine: Rig) -> dict[str, Any]:
    """The manifest of a run that nobody disturbed, on a host that has nothing of ours."""
    assert mine.run("down", "--lab", "--purge").returncode == 0
    (host,) = mine.document(*UP)["hosts"]
    assert host["error"] is None
    return manifest(mine)


@pytest.fixture(scope="module")
def other(mine: Rig, undisturbed: dict[str, Any]) -> dict[str, Any]:
    """The manifest of an undisturbed change to the other port."""
    set_port(mine, OTHER_PORT)
    (host,) = mine.document(*UP)["hosts"]
    assert host["error"] is None
    assert manifest(mine)["release"] != undisturbed["release"]
    return manifest(mine)


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> random.Random:
    """A test's moments: the same for the same seed, whichever other tests run."""
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311 - nothing secret is drawn


def test_killed_between_writing_a_release_and_moving_current(
    mine: Rig, undisturbed: dict[str, Any], other: dict[str, Any]
) -> None:
    """The change of a rig that serves: what served before answers all the while."""
    mine.read(HOST, f"rm -r /opt/agentrig/releases/{undisturbed['release']}")
    url = mine.document("status", "--lab")["hosts"][0]["endpoint"]["openai"]
    set_port(mine, PORT)
    killed = kill_at(mine, BETWEEN, url)
    nothing_is_left_behind(mine, killed, BETWEEN)
    assert set(killed.answers) == {"200"}
    assert mine.read(HOST, "readlink /opt/agentrig/current").strip() == f"releases/{other['release']}"
    assert undisturbed["release"] in mine.read(HOST, "ls /opt/agentrig/releases")
    converges(mine, BETWEEN, undisturbed)


def test_killed_while_it_locks_or_verifies(mine: Rig, other: dict[str, Any], moments: random.Random) -> None:
    """In the lock: from nothing, on a fresh host. In verify: in the change of a rig that serves."""
    set_port(mine, OTHER_PORT)
    if moments.random() < 0.5:
        moment = Moment(moments.choice(IN_LOCK), seconds=moments.uniform(0, 0.3))
        assert mine.run("down", "--lab", "--purge").returncode == 0
        (mine.state / "lab/deploy.lock").unlink()
        shutil.rmtree(mine.state / "store")
    else:
        moment = Moment(moments.choice(IN_VERIFY), seconds=moments.uniform(0, 0.3))
    nothing_is_left_behind(mine, kill_at(mine, moment), moment)
    converges(mine, moment, other)


def test_killed_in_another_task_of_a_first_apply(
    mine: Rig, undisturbed: dict[str, Any], moments: random.Random
) -> None:
    """Half of the seeds go away again first, by what was meant to be put there and never was declared done."""
    assert mine.run("down", "--lab", "--purge").returncode == 0
    set_port(mine, PORT)
    moment = Moment(moments.choice(TASKS), seconds=moments.uniform(0, 0.6))
    nothing_is_left_behind(mine, kill_at(mine, moment), moment)
    if moments.random() < 0.5:
        (gone,) = mine.document("down", "--lab", "--purge")["hosts"]
        assert gone["error"] is None
        assert mine.on(HOST, NOTHING_OF_OURS).stdout == "", f"seed {SEED}, killed at {moment}"
    converges(mine, moment, undisturbed)


# ---------------------------------------------------------------- hosts, profiles and rights that are not there


def inventory(folder: Path, name: str, **variables: object) -> Path:
    """Write an inventory of one host."""
    path = folder / "inventory.yml"
    path.write_text(json.dumps({"all": {"hosts": {name: {"agentrig_profile": "cpu", **variables}}}}))
    return path


@pytest.mark.parametrize("verb", ["up", "status"])
def test_a_host_that_cannot_be_reached(elsewhere: Rig, verb: str) -> None:
    path = inventory(elsewhere.folder, "far", ansible_host="127.0.0.1", ansible_port=9)
    error = refused(elsewhere, verb, "-i", str(path), code=1, kind="unreachable")
    assert error["where"] == "far"
    assert "127.0.0.1 port 9" in error["what"]
    assert "refused" in error["what"]


def test_a_host_that_cannot_be_reached_is_told_a_person_in_two_lines(elsewhere: Rig) -> None:
    path = inventory(elsewhere.folder, "far", ansible_host="127.0.0.1", ansible_port=9)
    done = elsewhere.run("detect", "-i", str(path), stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith("far: ")
    assert "127.0.0.1 port 9" in first
    assert second.startswith("  see whether it is on")
    assert done.stderr == ""


def test_a_profile_that_is_not_there_is_answered_with_the_nearest(elsewhere: Rig) -> None:
    error = refused(elsewhere, "up", "--lab", "--profile", "dual-3900", code=2, kind="profile")
    assert "dual-3900" in error["what"]
    assert "dual-3090" in error["do"]
    assert not (elsewhere.state / "lab").exists()


def test_a_key_that_no_profile_has_is_answered_with_the_nearest(elsewhere: Rig) -> None:
    (elsewhere.folder / "profiles").mkdir()
    (elsewhere.folder / "profiles/mine.yml").write_text("extends: cpu\ngateway: {prot: 8090}\n")
    error = refused(elsewhere, "up", "--lab", "--profile", "mine", code=2, kind="profile")
    assert error["where"] == "mine.yml"
    assert "gateway.prot" in error["what"]
    assert "did you mean port?" in error["do"]
    assert not (elsewhere.state / "lab").exists()


def ours_here() -> set[Path]:
    """Give what of a rig lies on this machine itself."""
    return {path for path in (Path("/opt/agentrig"), *Path("/etc/systemd/system").glob("agentrig-*")) if path.exists()}


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine may have the very cards")
def test_hardware_that_is_not_there(elsewhere: Rig) -> None:
    """Without ``--yes``, so that a fault of ours ends at the question and not on this machine."""
    before = ours_here()
    error = refused(elsewhere, "up", "--profile", "dual-3090", code=2, kind="usage")
    assert "RTX 3090" in error["what"]
    assert "found no card" in error["what"]
    assert not (elsewhere.folder / "deploy.lock").exists()
    assert not (elsewhere.state / "store").exists()
    assert ours_here() == before


def test_this_machine_is_not_changed_unasked(elsewhere: Rig) -> None:
    before = ours_here()
    error = refused(elsewhere, "up", "--profile", "cpu", code=2, kind="usage")
    if Path("/run/systemd/system").exists():
        assert "no terminal" in error["what"]
        assert "--yes" in error["do"]
    else:
        assert "systemd does not run here" in error["what"]
        assert "--lab" in error["do"]
    assert not (elsewhere.state / "store").exists(), "it ends before anything is fetched"
    assert ours_here() == before


def test_no_right_to_make_a_lab(installed: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    rig = Rig(home, home / "state", (*NOBODY, str(installed)), {"HOME": str(home)})
    error = refused(rig, "up", "--lab", "--profile", "cpu", code=2, kind="privilege")
    assert "root" in error["what"]
    assert "sudo" in error["what"] + error["do"]
    assert not (home / "state/lab/hosts").exists()


def test_no_right_to_become_root_on_a_host(mine: Rig, elsewhere: Rig) -> None:
    """A user of the lab's host with a key of his own and without sudo."""
    (host,) = Lab(mine.state / "lab").hosts()
    public = shlex.quote(host.private_key.with_suffix(".pub").read_text().strip())
    make = "id plain 2>/dev/null || useradd --create-home --shell /bin/sh plain; install -d -o plain /home/plain/.ssh"
    mine.read(HOST, f"{make}; echo {public} > /home/plain/.ssh/authorized_keys; chown plain /home/plain/.ssh/*")
    path = inventory(
        elsewhere.folder,
        "plain",
        ansible_host=host.address,
        ansible_port=host.ssh_port,
        ansible_user="plain",
        ansible_ssh_private_key_file=str(host.private_key),
        ansible_ssh_common_args=f"-o UserKnownHostsFile={host.known_hosts}",
    )
    error = refused(elsewhere, "up", "-i", str(path), code=2, kind="privilege")
    assert error["where"] == "plain"
    assert "root" in error["what"]
    assert "sudo" in error["do"]
    mine.read(HOST, "userdel --remove plain 2>/dev/null; true")
