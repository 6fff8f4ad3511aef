"""The cards' driver: whether the one that is there does, what the distribution has, what its owner must do first."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from orchestrator.deployment import DriverChoice
from orchestrator.errors import UsageError
from orchestrator.plan.hardware import cards, part_of_a_machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.catalog.driver_rows import DriverRow
    from orchestrator.catalog.rows import Catalog, RuntimeRow
    from orchestrator.profile import DriverWish
    from orchestrator.snapshot import Gpu, HostSnapshot, Problem

Modules = Literal["open", "closed"]
#: What is known of the driver of a host: it serves; its library is not the loaded module's; it is on the disk and not
#: loaded; there is none; nobody looked (a pretended machine).
State = Literal["serves", "mismatch", "not_loaded", "none", "unknown"]

#: Compute capability from which NVIDIA's open modules drive a card: Turing (its notes on the open kernel modules).
OPEN_FROM = (7, 5)
#: From here on nothing but the open modules does: Blackwell, and the first branch that knows it.
OPEN_ONLY_FROM, OPEN_ONLY_BRANCH = (10, 0), 570
#: The last branch that knows cards older than Turing.
LAST_FOR_CLOSED = 580
#: Ubuntu's library of a branch: two branches exclude each other.
_LIBRARY = re.compile(r"libnvidia-compute-\d+(-server)?")
#: How a host's owner makes its firmware trust modules that the host builds itself (mokutil(1), dkms(8)).
ENROL = (
    "make and enrol its key first: apt install dkms mokutil; dkms generate_mok; mokutil --import /var/lib/dkms/mok.pub "
    "(choose a password); reboot, choose Enroll MOK in the blue screen and give the password; then set "
    "driver: {module_key: enrolled} in the profile. Or turn Secure Boot off in the firmware"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a distribution's archive has for these cards and this need."""

    row: DriverRow
    branch: str
    modules: Modules


@dataclass(frozen=True, slots=True)
class Asking:
    """What a driver is asked for: on which machine, for which cards of NVIDIA's, and what its owner wants of it."""

    snapshot: HostSnapshot
    gpus: tuple[Gpu, ...]
    capabilities: tuple[tuple[int, int] | None, ...]
    wish: DriverWish
    catalog: Catalog

    @property
    def system(self) -> str:
        """Give the host's system for a sentence."""
        return self.snapshot.os.pretty or f"{self.snapshot.os.id} {self.snapshot.os.version_id}".strip()

    @property
    def state(self) -> State:
        """Give what is known of the host's driver."""
        if problem_of(self.snapshot, "driver_mismatch"):
            return "mismatch"
        if self.snapshot.driver:
            return "serves"
        if problem_of(self.snapshot, "driver_not_loaded"):
            return "not_loaded"
        return "none" if any(gpu.source == "pci" for gpu in self.gpus) else "unknown"

    def suffices(self, need: str | None) -> bool:
        """Tell whether the driver that serves is new enough."""
        return self.state == "serves" and major(self.snapshot.driver or "") >= major(need or "")


def problem_of(snapshot: HostSnapshot, kind: str) -> Problem | None:
    """Give a host's problem of a kind, None where it has none."""
    return next((problem for problem in snapshot.problems if problem.kind == kind), None)


def major(version: str) -> int:
    """Give 580 of ``580.95.05``, 0 where there is no number."""
    digits = version.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def lacking(runtime: RuntimeRow, asking: Asking) -> str | None:
    """Give why a runtime cannot have the driver that it needs here; None where it can, or nobody looked."""
    if not runtime.min_driver or asking.state in {"unknown", "mismatch"} or asking.suffices(runtime.min_driver):
        return None
    found = offer(runtime.min_driver, asking)
    if isinstance(found, Offer):
        return None
    has = asking.snapshot.driver if asking.state == "serves" else "none"
    return f"{runtime.title} needs NVIDIA driver {runtime.min_driver} or newer, and the host has {has}; {found}"


def driver_of(runtime: RuntimeRow, asking: Asking) -> tuple[DriverChoice | None, tuple[str, ...]]:
    """Decide what is done about the driver, and why in sentences; raises UsageError where its owner must act first."""
    if asking.state == "mismatch":
        return None, ("the driver was changed and its module is still the former one: the host must be rebooted first",)
    asking, ours = _pinned(asking)
    asked = asking.wish.packages == "distribution" or ours
    wanted = asked or not (asking.suffices(runtime.min_driver) or _unseen(asking))
    if not wanted or (asking.wish.packages == "none" and asking.state == "serves"):
        return _settings(asking.wish), ()
    found = offer(runtime.min_driver, asking)
    if isinstance(found, str):
        raise UsageError(
            f"no driver serves {cards(asking.gpus)} here: {found}",
            where=asking.snapshot.name,
            do="install one as it says, see that nvidia-smi answers, then run it again",
        )
    return _choice(found, asking)


def _pinned(asking: Asking) -> tuple[Asking, bool]:
    """Ask for the branch that an earlier run installed and held, so that it stays ours; tell whether there is one."""
    row = row_for(asking.snapshot, asking.catalog.drivers.values())
    if row is None or asking.wish.packages == "none":
        return asking, False
    held = {package.name for package in asking.snapshot.packages if package.held}
    for branch in row.branches:
        if {*_filled(row.library, branch, asking)} <= held:
            wish = asking.wish.model_copy(update={"branch": asking.wish.branch or branch})
            return replace(asking, wish=wish), True
    return asking, False


def _unseen(asking: Asking) -> bool:
    """Tell whether nobody looked for a driver: a pretended machine, or a card whose driver comes with the machine."""
    return asking.state == "unknown" or all(part_of_a_machine(gpu.vendor, gpu.name) for gpu in asking.gpus)


def _settings(wish: DriverWish) -> DriverChoice | None:
    """Give what is set at a driver that stays; None where nothing was asked for."""
    if wish.power_limit_watts is None:
        return None
    return DriverChoice(persistence=wish.persistence, power_limit_watts=wish.power_limit_watts)


def offer(need: str | None, asking: Asking) -> Offer | str:
    """Give what the distribution has, or why it has nothing that does and what its owner can do."""
    if asking.wish.packages == "none":
        return "the profile leaves the driver to its owner"
    if asking.snapshot.wsl:
        return "under WSL the driver is Windows': install NVIDIA's for Windows there"
    row = row_for(asking.snapshot, asking.catalog.drivers.values())
    if row is None:
        return f"nothing is known of the driver's packages of {asking.system}"
    if not row.branches:
        return f"{asking.system} has none that is installed from here: {row.newer}"
    wish = asking.wish.branch
    branches = [one for one in row.branches if wish in {None, one} and major(one) >= major(need or "")]
    if not branches:
        asked = f", and the profile asks for {wish}" if wish else ""
        return f"the archive of {asking.system} carries {' and '.join(row.branches)}{asked}. {row.newer}"
    found = _for_cards(row, branches, asking)
    return found if isinstance(found, str) else _in_the_way(found, asking) or found


def row_for(snapshot: HostSnapshot, rows: Iterable[DriverRow]) -> DriverRow | None:
    """Give the row of a host's release, None for one that nobody has looked at."""
    version = snapshot.os.version_id
    fitting = [row for row in rows if row.os == snapshot.os.id]
    return next((row for row in fitting if row.version in {"", version, version.partition(".")[0]}), None)


def _for_cards(row: DriverRow, branches: Sequence[str], asking: Asking) -> Offer | str:
    """Choose modules that drive every card, and the first branch that has them."""
    known = [one for one in asking.capabilities if one is not None]
    if len(known) < len(asking.capabilities):
        return "whether open or closed modules drive a card of unknown compute capability is not known"
    if min(known) >= OPEN_FROM:
        least = OPEN_ONLY_BRANCH if max(known) >= OPEN_ONLY_FROM else 0
        branch = next((one for one in branches if major(one) >= least), None)
        if branch is None:
            return f"Blackwell needs {least} or newer, and {asking.system} carries {branches[-1]}. {row.newer}"
        return Offer(row, branch, "open")
    if max(known) >= OPEN_ONLY_FROM:
        return "no one module drives cards older than Turing beside Blackwell's: take one of them out"
    branch = next((one for one in branches if major(one) <= LAST_FOR_CLOSED), None)
    if branch is None:
        return f"{LAST_FOR_CLOSED} is the last branch that knows cards older than Turing"
    return Offer(row, branch, "closed")


def _in_the_way(found: Offer, asking: Asking) -> str | None:
    """Give why the packages may not be laid over what is there, and what its owner can do; None where they may."""
    ours = _filled(found.row.library, found.branch, asking)
    there = {package.name for package in asking.snapshot.packages}
    if others := sorted(name for name in there - {*ours} if _LIBRARY.fullmatch(name)):
        return (
            f"{others[0]} is installed, and excludes {found.branch}: apt purge '*nvidia*', reboot, and run it again: "
            f"{found.branch} is installed then"
        )
    strange = asking.state in {"serves", "not_loaded"} and ours[0] not in there
    if not strange or asking.wish.packages == "distribution":
        return None
    problem = problem_of(asking.snapshot, "driver_not_loaded")
    said = f"{problem.what}: {problem.do}. " if problem else ""
    return (
        f"{said}The driver there is not one of the distribution's packages: take it away, or have those laid over it "
        "with driver: {packages: distribution}"
    )


def _choice(found: Offer, asking: Asking) -> tuple[DriverChoice, tuple[str, ...]]:
    """Give the packages and the words for what a distribution offers; raises UsageError under Secure Boot."""
    row, snapshot = found.row, asking.snapshot
    signed = row.signed_open if found.modules == "open" else row.signed_closed
    built = row.open if found.modules == "open" else row.closed
    kernel: Literal["dkms", "signed", "none"] = "dkms"
    modules: tuple[str, ...] = ()
    if snapshot.container:
        kernel = "none"
    elif snapshot.secure_boot and signed and _flavour(snapshot.kernel):
        kernel, modules = "signed", signed
    else:
        modules = (*built, *(row.headers if snapshot.kernel else ()))
    there = {package.name for package in snapshot.packages}
    names = _filled((*row.library, *modules), found.branch, asking)
    if snapshot.secure_boot and kernel == "dkms" and asking.wish.module_key is None and not set(names) <= there:
        raise UsageError(
            "Secure Boot is on, and would not let in the modules that this host builds: nothing was installed",
            where=snapshot.name,
            do=ENROL,
        )
    choice = DriverChoice(
        branch=found.branch,
        modules=found.modules,
        kernel=kernel,
        packages=names,
        components=row.components,
        persistence=asking.wish.persistence,
        power_limit_watts=asking.wish.power_limit_watts,
    )
    return choice, _words(choice, asking, row)


def _words(choice: DriverChoice, asking: Asking, row: DriverRow) -> tuple[str, ...]:
    has = {
        "serves": f"{asking.snapshot.driver} is there",
        "not_loaded": "it is there and not loaded",
        "unknown": "as the profile asks",
    }
    first = (
        f"NVIDIA driver {choice.branch} from the archive of {asking.system}, {choice.modules} modules"
        f" ({has.get(asking.state, 'none is there')})"
    )
    kernel = {
        "signed": "Secure Boot is on: the modules are those that the distribution signed, so no key is enrolled",
        "none": "the host is a container without a kernel of its own: the module is its machine's business",
        "dkms": "the host builds the modules, for each kernel that it gets",
    }
    untried = (f"untried: {row.untried}",) if row.untried else ()
    return (first, kernel[choice.kernel or "dkms"], *untried)


def _filled(names: Iterable[str], branch: str, asking: Asking) -> tuple[str, ...]:
    """Give names of packages with their places filled, sorted."""
    kernel = asking.snapshot.kernel
    places = {"branch": branch, "kernel": kernel, "flavour": _flavour(kernel)}
    return tuple(sorted({name.format(**places) for name in names}))


def _flavour(kernel: str) -> str:
    """Give what a kernel is built for, as Ubuntu names it: ``generic`` of ``6.8.0-60-generic``."""
    parts = kernel.split("-", 2)
    return parts[2] if len(parts) > 2 else ""  # noqa: PLR2004 - version, build, flavour
