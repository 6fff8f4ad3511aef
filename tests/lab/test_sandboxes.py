"""Sandboxes on a real host: one door, one neighbour, a copy that comes back as a diff; what they survive.

And their walls: every probe passes, and fails with exactly its wall down.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.lab import Lab
from tests.lab.rig import Rig
from tests.walls.rows import asked, rows

HOST = "lab-walled"
WHERE = ("--lab", "--host", HOST)
ONLY = ("verify", "--lab", "--limit", HOST, "--only", "walls")
TAKEN_DOWN = Path(__file__).parent.parent / "walls/taken_down.py"
#: Tokens: Aider's first request, and room for an answer.
WINDOW = 3072
GREETING = "def greet(name):\n    return 'Hello, ' + name\n"
CHECK = "from greeting import greet\n\n\ndef test_it():\n    assert greet('you') == 'Good morning, you'\n"
#: Prints whether a TCP connection can be made: to an address and a port, within two seconds.
TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
"""


@dataclass(frozen=True)
class Walled:
    """A rig whose host has sandboxes, and a repository of its owner's."""

    rig: Rig
    repository: Path

    def sandbox(self, *words: str, code: int = 0, **more: Any) -> dict[str, Any]:
        return self.rig.document("sandbox", words[0], *WHERE, *words[1:], code=code, **more)

    def inside(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        return self.rig.run("sandbox", "exec", *WHERE, name, "--", *command)

    def said(self, name: str, *command: str) -> str:
        done = self.inside(name, *command)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def can_reach(self, name: str, address: str, port: int) -> str:
        return self.said(name, "python3", "-c", TRY, address, str(port))

    def ask(self, name: str, path: str = "/v1/models") -> int:
        """Ask the gateway from inside with the sandbox's own token; give the status."""
        text = (
            "import pathlib,sys,urllib.request,urllib.error\n"
            "token = pathlib.Path('/opt/agentrig/current/agents/tokens/agent').read_text().strip()\n"
            "request = urllib.request.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + token})\n"
            "try:\n    print(urllib.request.urlopen(request, timeout=10).status)\n"
            "except urllib.error.HTTPError as error:\n    print(error.code)\n"
        )
        return int(self.said(name, "python3", "-c", text, f"http://10.87.0.1:8080{path}"))

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.repository), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def walled(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walled]:
    mine = replace(rig, folder=tmp_path_factory.mktemp("walled"))
    llm = {"context_tokens": WINDOW, "output_tokens": 128}
    commands = ["python3 -m pytest -q -p no:cacheprovider"]
    sandbox = {"kind": "container", "packages": ["python3-pytest"], "commands": commands}
    mine.small("walled", llm=llm, agents=["aider"], people=["ada"], sandbox=sandbox)
    Lab(mine.state / "lab").up({HOST: "debian-12"})
    mine.read(HOST, "useradd --create-home ada; useradd --create-home bob")
    (host,) = mine.document("up", "--lab", "--profile", "walled")["hosts"]
    assert (host["result"], host["error"]) == ("changed", None)
    repository = tmp_path_factory.mktemp("repository")
    found = Walled(mine, repository)
    for words in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "Ada"],
        ["config", "user.email", "a@b.invalid"],
    ):
        found.git(*words)
    (repository / "greeting.py").write_text(GREETING)
    (repository / "test_greeting.py").write_text(CHECK)
    found.git("add", "-A")
    found.git("commit", "-qm", "The beginning")
    yield found
    mine.run("down", "--lab", "--limit", HOST, "--purge")


@pytest.fixture
def one(walled: Walled) -> Iterator[str]:
    walled.sandbox("create", "one")
    yield "one"
    walled.sandbox("destroy", "one")


def test_the_gateway_is_the_one_neighbour(walled: Walled, one: str) -> None:
    assert walled.ask(one) == 200
    assert walled.can_reach(one, "10.87.0.1", 8080) == "open"
    for port in (22, 80, 111, 2375, 11434, 18080):
        assert walled.can_reach(one, "10.87.0.1", port) != "open"
    for address in ("127.0.0.1", "198.18.0.1", "169.254.169.254", "192.0.2.1", "10.87.0.2"):
        assert walled.can_reach(one, address, 22) != "open"
    routes = walled.said(one, "cat", "/proc/net/route").splitlines()[1:]
    assert [line.split()[1] for line in routes] == ["0100570A"], "the gateway's address and no other"
    assert walled.said(one, "sh", "-c", "cat /proc/net/if_inet6 | grep -v ' lo$' || true") == ""


def test_the_agent_is_nobody_there(walled: Walled, one: str) -> None:
    status = walled.said(one, "cat", "/proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert fields["Uid"].split()[0] not in {"0", "1000"}
    assert walled.inside(one, "touch", "/etc/here").returncode != 0
    assert walled.inside(one, "sh", "-c", "ls /var/run/docker.sock /run/docker.sock").returncode != 0
    assert "TOKEN" not in walled.said(one, "env")


def test_a_token_is_good_as_long_as_its_sandbox(walled: Walled) -> None:
    walled.sandbox("create", "short")
    token = walled.said("short", "cat", "/opt/agentrig/current/agents/tokens/agent")
    ask = (
        "import sys, urllib.request as u, urllib.error as e\nheaders = {'Authorization': 'Bearer ' + sys.argv[1]}\n"
        "try: print(u.urlopen(u.Request('http://10.87.0.1:8080/v1/models', headers=headers), timeout=10).status)\n"
        "except e.HTTPError as x: print(x.code)\n"
    )
    assert walled.said("short", "python3", "-c", ask, token) == "200"
    assert walled.rig.read(HOST, f'python3 -c "{ask}" {token}').strip() == "401", "from another address"
    walled.sandbox("destroy", "short")
    walled.sandbox("create", "short")
    assert walled.said("short", "python3", "-c", ask, token) == "401", "the former's, from the same address"
    walled.sandbox("destroy", "short")
    assert walled.sandbox("list") == {"sandboxes": []}
    left = (
        "docker ps -aq; ls /var/lib/agentrig-sandbox /var/lib/agentrig/gateway/clients; ls -d /sys/class/net/agr[0-9]*"
    )
    assert walled.rig.read(HOST, f"({left}) 2>/dev/null || true").split() == [
        "/var/lib/agentrig-sandbox:", "/var/lib/agentrig/gateway/clients:",
    ]  # fmt: skip


def test_two_sandboxes_cannot_see_each_other(walled: Walled, one: str) -> None:
    walled.sandbox("create", "two")
    try:
        addresses = {each["name"]: each["address"] for each in walled.sandbox("list")["sandboxes"]}
        listen = "import socket; s = socket.create_server(('', 7777)); print('listens', flush=True); s.accept()"
        words = (*walled.rig.command, "sandbox", "exec", *WHERE, "two", "--", "python3", "-c", listen)
        with subprocess.Popen(words, env=walled.rig.env, cwd=walled.rig.folder, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listens\n"
            assert walled.can_reach("two", addresses["two"], 7777) == "open", "the control: it listens"
            server.kill()
        with subprocess.Popen(words, env=walled.rig.env, cwd=walled.rig.folder, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"listens\n"
            assert walled.can_reach(one, addresses["two"], 7777) != "open"
            server.kill()
    finally:
        walled.sandbox("destroy", "two")


def test_people_have_their_own_and_no_others(walled: Walled, one: str) -> None:
    as_ada = "su ada -c 'agentrig-sandbox {}'"
    made = json.loads(walled.rig.read(HOST, as_ada.format("create mine")))
    assert made["answer"]["owner_name"] == "ada"
    assert [each["name"] for each in json.loads(walled.rig.read(HOST, as_ada.format("list")))["answer"]] == ["mine"]
    denied = walled.rig.on(HOST, as_ada.format(f"exec {one} -- id"))
    assert (denied.returncode, "you have no sandbox one" in denied.stderr) == (2, True)
    assert walled.rig.on(HOST, as_ada.format(f"destroy {one}")).returncode == 2
    stranger = walled.rig.on(HOST, "su bob -c 'agentrig-sandbox list'")
    assert (stranger.returncode, "you may have no sandbox here" in stranger.stdout) == (2, True)
    assert walled.rig.read(HOST, as_ada.format("exec mine -- id -un")).strip() == "agent"
    walled.rig.read(HOST, as_ada.format("destroy mine"))
    assert walled.rig.read(HOST, "id -nG ada").split() == ["ada"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "x" * 40, "a\nb", "--help", "ünter"])
def test_no_name_leads_elsewhere(walled: Walled, name: str) -> None:
    asked = json.dumps({"verb": "create", "name": name})
    text = (
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect('/run/agentrig-sandbox/door.sock')\n"
        "s.sendall(sys.argv[1].encode()+b'\\n')\nprint(s.makefile().readline())"
    )
    told = json.loads(walled.rig.read(HOST, f"python3 -c \"{text}\" '{asked}'"))
    assert told["error"]["exit"] == 2


def test_the_door_outlives_what_is_thrown_at_it(walled: Walled, one: str) -> None:
    throw = (
        "import os,socket\nfor i in range(300):\n"
        "    s=socket.socket(socket.AF_UNIX); s.connect('/run/agentrig-sandbox/door.sock')\n"
        "    s.sendall(os.urandom(i)+(b'\\n' if i%3 else b'')+b'[]\\n'); s.close()\n"
    )
    walled.rig.read(HOST, f'python3 -c "{throw}"')
    assert walled.said(one, "echo", "still here") == "still here"


def test_an_agent_works_and_its_requests_are_counted(walled: Walled, one: str) -> None:
    words = ("--agent", "aider", "--repo", str(walled.repository), "--file", "greeting.py", "--seconds", "240")
    ran = walled.sandbox("run", one, *words, "--", "Change greet to say Good morning.")["run"]
    assert ran["requests"] >= 1
    assert (ran["sandbox"], ran["agent"]) == (one, "aider")
    assert Path(ran["diff_file"]).is_file()
    assert "aider" in Path(ran["transcript"]).read_text().lower()
    walled.sandbox("reject", one)


def test_a_failing_test_is_mended_inside_and_lands_by_file(walled: Walled, one: str) -> None:
    """A script stands in for the agent: it tries the tests, edits, tries again, and plants what would run later."""
    script = (
        "export PYTHONDONTWRITEBYTECODE=1\npython3 -m pytest -q -p no:cacheprovider && exit 9\n"
        "sed -i 's/Hello/Good morning/' greeting.py && python3 -m pytest -q -p no:cacheprovider || exit 8\n"
        "mkdir -p .vscode && echo '{}' > .vscode/tasks.json && git add -A && git commit -qm 'Mended'\n"
        "git config core.hooksPath /tmp && echo 'left' > notes.txt\n"
    )
    command = ("sandbox", "exec", *WHERE, "--repo", str(walled.repository), one, "--", "sh", "-c", script)
    done = walled.rig.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    before = walled.git("rev-parse", "main")
    review = walled.sandbox("diff", one)["review"]
    assert review["changes"][0]["path"] == ".vscode/tasks.json", "flagged ones come first"
    assert {change["path"] for change in review["changes"]} == {".vscode/tasks.json", "greeting.py", "notes.txt"}
    (walled.repository / "README.md").write_text("moved on\n")
    walled.git("add", "-A")
    walled.git("commit", "-qm", "Moved on")
    landed = walled.sandbox("accept", one, "greeting.py")["landed"]
    assert (landed["branch"], landed["paths"]) == (f"agentrig/{one}", ["greeting.py"])
    assert "Good morning" in walled.git("show", f"agentrig/{one}:greeting.py")
    assert walled.git("show", f"agentrig/{one}:README.md") == "moved on"
    assert walled.git("rev-parse", "main~1") == before
    walled.sandbox("reject", one)
    walled.git("branch", "-D", f"agentrig/{one}")


def test_what_is_late_is_ended_with_all_it_started(walled: Walled, one: str) -> None:
    client = f"agentrig-sandbox exec {one} --seconds 2 -- sh -c '(env -i setsid sleep 4321 &) ; sleep 4322'"
    began = time.monotonic()
    assert walled.rig.on(HOST, client).returncode == 124
    assert time.monotonic() - began < 30
    assert walled.rig.on(HOST, "pgrep -f 'sleep 432[12]'").returncode == 1


def test_who_goes_away_leaves_nothing_running(walled: Walled, one: str) -> None:
    words = (*walled.rig.command, "sandbox", "exec", *WHERE, one, "--", "sleep", "4323")
    with subprocess.Popen(words, env=walled.rig.env, cwd=walled.rig.folder, stdin=subprocess.DEVNULL) as child:
        until = time.monotonic() + 30
        while walled.rig.on(HOST, "pgrep -xf 'sleep 4323'").returncode and time.monotonic() < until:
            time.sleep(0.3)
        assert walled.rig.on(HOST, "pgrep -xf 'sleep 4323'").returncode == 0, "the control: it runs"
        walled.rig.read(HOST, "pkill -f 'agentrig-sandbox exec'")
        child.kill()
    until = time.monotonic() + 30
    while not walled.rig.on(HOST, "pgrep -xf 'sleep 4323'").returncode and time.monotonic() < until:
        time.sleep(0.3)
    assert walled.rig.on(HOST, "pgrep -xf 'sleep 4323'").returncode == 1


def test_a_shell_has_a_terminal(walled: Walled, one: str) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(walled.rig.folder)
        os.execvpe(walled.rig.command[0], [*walled.rig.command, "sandbox", "shell", *WHERE, one], walled.rig.env)  # noqa: S606 - a terminal's child
    said, until = b"", time.monotonic() + 60
    os.write(terminal, b"tty; echo d''one; exit\n")
    while b"done" not in said and time.monotonic() < until:
        if select.select([terminal], [], [], 1)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:
                break
    os.close(terminal)
    os.waitpid(child, 0)
    assert b"/dev/pts/" in said, said


@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "nft add rule inet agentrig forward accept",
        "nft insert rule bridge agentrig from_sandbox accept",
        "bridge link set dev agr2 isolated off",
        "ip link set agr2 nomaster",
        "nft flush set bridge agentrig places",
    ],
)
def test_a_sandbox_whose_walls_are_gone_is_stopped(walled: Walled, one: str, damage: str) -> None:
    walled.rig.read(HOST, damage)
    until = time.monotonic() + 60
    while walled.rig.read(HOST, "docker ps -q").strip() and time.monotonic() < until:
        time.sleep(0.5)
    assert walled.rig.read(HOST, "docker ps -q").strip() == ""
    (found,) = walled.sandbox("list")["sandboxes"]
    assert found["stopped"], found
    refused = walled.inside(one, "true")
    assert (refused.returncode, "was stopped" in refused.stderr) == (2, True)
    again = walled.rig.run("sandbox", "exec", *WHERE, "--again", one, "--", "true")
    assert again.returncode == 0, again.stderr
    assert walled.ask(one) == 200
    assert walled.can_reach(one, "10.87.0.1", 22) != "open"


def test_it_survives_its_door_and_docker(walled: Walled, one: str) -> None:
    walled.said(one, "sh", "-c", "echo kept > kept")
    walled.rig.read(HOST, "systemctl restart docker agentrig-sandbox")
    assert walled.said(one, "cat", "kept") == "kept"
    walled.rig.read(HOST, "docker kill $(docker ps -q)")
    assert walled.said(one, "cat", "kept") == "kept"
    assert walled.ask(one) == 200


def test_again_changes_nothing(walled: Walled, one: str) -> None:
    (host,) = walled.rig.document("up", "--lab", "--profile", "walled", "--full")["hosts"]
    assert host["changed"] == 0, host["changes"]
    assert walled.ask(one) == 200


def put(rig: Rig, path: str, text: str) -> None:
    done = rig.run("lab", "ssh", HOST, f"cat > {path}", input=text)
    assert done.returncode == 0, done.stderr


def test_every_wall_holds_and_is_told(walled: Walled) -> None:
    checks = walled.rig.document(*ONLY)["checks"]
    assert [check["name"] for check in checks] == [row.name for row in rows()]
    limits = {row.name for row in rows() if row.wall == "control group"}
    assert {check["name"] for check in checks if check["result"] == "skipped"} == limits, "a lab host has no such limit"
    assert {check["result"] for check in checks if check["name"] not in limits} == {"passed"}
    assert walled.rig.document("sandbox", "list", "--lab", "--host", HOST) == {"sandboxes": []}


def test_each_wall_down_is_seen_by_its_probes(walled: Walled) -> None:
    put(walled.rig, "/root/taken_down.py", TAKEN_DOWN.read_text())
    put(walled.rig, "/root/asked.json", json.dumps(asked()))
    said = walled.rig.read(HOST, "python3 /root/taken_down.py < /root/asked.json")
    found = [json.loads(line) for line in said.splitlines()]
    down = {each["name"]: each for each in found if each["about"] == "down"}
    assert down.keys() == {row.name for row in rows() if row.wall != "control group"}
    blind = [each for each in down.values() if each["result"] != "failed" or "could not be tried" in each["detail"]]
    assert blind == []
    for about in ("before", "after"):
        assert [each for each in found if each["about"] == about and each["result"] == "failed"] == []


def test_what_gets_past_the_first_wall_is_told_by_the_next_verify(walled: Walled) -> None:
    """What the door would have written is stood in for; with its control the door itself writes it."""
    walled.rig.read(
        HOST,
        """echo '[{"when": "2026-01-01T00:00:00Z", "who": "a", "what": "b"}]' > /run/agentrig-sandbox/alarms.json""",
    )
    try:
        (failed,) = [check for check in walled.rig.document(*ONLY, code=5)["checks"] if check["result"] == "failed"]
        assert failed["name"] == "nothing got past the first wall"
        assert "2026-01-01" in failed["detail"]
    finally:
        walled.rig.read(HOST, "rm /run/agentrig-sandbox/alarms.json")


def test_the_walls_are_pushed_at_by_night(walled: Walled) -> None:
    """The hours of the night stand in for: every hour is one."""
    door = "/opt/agentrig/current/sandbox/door.py"
    walled.rig.read(
        HOST, f"cp {door} /root/door.py; sed -i 's/^NIGHT, HALF_A_DAY = .*/NIGHT, HALF_A_DAY = range(24), 9/' {door}"
    )
    said = "journalctl --unit=agentrig-walls --output=cat --no-pager --quiet"
    try:
        walled.rig.read(HOST, "systemctl restart agentrig-sandbox")
        until = time.monotonic() + 120
        while len(found := probes(walled.rig.read(HOST, said))) < len(rows()) and time.monotonic() < until:
            time.sleep(1)
    finally:
        walled.rig.read(
            HOST, f"cp /root/door.py {door}; systemctl stop agentrig-walls; systemctl restart agentrig-sandbox"
        )
    assert {each["name"] for each in found} == {row.name for row in rows()}
    failed = {each["wall"] for each in found if each["result"] == "failed"}
    assert failed == {"control group"}, "which no lab host has; nobody told it that it is one"


def probes(said: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith('{"name"')]
