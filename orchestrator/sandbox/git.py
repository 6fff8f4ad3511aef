"""The one door to ``git``: a child process with an environment of ours, bounded in time, memory and disk.

Two kinds of repository are met. The owner's: his configuration counts, for it says what is ignored and how his files
are filtered, but his hooks and file monitor stay off and nothing is fetched. A quarantine: no configuration but ours
counts, no attributes, no filters. Variables named ``GIT_*`` of the caller reach neither.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orchestrator.errors import SandboxError
from orchestrator.sandbox.visible import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: git-config(1). Nothing is run that a repository names, and no protocol is spoken but a pipe that we hold.
_ALWAYS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.logAllRefUpdates": "true",
    "protocol.allow": "never",
    "submodule.recurse": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "color.ui": "false",
    "log.showSignature": "false",
    "diff.ignoreSubmodules": "dirty",
    "advice.detachedHead": "false",
}
#: A quarantine besides: files over 16 MiB are streamed and not diffed; windows are small, so that memory is bounded.
_QUARANTINE = {
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.symlinks": "false",
    "core.bigFileThreshold": "16m",
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "512m",
    "core.deltaBaseCacheLimit": "96m",
    "pack.threads": "2",
    "transfer.fsckObjects": "true",
    "merge.directoryRenames": "false",
    "merge.renames": "true",
    "diff.renameLimit": "2000",
    "i18n.logOutputEncoding": "UTF-8",
    "user.useConfigOnly": "true",
}
_FIXED = {
    "LC_ALL": "C.UTF-8",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_GRAFT_FILE": "/dev/null",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_EDITOR": "false",
    "GIT_PAGER": "cat",
}
_ALONE = {
    "HOME": "/nonexistent",
    "XDG_CONFIG_HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
}


class GitFailed(SandboxError):  # noqa: N818 - what Git said, not a fault of the program
    """Git ended with another code than 0; what it said can be shown."""

    def __init__(self, verb: str, code: int, said: bytes) -> None:
        lines = [line for line in shown(said[-4000:]).splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "")
        ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        super().__init__(f"git {verb} {ended}{': ' + told if told else ''}")
        self.code = code
        self.said = "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one Git process may take: seconds, and bytes of memory and of one file that it writes."""

    seconds: float = 600
    memory: int | None = None
    file: int | None = None


@dataclass(frozen=True, slots=True)
class Git:
    """A repository to ask. ``also`` are variables of the environment besides the fixed ones."""

    folder: Path
    environment: dict[str, str]
    bounds: Bounds = field(default_factory=Bounds)

    def within(self, bounds: Bounds) -> Git:
        """Give the same repository with other bounds."""
        return replace(self, bounds=bounds)

    def beside(self, **also: str) -> Git:
        """Give the same repository with variables of the environment besides."""
        return replace(self, environment=self.environment | also)

    def writing_to(self, objects: Path, *reading: Path) -> Git:
        """Give the same repository with new objects written to one folder, and objects read from others as well."""
        known = ":".join(_quoted(str(path)) for path in reading)
        return self.beside(GIT_OBJECT_DIRECTORY=str(objects), GIT_ALTERNATE_OBJECT_DIRECTORIES=known)

    def run(self, verb: str, *words: str, stdin: bytes = b"") -> bytes:
        """Give what Git wrote; raises GitFailed."""
        code, out, said = self.ask(verb, *words, stdin=stdin)
        if code != 0:
            raise GitFailed(verb, code, said)
        return out

    def ask(self, verb: str, *words: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Give Git's exit code, what it wrote and what it said; raises SandboxError where it takes too long."""
        with self._started(verb, words, subprocess.PIPE) as child:
            try:
                out, said = child.communicate(stdin, timeout=self.bounds.seconds)
            except subprocess.TimeoutExpired:
                raise _too_long(verb, self.bounds) from None
        return child.returncode, out, said

    def line(self, verb: str, *words: str) -> str | None:
        """Give the one line that Git wrote; None where it ended with another code than 0, or wrote nothing."""
        code, out, _ = self.ask(verb, *words)
        text = out.decode("utf-8", "surrogateescape").removesuffix("\n")
        return text if code == 0 and text else None

    @contextlib.contextmanager
    def talk(self, verb: str, *words: str) -> Iterator[Talk]:
        """Start Git with both pipes open; it is ended when the block ends or its seconds are over."""
        with tempfile.TemporaryFile() as said, self._started(verb, words, said) as child:
            clock = threading.Timer(self.bounds.seconds, _end, (child,))
            clock.start()
            try:
                yield Talk(verb, child, said, clock, self.bounds)
            finally:
                clock.cancel()

    @contextlib.contextmanager
    def _started(self, verb: str, words: tuple[str, ...], errors: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        try:
            child = subprocess.Popen(
                ["git", verb, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"git cannot be started: {error.strerror}", where=str(self.folder)) from error
        try:
            for what, most in ((resource.RLIMIT_DATA, self.bounds.memory), (resource.RLIMIT_FSIZE, self.bounds.file)):
                if most is not None:
                    with contextlib.suppress(ProcessLookupError):
                        resource.prlimit(child.pid, what, (most, most))
            yield child
        finally:
            _end(child)
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            child.wait()


class Talk:
    """Git at work: ``write`` to it, ``out`` to read from, ``end`` for its code."""

    def __init__(
        self, verb: str, child: subprocess.Popen[bytes], said: IO[bytes], clock: threading.Timer, bounds: Bounds
    ) -> None:
        if child.stdin is None or child.stdout is None:
            raise SandboxError("git was started without pipes")
        self.verb, self._child, self._said, self._clock, self._bounds = verb, child, said, clock, bounds
        self.into, self.out = child.stdin, child.stdout

    def write(self, content: bytes) -> None:
        """Give Git a piece; where it has ended, its own words are the error."""
        try:
            self.into.write(content)
        except BrokenPipeError:
            self.end()
            raise

    def end(self) -> bytes:
        """Say that nothing more comes, wait, and give the rest of what Git wrote; raises GitFailed."""
        with contextlib.suppress(BrokenPipeError):
            self.into.close()
        rest = self.out.read()
        code = self._child.wait()
        if not self._clock.is_alive():
            raise _too_long(self.verb, self._bounds)
        if code != 0:
            self._said.seek(0)
            raise GitFailed(self.verb, code, self._said.read())
        return rest


def quarantined(folder: Path) -> Git:
    """Give a bare repository of ours, that no configuration but ours reaches."""
    environment = _base() | _ALONE | {"GIT_DIR": str(folder)}
    return Git(Path("/"), environment | _settings(_ALWAYS | _QUARANTINE | {"core.logAllRefUpdates": "false"}))


def owners(folder: Path, **also: str) -> Git:
    """Give a repository of the owner's, found from a folder in it."""
    kept = {key: value for key, value in os.environ.items() if key in {"HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME"}}
    return Git(folder, _base() | kept | also | _settings(_ALWAYS))


def _base() -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "TMPDIR", "SUDO_UID") if key in os.environ}
    return kept | _FIXED


def _settings(settings: Mapping[str, str]) -> dict[str, str]:
    numbered: dict[str, Any] = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return numbered


def _quoted(path: str) -> str:
    """Spell a path for GIT_ALTERNATE_OBJECT_DIRECTORIES, whose entries are parted by colons (git(1))."""
    if not path.startswith('"') and not set(path) & set(':\n\t"\\'):
        return path
    signs = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(signs.get(sign, sign) for sign in path) + '"'


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def _too_long(verb: str, bounds: Bounds) -> SandboxError:
    return SandboxError(f"git {verb} took longer than {bounds.seconds:g} s and was ended", do="allow more seconds")
