"""Tries one agent on its host: ``/usr/bin/python3 -I -c TEXT QUESTION``. It needs the standard library alone.

The question is a JSON object with ``command``, ``files`` (name -> text), ``user``, ``seconds``, ``log_tag``, ``token``
(the file with the user's token) and ``unit``. The answer is one too: what the gateway logged for the user meanwhile,
how the agent ended, what it changed. It runs as the user, in a repository made for it, under a unit of its own that
reaches this machine alone; nothing of it is left.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATH = "/usr/local/bin:/usr/bin:/bin"
#: Characters of its last words that are kept.
SAID = 1500
#: How often the journal is looked at for a first entry, and how long between.
LOOKS, LOOK_SECONDS = 10, 0.5
#: An agent runs with nothing but its folder to write to; its program needs to make code while it runs (JIT).
WALLS = (
    *("IPAddressDeny=any", "IPAddressAllow=localhost", "NoNewPrivileges=yes", "ProtectSystem=strict"),
    *("ProtectHome=yes", "PrivateDevices=yes", "CapabilityBoundingSet=", "RestrictSUIDSGID=yes", "TasksMax=512"),
)


def main() -> int:
    """Answer the question."""
    question = json.loads(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="agentrig-agent-", dir="/var/tmp"))
    try:
        answer = tried(question, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def tried(question: dict, folder: Path) -> dict:  # type: ignore[type-arg]
    """Make the repository, run the agent in it, and give what came of it."""
    user = pwd.getpwnam(question["user"])
    repository = laid_out(folder, question["files"], user)
    before = journal(question["log_tag"], "--lines=1", "--show-cursor").rpartition("cursor: ")[2].strip()
    began = time.monotonic()
    done = subprocess.run(
        [*unit(question, folder, repository, user), *question["command"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    seconds = time.monotonic() - began
    logged = logged_since(before, question)
    token = Path(question["token"]).read_text(encoding="utf-8").strip()
    said = done.stdout.decode(errors="replace").replace(token, "…")
    return {
        "exit_code": done.returncode,
        "seconds": round(seconds, 1),
        "timed_out": seconds >= question["seconds"],
        "requests": logged,
        "diff": seen(["diff", "--stat", "HEAD"], question, repository, user).replace(token, "…"),
        "new_files": seen(["ls-files", "--others", "--exclude-standard"], question, repository, user).splitlines()[:20],
        "said": said[-SAID:],
    }


def laid_out(folder: Path, files: dict[str, str], user: pwd.struct_passwd) -> Path:
    """Make a home, a place for temporary files and a repository with one commit, all of them the user's."""
    repository = folder / "repository"
    for path in (repository, folder / "home", folder / "tmp"):
        path.mkdir()
    for name, text in files.items():
        (repository / name).write_text(text, encoding="utf-8")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    git(["init", "--quiet"], repository, user)
    git(["add", "--all"], repository, user)
    git(["commit", "--quiet", "--message=The beginning"], repository, user)
    return repository


def seen(arguments: list[str], question: dict, repository: Path, user: pwd.struct_passwd) -> str:  # type: ignore[type-arg]
    """Give what git tells of the repository now, behind the agent's own walls: its settings can run code."""
    command = [*unit(question, repository.parent, repository, user), "git", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode(errors="replace") if done.returncode == 0 else "its repository cannot be read"


def git(arguments: list[str], repository: Path, user: pwd.struct_passwd) -> str:
    """Run git in the repository as the user, with nobody's settings; give what it prints."""
    name, address = "agentrig", "agentrig@localhost"
    who = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address, "GIT_COMMITTER_NAME": name}
    done = subprocess.run(
        ["git", *arguments],
        cwd=repository,
        env={
            **who,
            "GIT_COMMITTER_EMAIL": address,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HOME": str(repository.parent / "home"),
            "PATH": PATH,
        },
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        capture_output=True,
        check=True,
    )
    return done.stdout.decode(errors="replace")


def unit(question: dict, folder: Path, repository: Path, user: pwd.struct_passwd) -> list[str]:  # type: ignore[type-arg]
    """Give the words that run a command as a unit of its own and wait for its end."""
    properties = [*WALLS, f"RuntimeMaxSec={question['seconds']}", f"ReadWritePaths={folder}"]
    environment = {"HOME": folder / "home", "TMPDIR": folder / "tmp", "PATH": PATH, "LANG": "C.UTF-8"}
    identity = {"GIT_AUTHOR_NAME": "agent", "GIT_AUTHOR_EMAIL": "agent@localhost"}
    identity |= {"GIT_COMMITTER_NAME": "agent", "GIT_COMMITTER_EMAIL": "agent@localhost"}
    return [
        *("systemd-run", "--wait", "--pipe", "--collect", "--quiet", f"--unit={question['unit']}"),
        *(f"--uid={user.pw_uid}", f"--gid={user.pw_gid}", f"--working-directory={repository}"),
        *(f"--property={each}" for each in properties),
        *(f"--setenv={name}={value}" for name, value in {**environment, **identity}.items()),
        "--",
    ]


def logged_since(before: str, question: dict) -> list[str]:  # type: ignore[type-arg]
    """Give what the gateway logged for the user after an entry of its own; a request is logged when it has ended.

    The entry must be one of the gateway's: journalctl drops the first after it where it does not match (252).
    """
    after = [f"--after-cursor={before}"] if before else []
    for _ in range(LOOKS):
        subprocess.run(["journalctl", "--sync"], check=False, capture_output=True)
        lines = journal(question["log_tag"], "--output=cat", *after).splitlines()
        if found := [line for line in lines if line.startswith(question["user"] + " ")]:
            return found
        time.sleep(LOOK_SECONDS)
    return []


def journal(tag: str, *arguments: str) -> str:
    """Give what the journal prints of one program."""
    command = ["journalctl", "--quiet", "--no-pager", f"--identifier={tag}", *arguments]
    return subprocess.run(command, capture_output=True, check=False).stdout.decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
