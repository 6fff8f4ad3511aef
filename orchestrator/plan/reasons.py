"""Why this choice and not another: sentences that one would say to a colleague."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.deployment import Rejection
from orchestrator.plan.candidates import SHORT_WINDOW, WANTED_WINDOW, Candidate
from orchestrator.plan.hardware import cards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.plan.setting import Setting
    from orchestrator.snapshot import HostSnapshot


def reasons(best: Candidate, setting: Setting) -> Iterator[str]:
    """Give the reasons for the llm, the runtime, the quantisation and the window."""
    row, wishes = best.llm, setting.wishes
    if row.agentic_class == "demonstration":
        yield "demonstration: this llm is below the floor for agents; it shows that the line works"
    elif wishes.llm is not None:
        yield f"{row.name} because it was asked for; for agents it is {row.agentic_class}: {row.evidence}"
    else:
        where = place(setting.snapshot)
        yield f"{row.name} is {row.agentic_class} for agents, the best that fits {where}: {row.evidence}"
    yield _runtime(best, setting)
    yield f"{best.quant.quant}: {best.quant.weights_bytes / 1e9:.1f} GB of weights ({best.quant.source})"
    yield _speed(best)
    yield f"a window of {best.window} tokens with {_article(best)} cache{_window(best, setting)}"
    if setting.left_out:
        yield f"{cards(setting.left_out)} is left alone: one runtime drives the cards of one vendor"
    divided = [gpu for gpu in setting.snapshot.gpus if gpu.mig]
    if divided:
        yield f"{cards(divided)} is divided (MIG) and left alone: undivided it would be planned for"
    if not setting.gpus and row.agentic_class != "demonstration":
        yield "without a card a long prompt takes minutes to read: give agents long timeouts"
    if row.note and wishes.llm is not None:
        yield row.note


def _speed(best: Candidate) -> str:
    if best.speed.measured:
        return f"about {best.speed.expected:.0f} tokens a second, as measured on such cards ({best.speed.measured})"
    return (
        f"about {best.speed.expected:.0f} tokens a second, by what measured llms reached; bandwidth alone would allow "
        f"{best.speed.most:.0f}"
    )


def second(one: Candidate, best: Candidate) -> Rejection:
    """Give why a choice that fits was not taken."""
    return Rejection(llm=one.llm.name, quant=one.quant.quant, runtime=one.choice.runtime, reason=_why_second(one, best))


def place(snapshot: HostSnapshot) -> str:
    """Give where it must fit, for a sentence."""
    found = snapshot.usable_gpus()
    return cards(found) if found else f"{snapshot.ram_mib / 1024:.0f} GiB of RAM without a card"


def _runtime(best: Candidate, setting: Setting) -> str:
    title, count = setting.catalog.runtimes[best.choice.runtime].title, len(setting.gpus)
    if setting.wishes.runtime:
        why = "it was asked for"
    elif best.choice.runtime == "ollama":
        why = "it already runs here, so its owner knows it"
    elif not count:
        why = "there is no card in use"
    elif best.choice.runtime in ("exllama", "tensorrt_llm"):
        why = "speed was asked for above all"
    elif best.choice.runtime == "vllm" and count > 1:
        why = f"{count} equal cards work on each token together (tensor parallel {best.choice.run.tensor})"
    elif best.choice.runtime == "vllm":
        why = f"it serves {setting.wishes.users} people at once"
    elif count > 1:
        why = "it deals whole layers to each card" + ("" if setting.equal else ", and these are not of one kind")
    else:
        why = f"it is one card for one person, and it reads {best.quant.quant}"
    return f"{title} because {why}"


def _article(best: Candidate) -> str:
    kind = best.choice.store.key
    if best.plain:
        return "a 16-bit"
    return f"an 8-bit ({kind})" if kind in ("q8_0", "fp8") else f"a {kind}"


def _window(best: Candidate, setting: Setting) -> str:
    if setting.wishes.context is not None:
        said = ", as asked for"
    elif best.window >= best.llm.max_context_tokens:
        said = ", all that the llm has"
    else:
        said = ", the longest that fits"
    users = setting.wishes.users
    each = f", for each of {users} at once" if users > 1 else ""
    short = ""
    if best.window < SHORT_WINDOW:
        short = f"; it is short: agents want {WANTED_WINDOW}, and long tasks lose their beginning"
    return said + each + short


def _lower_class(one: Candidate, best: Candidate) -> str:
    theirs = best.llm.agentic_class
    return f"fits, but {best.llm.name} is {theirs} for agents and this is {one.llm.agentic_class}{_short(one)}"


def _shorter(one: Candidate, best: Candidate) -> str:
    return f"fits, but its window is {one.window} tokens against {best.window}{_short(one)}"


def _short(one: Candidate) -> str:
    if one.counted_class == one.llm.agentic_class:
        return ""
    return (
        f"; a window under {SHORT_WINDOW} loses the beginning of long tasks, so {one.llm.agentic_class} counts as "
        f"{one.counted_class}"
    )


def _why_second(one: Candidate, best: Candidate) -> str:
    differs = next((place for place, mine in enumerate(one.base) if mine != best.base[place]), None)
    if differs is None and one.llm.name == best.llm.name:
        return f"fits, but with {one.bits:g} bits a weight against {best.bits:g}"
    if differs is None:
        mine, theirs = one.speed.expected, best.speed.expected
        return f"fits, but is slower: about {mine:.0f} tokens a second against {theirs:.0f}"
    return _BEHIND[differs](one, best)


#: Why a choice is behind, in the order of what counts before all.
_BEHIND: tuple[Callable[[Candidate, Candidate], str], ...] = (
    lambda one, _: f"fits, but would give {one.speed.most:.1f} tokens a second at best, too few for an agent",
    lambda one, _: f"fits, but its window is {one.window} tokens, below the least an agent needs",
    _lower_class,
    _shorter,
    lambda _, best: f"fits, but {best.choice.runtime} suits these cards better",
    lambda one, _: f"fits, but only with an 8-bit ({one.choice.store.key}) cache",
)
