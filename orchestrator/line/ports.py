"""The rooms as the line calls them. Tests give others; ``real`` gives these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.apply import Activated, Applied, Swept
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment, StandIn
    from orchestrator.detect import Answer, Question
    from orchestrator.errors import AgentrigError
    from orchestrator.evidence import Area, Check
    from orchestrator.inventory import Host
    from orchestrator.line.sizes import Sizes
    from orchestrator.line.values import Proposal
    from orchestrator.lock import Request, SignedLock
    from orchestrator.lockfile import Lock
    from orchestrator.manifest import Manifest
    from orchestrator.profile import Profile
    from orchestrator.progress import Progress
    from orchestrator.rendered import Rendered
    from orchestrator.signing import Kind, Signers
    from orchestrator.snapshot import HostSnapshot
    from orchestrator.state import HostState
    from orchestrator.verify import Subject


class Asks(Protocol):
    """Read many hosts, one connection each."""

    def __call__(self, questions: Sequence[Question]) -> dict[str, Answer]:
        """Give an answer for each host's name."""


class Resolves(Protocol):
    """Fill the lock and the store."""

    def __call__(
        self,
        requests: Mapping[str, Request],
        previous: Lock | None,
        progress: Progress,
        *,
        upgrade: Collection[str] = (),
        failures: MutableMapping[str, AgentrigError] | None = None,
    ) -> Lock:
        """Give the lock with all that the requests need; versions move for the names in ``upgrade`` alone.

        A host that cannot be resolved is put into ``failures``; without those the first failure is raised.
        """


class Applies(Protocol):
    """Put a rendering on a host."""

    def __call__(  # noqa: PLR0913, PLR0917 - one step of the line, each a value of it
        self,
        host: Host,
        rendered: Rendered,
        lock: Lock,
        snapshot: HostSnapshot,
        state: HostState,
        progress: Progress,
        *,
        check: bool,
    ) -> Applied:
        """Give what was changed and the manifest."""


class Removal(Protocol):
    """What ``down`` did to a host."""

    @property
    def changed(self) -> int:
        """Give how many things changed."""

    @property
    def left(self) -> tuple[str, ...]:
        """Give what stays there, and why."""


class Removes(Protocol):
    """Take away what manifests say was put on a host."""

    def __call__(
        self, host: Host, manifests: Sequence[Manifest], state: HostState, progress: Progress, *, purge: bool
    ) -> Removal:
        """Give what was done and what stays."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All effects of the line, each a function."""

    catalog: Catalog
    state_of: Callable[[Host], HostState]
    ask: Asks
    plan: Callable[[HostSnapshot, Profile], Deployment]
    rehearse: Callable[[Deployment, HostSnapshot], tuple[Deployment, tuple[StandIn, ...]]]
    render: Callable[[Deployment], Rendered]
    resolve: Resolves
    still_resolves: Callable[[Lock, Progress], tuple[str, ...]]
    read_lock: Callable[[Path], Lock | None]
    write_lock: Callable[[Path, Lock], None]
    #: Signs a lock's file as it lies there; gives what it holds.
    sign_lock: Callable[[Path], Lock]
    #: A lock by its digest as it was read or written here, with its signature; None for one that was neither.
    signed_lock: Callable[[str], SignedLock | None]
    #: The owner's signature of some bytes, and those whose signatures count here.
    sign: Callable[[bytes, Kind], str]
    signers: Callable[[], Signers]
    apply: Applies
    activate: Callable[[Host, Manifest, Progress], Activated]
    #: Starts the runtime of a release that a host has anew; gives the seconds until it was well.
    restart: Callable[[Host, Manifest, Progress], float]
    #: Reboots a host and waits until it is up again.
    reboot: Callable[[Host, Progress], None]
    stop: Callable[[Host, Progress], None]
    #: Takes releases away from a host, by their ids, and what no release uses any more.
    sweep: Callable[[Host, Sequence[str], Progress], Swept]
    remove: Removes
    reach: Callable[[Host, int], AbstractContextManager[str]]
    accept: Callable[[Subject, Collection[Area], Progress], tuple[Check, ...]]
    #: The checks after a restart that took so many seconds, of so many that it may take.
    again: Callable[[Subject, float, float, Progress], tuple[Check, ...]]
    chat: Callable[[str, str, str], Check]
    #: Raises UsageError where a question could not be asked, before the work that it would be about.
    ready_to_ask: Callable[[], None]
    confirm: Callable[[Proposal], bool]
    #: Asks before a large download begins; given is what each host needs of it.
    confirm_fetch: Callable[[Sequence[Sizes]], bool]
    #: Tells for a digest whether this machine's store has it.
    in_store: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Way:
    """What every step of the line is given: the effects, and whom to tell."""

    ports: Ports
    progress: Progress
