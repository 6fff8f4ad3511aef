"""``unshare --net --mount -- python -m tests.lab.alone QUESTION``: one agent, run with nobody else to talk to.

The question is a JSON object with ``release`` (the folder that stands in for ``/opt/agentrig``), ``tree``
(what lies where among its artefacts), ``command``, ``files``
(name -> text), ``environment``, ``seconds``, ``port``, ``llm`` and ``turns`` (the endpoint's script; ``{repository}``
in it is filled in). The answer is one too: the names it asked for, what it asked of the endpoint, how it ended, what it
changed in its repository and beside it.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.lab.alone.endpoint import Endpoint

#: Whose agent it is: an account that every system has and that owns nothing.
WHO = "nobody"
#: What a script tries to make beside the repository: with a tool that writes, and with a shell.
OUTSIDE = ("outside.txt", "shell.txt")


def main(question: dict[str, Any]) -> dict[str, Any]:
    """Answer the question."""
    folder = Path(tempfile.mkdtemp(prefix="agentrig-alone-", dir="/var/tmp"))
    try:
        isolate(folder, question["release"], *question["tree"])
        return tried(question, folder, recording())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def isolate(folder: Path, release: str, tree: str, place: str) -> None:
    """Bring up the loopback, send every name to us, lay release and tree where they belong; all goes with our end."""
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
    (folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    Path("/opt/agentrig").mkdir(parents=True, exist_ok=True)
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "--bind", str(folder / "resolv.conf"), os.path.realpath("/etc/resolv.conf")],
        ["mount", "--bind", str(folder / "nsswitch.conf"), "/etc/nsswitch.conf"],
        ["mount", "--bind", release, "/opt/agentrig"],
        ["mount", "--bind", tree, place],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(command, check=True)


def recording() -> list[str]:
    """Start a name server that keeps what it is asked and knows no name; give its list, which grows."""
    found: list[str] = []
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            query, whence = server.recvfrom(4096)
            name, end = name_in(query)
            if name not in found:
                found.append(name)
            # The query's id, "no such name", and its question (RFC 1035, 4.1.1).
            server.sendto(query[:2] + b"\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00" + query[12 : end + 4], whence)

    threading.Thread(target=serve, daemon=True).start()
    return found


def name_in(query: bytes) -> tuple[str, int]:
    """Read the name of a query, and where it ends."""
    labels, place = [], 12
    while query[place]:
        labels.append(query[place + 1 : place + 1 + query[place]].decode("ascii", "replace"))
        place += 1 + query[place]
    return ".".join(labels), place + 1


def tried(question: dict[str, Any], folder: Path, names: list[str]) -> dict[str, Any]:
    """Lay a repository out, run the agent in it, and give what came of it."""
    repository, home, user = folder / "repository", folder / "home", pwd.getpwnam(WHO)
    for path in (repository, home, folder / "tmp"):
        path.mkdir()
    for name, text in question["files"].items():
        path = home / name.removeprefix("~/") if name.startswith("~/") else repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", "-c", f"safe.directory={repository}"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "The beginning"]):
        subprocess.run([*git, *command], cwd=repository, check=True)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    turns = json.loads(json.dumps(question["turns"]).replace("{repository}", str(repository)))
    endpoint = Endpoint(question["port"], turns, question["llm"])
    around = {"HOME": str(home), "TMPDIR": str(folder / "tmp"), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    began, late = time.monotonic(), False
    process = subprocess.Popen(
        question["command"],
        cwd=repository,
        env={**around, **question["environment"]},
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=question["seconds"])[0]
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, 9)
        said = process.communicate()[0]

    def read(*command: str) -> str:
        return subprocess.run([*git, *command], cwd=repository, capture_output=True, text=True, check=True).stdout

    return {
        "seconds": round(time.monotonic() - began, 1),
        "exit_code": None if late else process.returncode,
        "names": sorted(names),
        "requests": endpoint.requests,
        "left_of_the_script": len(endpoint.turns),
        "diff": read("diff"),
        "new_files": read("ls-files", "--others").splitlines(),
        "outside": [name for name in OUTSIDE if (folder / name).exists() or (home / name).exists()],
        "home": sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())[:80],
        "said": said.decode(errors="replace")[-6000:],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
