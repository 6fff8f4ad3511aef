"""Runs one playbook on one host: Ansible's events become progress, a log, and results by task."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from orchestrator.apply.guard import end_orphans, guarded
from orchestrator.apply.ssh import connection, inventory, no_root, socket_prefix
from orchestrator.errors import ApplyError, RebootNeeded, SignatureError
from orchestrator.files import data
from orchestrator.progress import Event, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.errors import AgentrigError
    from orchestrator.inventory import Host
    from orchestrator.progress import Progress

#: The task that carries, and the file in a run's folder that says how far it is.
CARRY, CARRIED = "Carry what the host lacks", "carried"
#: A task that took longer than this is named with its seconds.
SLOW_SECONDS = 5.0
_NO_ROOT = re.compile(
    r"password is required|Missing sudo password|not in the sudoers|sudo: (?:command )?not found|may not run sudo"
    r"|[Nn]o such file or directory: .*sudo|become password|a terminal is required",
)
#: What the system says of a disk without room (errno ENOSPC and EDQUOT), in the words of glibc.
_FULL = re.compile(r"No space left on device|Disk quota exceeded|have enough free space|Errno (?:28|122)\b")
_LOGS_KEPT = 20
#: How often it is asked how far the carrying is, in seconds.
_LOOK_SECONDS = 0.3


@dataclass
class Played:
    """What a run did: tasks that changed something, what each task told, what failed."""

    log: Path
    changed: int = 0
    changes: list[str] = field(default_factory=list)
    #: Module -> what it told, its results put together.
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: AgentrigError | None = None


@dataclass(frozen=True)
class Play:
    """What is run: a playbook of ours, its variables, and which of its tasks."""

    playbook: str
    values: Mapping[str, Any]
    phase: Phase = "apply"
    tags: Sequence[str] = ()
    check: bool = False
    #: Texts that must not stand in the log.
    hidden: Sequence[str] = ()


class _Listener:
    """Turns Ansible's events into progress, log lines and results."""

    def __init__(self, host: Host, play: Play, progress: Progress, log: Callable[[str], None], played: Played) -> None:
        self.host, self.play, self.progress, self.log, self.played = host, play, progress, log, played

    def tell(self, text: str, state: str = "running", seconds: float | None = None) -> None:
        self.progress(Event(self.play.phase, text, host=self.host.name, state=state, seconds=seconds))  # type: ignore[arg-type]

    def __call__(self, event: dict[str, Any]) -> bool:
        """Take one event; False keeps ansible-runner from writing it to disk."""
        about = event.get("event_data", {})
        handle = getattr(self, f"on_{event['event']}", None)
        if handle is not None:
            handle(about, about.get("res") or {})
        elif event["event"] in ("verbose", "error", "warning", "deprecated") and event.get("stdout", "").strip():
            self.log(event["stdout"])
        return False

    def on_playbook_on_task_start(self, about: dict[str, Any], _: dict[str, Any]) -> None:
        if not about["task"].startswith("Validating arguments"):
            self.tell(about["task"])

    def on_runner_on_ok(self, about: dict[str, Any], result: dict[str, Any]) -> None:
        seconds = about.get("duration", 0.0)
        changes = [str(change) for change in result.get("changes", ())]
        self.played.told.setdefault(about["resolved_action"].rsplit(".", 1)[-1], {}).update(result)
        changed = bool(result.get("changed"))
        self.log(f"{'changed' if changed else 'ok':<8}{seconds:6.1f} s  {about['task']}")
        for change in changes if changed else ():
            self.log(f"{'':18}{change}")
        if changed:
            self.played.changed += 1
            self.played.changes += changes
        if changed or seconds > SLOW_SECONDS:
            self.tell(about["task"], "changed" if changed else "ok", seconds)

    def on_runner_on_failed(self, about: dict[str, Any], result: dict[str, Any]) -> None:
        said = str(result.get("msg") or result.get("module_stderr") or "it failed without a word")
        details = "\n".join(
            str(result[key]) for key in ("module_stderr", "module_stdout", "exception") if result.get(key)
        )
        self.log(f"failed  {about.get('duration', 0.0):6.1f} s  {about['task']}: {said}\n{details}".rstrip())
        self.tell(about["task"], "failed", about.get("duration"))
        if reason := result.get("signature"):
            self.played.failure = SignatureError(
                said, reason=reason, where=self.host.name, do=str(result.get("remedy", ""))
            )
        elif reason := result.get("reboot"):
            self.played.failure = RebootNeeded.because(str(reason), self.host.name)
        elif _NO_ROOT.search(said + details):
            self.played.failure = no_root(self.host, _one_line(said))
        elif _FULL.search(said + details):
            self.played.failure = _disk_full(self.host, about["task"])
        else:
            self.played.failure = ApplyError(
                f"{about['task']}: {_one_line(said)}", where=self.host.name, do=f"the log tells more: {self.played.log}"
            )

    def on_runner_on_unreachable(self, about: dict[str, Any], result: dict[str, Any]) -> None:
        said = _one_line(str(result.get("msg", "")))
        self.log(f"unreachable  {about['task']}: {said}")
        if _NO_ROOT.search(said):
            self.played.failure = no_root(self.host, said)
        else:
            self.played.failure = ApplyError(
                f"cannot be reached: {said}", where=self.host.name, do="see whether ssh reaches it with the same key"
            )


def _disk_full(host: Host, task: str) -> ApplyError:
    return ApplyError(
        f"its disk is full: {task} ended half-way, and nothing of it is in use",
        where=host.name,
        do="make room at /opt there (deploy detect tells what is free), then run it again: it goes on from there",
    )


def _one_line(text: str) -> str:
    """Give the last telling line of a message, without Ansible's preamble."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "known hosts" not in line]
    line = lines[-1] if lines else "no word of why"
    return re.sub(r"^(Failed to connect to the host via ssh: |Task failed: |Module failed: )+", "", line)[:400]


def run(host: Host, play: Play, work_dir: Path, progress: Progress) -> Played:
    """Run a playbook on a host; what failed is in the result. Nothing with a secret is left on this machine."""
    work_dir.mkdir(parents=True, exist_ok=True)
    for stale in work_dir.glob("run-*"):
        end_orphans(stale)
        shutil.rmtree(stale, ignore_errors=True)
    played = Played(log=_new_log(work_dir / "logs", play.playbook))
    private = Path(tempfile.mkdtemp(prefix="run-", dir=work_dir))
    try:
        with (
            played.log.open("w", encoding="utf-8") as file,
            guarded(private, socket_prefix()),
            connection(host) as environment,
            _carrying(host, play, private / CARRIED, progress),
        ):

            def log(line: str) -> None:
                for hidden in play.hidden:
                    line = line.replace(hidden, "[hidden]")
                file.write(line + "\n")
                file.flush()

            listener = _Listener(host, play, progress, log, played)
            _run(host, play, private, environment, listener)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return played


def _run(host: Host, play: Play, private: Path, environment: dict[str, str], listener: _Listener) -> None:
    import ansible_runner  # noqa: PLC0415 - loaded when it is needed

    logging.getLogger("ansible-runner").setLevel(logging.CRITICAL)
    values = private / "values.yml"
    write_values(values, play.values)
    (private / "ansible.cfg").touch()
    arguments = ["-e", f"@{values}", *(["--check"] if play.check else [])]
    arguments += ["--tags", ",".join(play.tags)] if play.tags else []
    done = ansible_runner.run(
        private_data_dir=str(private),
        playbook=str(data("playbooks") / play.playbook),
        inventory=inventory(host),
        roles_path=str(data("roles")),
        envvars=_environment(private) | environment,
        cmdline=shlex.join(arguments),
        event_handler=listener,
        quiet=True,
        suppress_env_files=True,
    )
    if done.rc and listener.played.failure is None:
        said = Path(done.config.artifact_dir, "stdout").read_text(encoding="utf-8", errors="replace").strip()
        listener.log(said)
        errors = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines()[-1:]
        listener.played.failure = ApplyError(
            f"Ansible ended with {done.rc}: {_one_line(errors[0] if errors else '')}",
            where=host.name,
            do=f"the log tells more: {listener.played.log}",
        )


@contextlib.contextmanager
def _carrying(host: Host, play: Play, told: Path, progress: Progress) -> Iterator[None]:
    """Tell how many bytes the run has carried, as it writes them into a file, for as long as the block lasts."""
    over = threading.Event()

    def look() -> None:
        last = ""
        while not over.wait(_LOOK_SECONDS):
            with contextlib.suppress(OSError):
                last, before = told.read_text(encoding="ascii"), last
                if last != before and len(far := last.split()) == 2:  # noqa: PLR2004 - done and total
                    progress(Event(play.phase, CARRY, host.name, int(far[0]), int(far[1])))

    watcher = threading.Thread(target=look, name="carrying", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _environment(private: Path) -> dict[str, str]:
    """Give Ansible's settings: no file of this machine or user has a say in them."""
    return {
        "ANSIBLE_CONFIG": str(private / "ansible.cfg"),
        "ANSIBLE_LIBRARY": str(data("roles") / "host_base" / "library"),
        "ANSIBLE_MODULE_UTILS": str(data("roles") / "host_base" / "module_utils"),
        "ANSIBLE_HOME": str(private / "home"),
        "AGENTRIG_CARRIED": str(private / CARRIED),
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_FORKS": "4",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "ANSIBLE_STRATEGY": "linear",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "false",
        "LC_ALL": "C.UTF-8",
        "PATH": _path(),
    }


def _path() -> str:
    """Give a PATH on which our own ansible-playbook comes first."""
    beside = Path(sys.executable).parent
    path = f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if shutil.which("ansible-playbook", path=path) is None:
        raise ApplyError("ansible-playbook is missing", where=str(beside), do="install agentrig again")
    return path


class _Unsafe(str):
    """A text that looks like a template and must be taken as it is.

    Only such: of a tagged text Ansible's reader makes a number where it looks like one, quotes or not.
    """

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes texts so that Ansible takes them as they are."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's own shape
        return True


_Dumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style='"'))


def _unsafe(value: Any) -> Any:
    if isinstance(value, str):
        return _Unsafe(value) if "{" in value and re.search(r"\{[{%#]", value) else value
    if isinstance(value, dict):
        return {key: _unsafe(each) for key, each in value.items()}
    return [_unsafe(each) for each in value] if isinstance(value, list | tuple) else value


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write variables to a new file of mode 0600; what looks like a template in them is none."""
    text = yaml.dump(_unsafe(dict(values)), Dumper=_Dumper, allow_unicode=True, width=10**6)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _new_log(folder: Path, playbook: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    for old in logs[: -_LOGS_KEPT or None]:
        with contextlib.suppress(OSError):
            old.unlink()
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 1000 % 1_000_000:06d}"
    return folder / f"{Path(playbook).stem}-{stamp}.log"
