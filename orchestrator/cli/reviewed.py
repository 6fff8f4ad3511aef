"""A review as a person reads it: what the owner's machine would later run or obey comes first, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.board import Line
from orchestrator.line.sizes import readable

if TYPE_CHECKING:
    from rich.text import Text

    from orchestrator.sandbox.values import Change, Landed, Review

_MARKS = {"added": "A", "modified": "M", "deleted": "D", "renamed": "R", "changed_kind": "T"}


def review_lines(review: Review, *, most: int = 200) -> list[Line]:
    """Give a review as lines; of what bears no flag ``most`` at most. Every text of it can be shown."""
    flagged = review.flagged
    plain = [change for change in review.changes if not change.flags]
    lines = [Line(f"{review.sandbox}: {len(review.changes)} changes, {len(flagged)} to look at first", "plain")]
    lines += [Line(f"  {note}", "bad") for note in review.notes]
    for change in flagged:
        lines.append(Line(f"! {_told(change)}", "bad"))
        for flag in change.flags:
            found = f" ({flag.detail})" if flag.detail else ""
            lines.append(Line(f"    {flag.why}{found}", "plain"))
    lines += [Line(f"  {_told(change)}", "plain") for change in plain[:most]]
    if len(plain) > most:
        lines.append(Line(f"  and {len(plain) - most} more without a flag", "faint"))
    lines += [Line(f"  {one.commit[:12]} {one.author}: {one.subject}", "faint") for one in review.commits]
    return lines


def landed_lines(landed: Landed) -> list[Line]:
    """Give what lies on the owner's branch now."""
    if not landed.written:
        return [Line(f"{landed.branch} has all of it already", "plain")]
    lines = [Line(f"{landed.branch} is now {(landed.commit or '')[:12]}: {len(landed.paths)} paths", "good")]
    lines += [Line(f"  {path}", "plain") for path in landed.paths]
    return lines + [Line(f"  {note}", "faint") for note in landed.notes]


def as_text(lines: list[Line]) -> Text:
    """Give lines for a rich console; nothing in them is taken for markup."""
    from rich.text import Text

    tones = {"plain": "", "good": "green", "bad": "red", "faint": "dim"}
    whole = Text()
    for line in lines:
        whole.append(f"{line.text}\n", style=tones[line.tone])
    return whole


def _told(change: Change) -> str:
    name = change.path if change.old_path is None else f"{change.old_path} -> {change.path}"
    parts = [f"{_MARKS[change.kind]} {name}"]
    if change.what != "file":
        parts.append(f"{change.what} -> {change.target}" if change.target else change.what)
    elif change.added_lines is not None:
        parts.append(f"+{change.added_lines} -{change.deleted_lines or 0}")
    elif change.binary:
        parts.append(f"binary, {readable(change.old_bytes or 0)} -> {readable(change.bytes or 0)}")
    if change.mode and change.old_mode and change.mode != change.old_mode:
        parts.append(f"mode {change.old_mode} -> {change.mode}")
    return "  ".join(parts)
