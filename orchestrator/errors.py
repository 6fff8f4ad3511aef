"""Every failure a caller may see, and the exit code of each: the only place where a code is written.

::

    AgentrigError                      1
    ├── UsageError                     2   the caller must change something
    │   ├── CatalogError               2   a row or key that the loader does not know
    │   ├── ProfileError               2   a profile that is not there, or says what cannot be
    │   ├── InventoryError             2   an inventory that names no host, or is not readable
    │   ├── PrivilegeError             2   a right that is missing, and how to get it
    │   ├── SigningError               2   a key that does not sign, or keys that cannot be read
    │   ├── SignatureError             2   a signature that is missing, of something else, or by a key nobody gave
    │   ├── RebootNeeded               2   a host whose driver was changed and that still runs the former module
    │   └── BusyError                  2   another deploy is at work on the same state
    ├── NoFit                          3   nothing fits; carries every rejection
    ├── DriftError                     4   a host is not what was put there
    ├── DetectError                    1   a host could not be read
    │   ├── Unreachable                1   a host that lets nobody in, or does not answer
    │   ├── ProbeMissing               1   the command of a probe is not on the host
    │   └── ProbeGarbled               1   a probe answered what its parser does not understand
    ├── LockError                      1   a registry, a hash, a name that does not resolve
    ├── ApplyError                     1   a host could not be changed
    ├── LabError                       1   the lab could not make or reach a throwaway host
    ├── SandboxError                   1   a sandbox could not be made or reached
    └── VerifyError                    5   not accepted
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_FIT = 3
EXIT_DRIFT = 4
EXIT_NOT_ACCEPTED = 5

#: Several hosts: the first of these that occurs is the exit code of the run.
EXIT_PRECEDENCE = (EXIT_USAGE, EXIT_FAILED, EXIT_NOT_ACCEPTED, EXIT_NO_FIT, EXIT_DRIFT)


class AgentrigError(Exception):
    """A failure with its three sentences: what was wrong, where, and what to do now."""

    kind: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do
        #: False where what had been begun could not be undone either.
        self.undone = True

    def __copy__(self) -> Self:
        """Give the same failure again, to be told otherwise: a failure's own arguments are its class's business."""
        again = type(self).__new__(type(self), self.what)
        again.__dict__.update(self.__dict__)
        return again

    def __str__(self) -> str:
        """Give the failure in one line."""
        return f"{self.where}: {self.what}" if self.where else self.what

    def document(self) -> dict[str, str]:
        """Give the ``error`` key of the command line's JSON."""
        return {"kind": self.kind, "what": self.what, "where": self.where, "do": self.do}


class UsageError(AgentrigError):
    """The caller must change something: an argument, an input, a file."""

    kind = "usage"
    exit_code = EXIT_USAGE


class CatalogError(UsageError):
    """A catalog row or key that the loader does not know."""

    kind = "catalog"


class ProfileError(UsageError):
    """A profile that is not there, or that says what cannot be."""

    kind = "profile"


class InventoryError(UsageError):
    """An inventory that names no host, or cannot be read."""

    kind = "inventory"


class PrivilegeError(UsageError):
    """A right that is missing, and how to get it."""

    kind = "privilege"


class SigningError(UsageError):
    """A key that does not sign, or a file of known keys that cannot be read."""

    kind = "signing"


SignatureFault = Literal["unsigned", "garbled", "another_kind", "edited", "unknown", "not_allowed"]


class SignatureError(UsageError):
    """A signature that is missing, of something else, or by a key that nobody gave beforehand.

    ``reason``: unsigned, garbled (no signature), another_kind (one of a bundle beside a lock), edited (of other
    content), unknown (a key nobody gave), not_allowed (a given key, but not for this or not any more).
    """

    kind = "signature"

    def __init__(self, what: str, *, reason: SignatureFault, where: str = "", do: str = "") -> None:
        super().__init__(what, where=where, do=do)
        self.reason: SignatureFault = reason


class RebootNeeded(UsageError):  # noqa: N818 - a state of a host, not a fault of the program
    """A host that has to be rebooted before it can go on: its driver is not the module that it runs."""

    kind = "reboot"

    @classmethod
    def because(cls, why: str, host: str) -> Self:
        """Give the failure of a host that has to be rebooted for a reason."""
        return cls(
            f"{why}: the host must be rebooted",
            where=host,
            do="run it again with --reboot, which does that, waits and goes on; or reboot it, then run it again",
        )


class BusyError(UsageError):
    """Another ``deploy`` is at work on the same state."""

    kind = "busy"


class NoFit(AgentrigError):  # noqa: N818 - the architecture's word for the outcome of a plan
    """Nothing fits. ``rejections`` holds a (choice, reason) pair for all that was tried."""

    kind = "no_fit"
    exit_code = EXIT_NO_FIT

    def __init__(self, what: str, *, where: str = "", do: str = "", rejections: Iterable[object] = ()) -> None:
        super().__init__(what, where=where, do=do)
        self.rejections = tuple(rejections)
        #: What stands in the document beside the error: what other cards would serve, where that was asked.
        self.more: dict[str, object] = {}


class DriftError(AgentrigError):
    """A host is not what was put there."""

    kind = "drift"
    exit_code = EXIT_DRIFT


class DetectError(AgentrigError):
    """A host could not be read."""

    kind = "detect"


class Unreachable(DetectError):  # noqa: N818 - a state of a host, not a fault of the program
    """A host that lets nobody in, or does not answer."""

    kind = "unreachable"


class ProbeMissing(DetectError):  # noqa: N818 - a state of a probe, not a fault of the program
    """The command of a probe is not on the host."""

    kind = "probe_missing"


class ProbeGarbled(DetectError):  # noqa: N818 - a state of a probe, not a fault of the program
    """A probe answered what its parser does not understand."""

    kind = "probe_garbled"


class LockError(AgentrigError):
    """A registry, a hash, a name that does not resolve."""

    kind = "lock"


class ApplyError(AgentrigError):
    """A host could not be changed."""

    kind = "apply"


class LabError(AgentrigError):
    """The lab could not make or reach a throwaway host."""

    kind = "lab"


class SandboxError(AgentrigError):
    """A sandbox could not be made or reached."""

    kind = "sandbox"


class VerifyError(AgentrigError):
    """Not accepted."""

    kind = "not_accepted"
    exit_code = EXIT_NOT_ACCEPTED


def exit_code_of_many(codes: Iterable[int]) -> int:
    """Give the exit code of a run over several hosts: the first of 2, 1, 5, 3, 4 that occurs, else 0."""
    seen = set(codes)
    return next((code for code in EXIT_PRECEDENCE if code in seen), EXIT_DONE)
