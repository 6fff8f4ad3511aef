"""Many commands as one shell script, and its output as one answer a command. Pure.

The script needs a POSIX shell, gzip and base64 on the host. What it prints is ASCII between two marker lines, so that
neither a login banner nor a name in no known encoding can garble it.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import AgentrigError, DetectError, PrivilegeError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Status of a command that a shell cannot find (POSIX, "Exit Status for Commands").
NOT_FOUND = 127
#: The last folders are where AMD puts rocm-smi, and where Windows puts nvidia-smi for its Linux guests.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/rocm/bin:/usr/lib/wsl/lib"
_GZIP = 16 + zlib.MAX_WBITS
_REFUSED = re.compile(r"^agentrig-refused (.*)$", re.MULTILINE)
_ENVELOPE = re.compile(r"^agentrig-open\n(.*)^agentrig-close$", re.MULTILINE | re.DOTALL)
#: A section's end must be one that no output can hold by accident: no text file has this control character.
_SECTION = re.compile(r"^\x1d(\S+) begin\n(.*?)\n\x1d\1 end (\d+)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Output:
    """What one command printed, and its exit status."""

    text: str
    status: int = 0


def compose(commands: Mapping[str, str], *, become: bool = False) -> str:
    """Give the script that runs each command in a shell of its own. Names have no blanks.

    With ``become`` it runs as root through ``sudo -n``, which never asks for a password.
    """
    parts = [
        f"printf '\\035%s begin\\n' {name}; ( {command}\n) </dev/null 2>/dev/null; "
        f"printf '\\n\\035%s end %s\\n' {name} $?\n"
        for name, command in commands.items()
    ]
    body = f"export LC_ALL=C LANGUAGE=C PATH={PATH}\n" + "".join(parts)
    encoded = base64.b64encode(body.encode()).decode()
    return f"""\
main() {{
command -v gzip >/dev/null && command -v base64 >/dev/null || {{ echo 'agentrig-refused tools'; return; }}
run=sh
if {"true" if become else "false"} && [ "$(id -u)" != 0 ]; then
sudo -n true 2>/dev/null || {{ echo 'agentrig-refused sudo'; return; }}
run='sudo -n sh'
fi
echo agentrig-open
printf %s '{encoded}' | base64 -d | $run | gzip -1 | base64
echo agentrig-close
}}
main
"""


def decode(text: str, where: str = "") -> dict[str, Output]:
    """Give each command's output by its name, those that were cut off left out; raises DetectError, PrivilegeError."""
    if refused := _REFUSED.search(text):
        raise _refusal(refused[1], where)
    envelope = _ENVELOPE.search(text)
    if envelope is None:
        raise DetectError("its answer was cut off", where=where, do="try again; see whether its shell starts cleanly")
    plain = _unpacked(envelope[1])
    if plain is None:
        raise DetectError("its answer is garbled", where=where, do="see whether its shell prints more than it should")
    sections = _SECTION.findall(plain.decode(errors="replace"))
    return {name: Output(output, int(status)) for name, output, status in sections}


def _unpacked(text: str) -> bytes | None:
    unpacker = zlib.decompressobj(_GZIP)
    try:
        plain = unpacker.decompress(base64.b64decode(text))
    except (binascii.Error, ValueError, zlib.error):
        return None
    return plain if unpacker.eof else None


def _refusal(reason: str, where: str) -> AgentrigError:
    if reason == "sudo":
        return PrivilegeError(
            "its user may not become root without a password",
            where=where,
            do="let sudo do it without a password, or use root in the inventory",
        )
    return DetectError("it lacks gzip or base64", where=where, do="install gzip and coreutils there")
