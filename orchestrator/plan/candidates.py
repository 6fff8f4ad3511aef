"""Every way a host could serve: each llm in each quantisation by each runtime that suits, sized, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.deployment import AgenticClass, Rejection
from orchestrator.plan.configuration import shape_of
from orchestrator.plan.driver import lacking
from orchestrator.plan.hardware import parse_capability
from orchestrator.plan.interpreters import cannot_interpret
from orchestrator.plan.layout import laid_out, on_cards_mib
from orchestrator.plan.memory import POOLED, Choice, largest_window, margin
from orchestrator.plan.once import once
from orchestrator.plan.shape import Shape, Unknown
from orchestrator.plan.speed import Speed, speed_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.catalog.rows import LlmQuant, LlmRow, QuantRow, RuntimeRow
    from orchestrator.plan.setting import Setting
    from orchestrator.profile import RuntimeName

#: From the least able to the most; ``demonstration`` is below all of them and never chosen unasked.
CLASSES = ("demonstration", "completion", "marginal", "floor", "strong", "near-frontier")
WANTED_WINDOW = 65536
LEAST_WINDOW = 16384
LEAST_SHOWN = 2048
#: Below this many tokens a window is called short: a loop of 30 steps makes 25 to 50 thousand, so what it began with
#: is lost, and an llm above the floor is no better there than one at it.
SHORT_WINDOW = 32768
CLASS_WHEN_SHORT: AgenticClass = "floor"
#: A window is promised in whole steps of so many tokens.
STEP = 256
#: Tokens a second at best below which nobody waits for an agent.
LEAST_SPEED = 8.0
#: Tokens a second a person beyond which an agent's loop gains little: reading prompts and running tools take over.
ENOUGH_SPEED = 60.0
#: More bits a weight than this buy nothing that an agent would notice.
ENOUGH_BITS = 6.5
#: Compute capability from which a card reads an 8-bit cache natively.
NATIVE_FP8 = (8, 9)
#: SGLang's kernels are not built for this capability.
NOT_FOR_SGLANG = (8, 6)
#: Ledgers kept for one shape before they are forgotten; more would only burden the collector.
MOST_KEPT = 64
#: Shapes kept before they are forgotten.
MOST_SHAPES = 4096
PLAIN_CACHE = ("f16", "bfloat16", "float16", "fp16", "auto")


@dataclass(frozen=True)
class Candidate:
    """One choice that fits: its window in tokens, its speed, bits a weight, the runtime's rank."""

    llm: LlmRow
    quant: LlmQuant
    choice: Choice
    window: int
    speed: Speed
    bits: float
    rank: int = 0

    @property
    def plain(self) -> bool:
        """Tell whether the cache is kept in 16 bits."""
        return self.choice.store.key in PLAIN_CACHE

    @property
    def counted_class(self) -> AgenticClass:
        """Give the class it can play: its own, or less in a window that loses the beginning of a task."""
        own = self.llm.agentic_class
        if self.window >= SHORT_WINDOW or CLASSES.index(own) <= CLASSES.index(CLASS_WHEN_SHORT):
            return own
        return CLASS_WHEN_SHORT

    @once
    def base(self) -> tuple[float, ...]:
        """Give what counts before all: a usable speed, the least window, class, the wanted window, runtime, cache."""
        return (
            self.speed.most >= LEAST_SPEED,
            self.window >= LEAST_WINDOW,
            CLASSES.index(self.counted_class),
            min(self.window, WANTED_WINDOW),
            -self.rank,
            self.plain,
        )

    @once
    def among_own(self) -> tuple[float, ...]:
        """Give what ranks the quantisations of one llm: then bits a weight, and the window."""
        return (*self.base, min(self.bits, ENOUGH_BITS), self.window, self.speed.expected)

    @once
    def merit(self) -> tuple[float, ...]:
        """Give what ranks llms: then the speed to expect, bits a weight, and the window."""
        enough = ENOUGH_SPEED * self.choice.sequences
        return (*self.base, round(min(self.speed.expected, enough)), min(self.bits, ENOUGH_BITS), self.window)


def weigh(setting: Setting) -> tuple[list[Candidate], list[Rejection]]:
    """Size all that could be; give what fits, and for the rest why not."""
    found: list[Candidate] = []
    rejections: list[Rejection] = []
    for row in setting.catalog.llms.values():
        if not _is_considered(row, setting):
            continue
        fitting, refused = _of_llm(row, setting)
        found.extend(fitting)
        rejections.extend(refused)
    return found, rejections


def _is_considered(row: LlmRow, setting: Setting) -> bool:
    if setting.wishes.llm is not None:
        return row.name == setting.wishes.llm
    rank = CLASSES.index(row.agentic_class)
    if setting.profile.use == "hybrid":
        # Heavy work goes to a frontier model elsewhere; here an llm completes.
        return row.completes
    return rank >= CLASSES.index("marginal")


def _of_llm(row: LlmRow, setting: Setting) -> tuple[list[Candidate], list[Rejection]]:
    """Try an llm in all its quantisations; a format that nobody here reads is worth a word only if all are so."""
    found: list[Candidate] = []
    refused: list[Rejection] = []
    unread: list[Rejection] = []
    for quant in row.quants:
        if setting.wishes.quant is not None and quant.quant != setting.wishes.quant:
            continue
        kind = setting.catalog.quants[quant.quant]
        readers = [runtime for runtime in setting.suited if runtime in kind.runtimes]
        if not readers:
            titles = " or ".join(setting.catalog.runtimes[runtime].title for runtime in setting.suited)
            unread.append(_rejection(row, quant, setting.suited[0], f"{titles} does not read {kind.name}"))
        for runtime in readers:
            if found and found[0].rank < setting.suited.index(runtime) and found[0].window >= WANTED_WINDOW:
                continue
            outcome = _try(row, quant, kind, runtime, setting)
            (refused if isinstance(outcome, Rejection) else found).append(outcome)  # type: ignore[arg-type]
    if setting.wishes.quant is not None and not (found or refused or unread):
        others = ", ".join(quant.quant for quant in row.quants)
        return [], [Rejection(llm=row.name, quant=setting.wishes.quant, reason=f"the catalog has it as {others}")]
    return found, refused if found or refused else unread


def _try(row: LlmRow, quant: LlmQuant, kind: QuantRow, runtime: RuntimeName, setting: Setting) -> Candidate | Rejection:
    barred = setting.barred
    if (kind.name, runtime) not in barred:
        barred[kind.name, runtime] = cannot_run(kind, runtime, setting)
    reason = barred[kind.name, runtime]
    if reason:
        return _rejection(row, quant, runtime, reason)
    wishes = setting.wishes
    limit = min(row.max_context_tokens, wishes.context or row.max_context_tokens)
    if wishes.context is not None and wishes.context > row.max_context_tokens:
        return _rejection(row, quant, runtime, f"its own window ends at {row.max_context_tokens} tokens")
    best: Candidate | None = None
    try:
        if too_heavy := _too_heavy(shape_cached(row), quant, runtime, setting):
            return _rejection(row, quant, runtime, too_heavy)
        for choice, window in _choices(row, quant, runtime, setting, limit):
            speed = speed_of(row, quant, choice, setting)
            one = Candidate(row, quant, choice, window, speed, kind.bits_per_weight, setting.suited.index(runtime))
            if best is None or one.among_own > best.among_own:
                best = one
            if not window or window >= min(limit, WANTED_WINDOW):
                break
    except Unknown as error:
        return _rejection(row, quant, runtime, str(error))
    if best is None:
        count = len(setting.gpus)
        what = shape_cached(row).undivided(count)
        return _rejection(row, quant, runtime, f"{count} cards cannot share its {what} evenly".replace("its a", "a"))
    short = _too_short(best, limit, wishes.context)
    return _rejection(row, quant, runtime, short) if short else best


def _sized(shape: Shape, key: tuple[Any, ...], limit: int) -> tuple[Choice, int]:
    """Give a choice laid out and its window, worked out once for the same cards, room and wishes."""
    whole = (limit, *key)
    found: tuple[Choice, int] | None = shape.sized.get(whole)
    if found is None:
        if len(shape.sized) >= MOST_KEPT:
            shape.sized.clear()
        choice = laid_out(shape, *key)
        found = shape.sized[whole] = (choice, _window(choice, limit))
    return found


def _window(choice: Choice, limit: int) -> int:
    longest = largest_window(choice, limit)
    return longest if longest == limit else longest // STEP * STEP


def _too_heavy(shape: Shape, quant: LlmQuant, runtime: RuntimeName, setting: Setting) -> str | None:
    """Give why the weights alone are too much, however they are split; None where they may fit."""
    capacity, reserve = setting.room(runtime)
    room, weights = sum(capacity) - sum(reserve), on_cards_mib(shape, quant.weights_bytes, quant.quant, runtime)
    if weights <= room:
        return None
    where = "the cards have" if len(capacity) > 1 else "there is" if not setting.gpus else "the card has"
    return f"its weights alone are {weights / 1024:.1f} GiB, and {where} {max(room, 0) / 1024:.1f} GiB for them"


def _too_short(best: Candidate, limit: int, asked: int | None) -> str | None:
    """Give why the window is not enough, None where it is."""
    shown = LEAST_SHOWN if best.llm.agentic_class in ("demonstration", "completion") else LEAST_WINDOW
    least = min(asked or shown, limit)
    if best.window >= least:
        return None
    missing = -margin(best.choice)(least) / 1024
    where = "a card" if len(best.choice.capacity_mib) > 1 else "of memory"
    rest = f"; {best.window} tokens would fit" if best.window else ""
    return f"a window of {least} tokens lacks {max(missing, 0.1):.1f} GiB {where}{rest}"


def cannot_run(kind: QuantRow, runtime: RuntimeName, setting: Setting) -> str | None:
    """Give why these cards or this runtime cannot, None where they can."""
    row = setting.catalog.runtimes[runtime]
    vendors = {gpu.vendor for gpu in setting.gpus}
    if runtime not in kind.runtimes:
        return f"{row.title} does not read {kind.name}"
    if not setting.gpus and "cpu" not in row.devices:
        return f"{row.title} needs a card and there is none"
    foreign = sorted(vendor for vendor in vendors if vendor not in row.devices)
    if foreign and "cpu" not in row.devices:
        return f"{row.title} does not run on {foreign[0]} cards"
    if runtime == "sglang" and NOT_FOR_SGLANG in setting.capabilities:
        return f"{row.title} is not for compute capability 8.6"
    return cannot_interpret(row, setting.snapshot) or _lacks(kind, row, setting)


def _lacks(kind: QuantRow, row: RuntimeRow, setting: Setting) -> str | None:
    """Give what the NVIDIA cards or their driver lack for this, None where nothing."""
    if setting.asking and (why := lacking(row, setting.asking)):
        return why
    least = parse_capability(kind.min_compute_capability) if kind.min_compute_capability else None
    for gpu, has in zip(setting.gpus, setting.capabilities, strict=True):
        if least and gpu.vendor == "nvidia" and has is not None and has < least:
            return (
                f"{kind.name} needs compute capability {kind.min_compute_capability}, "
                f"and {gpu.name} has {has[0]}.{has[1]}"
            )
    return None


def _choices(
    row: LlmRow, quant: LlmQuant, runtime: RuntimeName, setting: Setting, limit: int
) -> Iterator[tuple[Choice, int]]:
    """Give the ways to lay it out, each with its window: a 16-bit cache first, an 8-bit one where cards do it."""
    shape = shape_cached(row)
    tensor = len(setting.gpus) if runtime in (*POOLED, "exllama", "tensorrt_llm") else 1
    if shape.undivided(max(1, tensor)):
        return
    capacity, reserve = setting.room(runtime)
    wishes = setting.wishes
    for kv_dtype in [wishes.kv_dtype] if wishes.kv_dtype else _cache_types(runtime, setting):
        key = (
            quant.weights_bytes, quant.quant, runtime, kv_dtype, capacity, reserve, max(1, tensor), wishes.users,
            setting.vendor,
        )  # fmt: skip
        yield _sized(shape, key, limit)


def shape_cached(row: LlmRow) -> Shape:
    """Give a row's shape, worked out once for one row; raises Unknown."""
    kept = _SHAPES.get(id(row))
    if kept is None or kept[0] is not row:
        if len(_SHAPES) >= MOST_SHAPES:
            _SHAPES.clear()
        try:
            kept = (row, shape_of(row.config))
        except Unknown as unknown:
            kept = (row, unknown)
        _SHAPES[id(row)] = kept
    if isinstance(kept[1], Unknown):
        raise kept[1]
    return kept[1]


#: Shapes worked out, by the identity of their row, which is kept with them.
_SHAPES: dict[int, tuple[LlmRow, Shape | Unknown]] = {}


def _cache_types(runtime: RuntimeName, setting: Setting) -> tuple[str, ...]:
    if runtime in ("llama_cpp", "ollama", "xllamacpp"):
        return ("f16", "q8_0") if setting.gpus else ("f16",)
    if runtime == "exllama":
        return ("fp16", "q8")
    native = all(has is not None and has >= NATIVE_FP8 for has in setting.capabilities)
    return ("bfloat16", "fp8") if native else ("bfloat16",)


def _rejection(row: LlmRow, quant: LlmQuant, runtime: str, reason: str) -> Rejection:
    return Rejection(llm=row.name, quant=quant.quant, runtime=runtime, reason=reason)
