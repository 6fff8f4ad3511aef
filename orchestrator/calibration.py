"""Calibration: what a runtime logs of its memory at start, held against the ledger that it was planned by. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.deployment import Confidence, Deployment

Part = Literal["weights", "cache", "compute"]
PARTS: tuple[Part, ...] = ("weights", "cache", "compute")
#: Share by which a part may differ before it is told, by how sure its figure is: what the estimates are held to.
ALLOWED: Mapping[Confidence, float] = {"exact": 0.05, "estimated": 0.15, "lower_bound": 0.30}
#: MiB below which no difference is told: buffers are rounded, and a very small llm is all rounding.
LEAST_MIB = 64
MIB_A_GIB = 1024


class Logged(Noun):
    """MiB of one part as a runtime logged them, and the line that says so."""

    part: Part
    mib: float
    source: str


class Calibration(Noun):
    """One part of the ledger against the log, in MiB: of llama.cpp over all cards, of others on the fullest card.

    The cache is that of the promised window, whatever the runtime allocates beyond it. What is planned for computing
    covers more than the buffers that a runtime logs, so of it only more than planned is a difference.
    """

    part: Part
    expected_mib: float
    logged_mib: float
    source: str
    #: Share by which the two may differ, by the plan's confidence.
    allowed: float

    @property
    def differs(self) -> bool:
        """Tell whether the two differ by more than the plan's confidence allows."""
        more = self.logged_mib - self.expected_mib
        apart = more if self.part == "compute" else abs(more)
        return apart > max(LEAST_MIB, self.allowed * self.expected_mib)

    @property
    def warning(self) -> str:
        """Give the difference in a sentence with both figures."""
        return (
            f"memory of {self.part}: planned {self.expected_mib:.0f} MiB, the runtime logged {self.logged_mib:.0f} MiB,"
            f" more than {self.allowed:.0%} apart"
        )


def calibrate(lines: Sequence[str], deployment: Deployment) -> tuple[Calibration, ...]:
    """Give each part that the log tells against the ledger; nothing where the runtime logs nothing of it."""
    read = _READERS.get(deployment.runtime)
    rows = [row for row in deployment.ledger if row.part == "main"]
    if read is None or not rows:
        return ()
    join = sum if deployment.runtime in _WHOLE else max
    expected: dict[Part, float] = {
        "weights": join(row.weights_mib for row in rows),
        "cache": join(row.kv_mib for row in rows),
        "compute": join(row.compute_mib for row in rows),
    }
    logged = {one.part: one for one in read(lines, deployment)}
    return tuple(
        Calibration(
            part=part,
            expected_mib=round(expected[part], 2),
            logged_mib=round(logged[part].mib, 2),
            source=logged[part].source[:200],
            allowed=ALLOWED[deployment.confidence],
        )
        for part in PARTS
        if part in logged
    )


def warnings(calibrations: Sequence[Calibration]) -> tuple[str, ...]:
    """Give what differs more than it may, a sentence each."""
    return tuple(one.warning for one in calibrations if one.differs)


#: llama.cpp's lines (its source: load_tensors, llama_kv_cache, llama_memory_recurrent, sched_reserve), by part.
_LLAMA_CPP: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("weights", re.compile(r"(?:load_tensors|llm_load_tensors): +(\S+)(?: model)? buffer size = +([\d.]+) MiB")),
    ("cache", re.compile(r"(?:kv_cache\w*|memory_recurrent\w*): +(\S+) (?:KV|RS) buffer size = +([\d.]+) MiB")),
    ("compute", re.compile(r": +(\S+) +compute buffer size = +([\d.]+) MiB")),
)


def llama_cpp(lines: Sequence[str], deployment: Deployment) -> tuple[Logged, ...]:
    """Read llama.cpp's buffers: those of the cards where it has any, else those of the RAM, summed by part."""
    found = []
    for part, pattern in _LLAMA_CPP:
        seen: dict[str, tuple[float, str]] = {}
        for line in lines:
            if (match := pattern.search(line)) and _counts(match[1], deployment):
                before = seen.get(match[1], (0.0, ""))[0] if part != "compute" else 0.0
                seen[match[1]] = (before + float(match[2]), line)
        if seen:
            source = max(seen.values())[1]
            found.append(Logged(part=part, mib=sum(mib for mib, _ in seen.values()), source=source))
    return tuple(found)


def _counts(device: str, deployment: Deployment) -> bool:
    """Tell whether a buffer lies where the ledger counts: ``CPU``, ``CPU_Mapped``, ``CUDA_Host`` are RAM."""
    return (device.startswith("CPU") or device.endswith("_Host")) != bool(deployment.gpus)


_VLLM_WEIGHTS = re.compile(r"(?:Model loading took|Loading model weights took) ([\d.]+) G")
_VLLM_TOTAL = re.compile(r"Total non KV cache memory: ([\d.]+) ?GiB.*weights memory: ([\d.]+) ?GiB")
_VLLM_GRAPHS = re.compile(r"CUDA graph pool memory: ([\d.]+) GiB \(actual\)")
_VLLM_ROOM = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
_VLLM_TOKENS = re.compile(r"GPU KV cache size: ([\d,]+) tokens")


def vllm(lines: Sequence[str], deployment: Deployment) -> tuple[Logged, ...]:
    """Read vLLM's figures of the fullest worker, in GiB whatever it calls them."""
    found = []
    if weights := _most(_VLLM_WEIGHTS, lines):
        found.append(Logged(part="weights", mib=weights[0] * MIB_A_GIB, source=weights[1]))
    room, tokens = _most(_VLLM_ROOM, lines), _most(_VLLM_TOKENS, lines)
    if room and tokens and tokens[0]:
        mib = room[0] * MIB_A_GIB * _promised(deployment) / tokens[0]
        found.append(Logged(part="cache", mib=mib, source=tokens[1]))
    total = next((match for line in lines if (match := _VLLM_TOTAL.search(line))), None)
    if total:
        graphs = _most(_VLLM_GRAPHS, lines)
        mib = (float(total[1]) - float(total[2]) + (graphs[0] if graphs else 0)) * MIB_A_GIB
        found.append(Logged(part="compute", mib=mib, source=total.string))
    return tuple(found)


_SGLANG_WEIGHTS = re.compile(r"Load weight end\..*mem usage=([\d.]+) GB")
_SGLANG_CACHE = re.compile(r"KV Cache is allocated\. #tokens: (\d+), K size: ([\d.]+) GB, V size: ([\d.]+) GB")
_SGLANG_GRAPHS = re.compile(r"Capture cuda graph end\..*mem usage=([\d.]+) GB")


def sglang(lines: Sequence[str], deployment: Deployment) -> tuple[Logged, ...]:
    """Read SGLang's figures of the fullest rank, in GiB whatever it calls them; of a cache in one pool alone."""
    found = []
    if weights := _most(_SGLANG_WEIGHTS, lines):
        found.append(Logged(part="weights", mib=weights[0] * MIB_A_GIB, source=weights[1]))
    pools = [(match, line) for line in lines if (match := _SGLANG_CACHE.search(line))]
    if pools and len({match[1] for match, _ in pools}) == 1 and int(pools[0][0][1]):
        match, line = pools[0]
        mib = (float(match[2]) + float(match[3])) * MIB_A_GIB * _promised(deployment) / int(match[1])
        found.append(Logged(part="cache", mib=mib, source=line))
    if graphs := _most(_SGLANG_GRAPHS, lines):
        found.append(Logged(part="compute", mib=graphs[0] * MIB_A_GIB, source=graphs[1]))
    return tuple(found)


def _promised(deployment: Deployment) -> int:
    """Give the tokens that the ledger's cache is for: the window of each slot."""
    return deployment.context_tokens * deployment.slots


def _most(pattern: re.Pattern[str], lines: Sequence[str]) -> tuple[float, str] | None:
    """Give the largest figure of a pattern, and its line."""
    return max(
        ((float(match[1].replace(",", "")), line) for line in lines if (match := pattern.search(line))), default=None
    )


_READERS: dict[str, Callable[[Sequence[str], Deployment], tuple[Logged, ...]]] = {
    "llama_cpp": llama_cpp,
    "xllamacpp": llama_cpp,
    "vllm": vllm,
    "sglang": sglang,
}
#: Runtimes that log by device what they hold of the whole.
_WHOLE = frozenset({"llama_cpp", "xllamacpp"})
