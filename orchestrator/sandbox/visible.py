"""Text of a stranger made fit for a terminal: what a terminal would obey, or nobody would see, is spelled out. Pure."""

from __future__ import annotations

import re
import unicodedata

#: Turns the order of what is read (Unicode Standard Annex 9; CVE-2021-42574).
_TURNS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
#: Takes no room: blanks without width, fillers, tags and selectors that carry text unseen (Unicode TR 36, TS 39).
_UNSEEN = "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2028\u2029\u2060-\u2065\u206a-\u206f"
_UNSEEN += "\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
#: What ECMA-48 calls control functions, but for the tab and the ends of lines.
_CONTROLS = "\x00-\x08\x0b\x0e-\x1f\x7f\x80-\x9f"
HIDDEN = re.compile(f"[{_TURNS}{_UNSEEN}]")
CONTROLS = re.compile(f"[{_CONTROLS}]")
#: Spelled out wherever text is shown; a name has no ends of lines and no tabs either. A backslash is doubled in names
#: alone, so that each name has one spelling.
_SHOWN = re.compile(f"[{_CONTROLS}{_TURNS}{_UNSEEN}\f\ud800-\udfff]|\r(?!\n)")
_NAMED = re.compile(f"[{_CONTROLS}{_TURNS}{_UNSEEN}\t\n\r\f\\\\\ud800-\udfff]")
_WORD = re.compile(r"\w+")
#: Scripts whose letters are taken for Latin ones (Unicode TS 39, mixed-script detection).
_ALIKE = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL")


def name_of(raw: bytes) -> str:
    r"""Give a path or a name so that it can be shown: another for each, a byte that is no UTF-8 as ``\xff``."""
    return _NAMED.sub(_spelled, raw.decode("utf-8", "surrogateescape"))


def shown(raw: bytes | str) -> str:
    """Give one line or more of text so that it can be shown: tabs and line ends stay."""
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    return _SHOWN.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    sign = found.group()
    code = ord(sign)
    if sign == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - how Python keeps a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:  # noqa: PLR2004 - one byte
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the first plane


def look_alike(text: str) -> str | None:
    """Give the first word that mixes Latin letters with letters taken for them, else None."""
    for word in _WORD.findall(text):
        if word.isascii():
            continue
        latin = any(letter.isascii() and letter.isalpha() for letter in word)
        if latin and any(not letter.isascii() and unicodedata.name(letter, "").startswith(_ALIKE) for letter in word):
            return str(word)
    return None


def folded(raw: bytes) -> str:
    """Give a path as a file system may take it that minds neither case, Unicode's form nor unseen signs."""
    text = unicodedata.normalize("NFKC", HIDDEN.sub("", raw.decode("utf-8", "surrogateescape")))
    return unicodedata.normalize("NFKC", text.casefold())
