"""What others already run on a host: endpoints that serve llms there, and firewalls. Commands and pure parses.

The host itself asks, on 127.0.0.1 alone, the ports that such programs have when nobody says another: Ollama 11434,
vLLM 8000, llama.cpp 8080, SGLang 30000 (each one's documentation). What our own units listen on is not asked.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ProbeGarbled
from orchestrator.snapshot import RunningEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.snapshot import Listener

#: A line an answer: port, path, the body in base64. A port that does not list its llms is asked nothing more.
ENDPOINTS = r"""
release=/opt/agentrig/current
get() {
if command -v curl >/dev/null; then curl -q -sf -m 3 --noproxy '*' "$1"
elif test -x /usr/bin/python3; then
/usr/bin/python3 -I -S -c 'import sys, urllib.request as way
sys.stdout.buffer.write(way.build_opener(way.ProxyHandler({})).open(sys.argv[1], timeout=3).read(65536))' "$1"
else wget -q -T 3 -t 1 --no-proxy -O - "$1"
fi; }
answer() {
body=$(get "http://127.0.0.1:$1$2" | head -c 65536 | base64 | tr -d '\n')
test -n "$body" && printf '%s %s %s\n' "$1" "$2" "$body"; }
for pair in 11434:2CAA 8000:1F40 8080:1F90 30000:7530; do
port=${pair%:*}
grep -qsE ": (0100007F|0{8}|0{32}):${pair#*:} [0-9A-F]+:0000 0A " /proc/net/tcp /proc/net/tcp6 || continue
grep -qsE "listen [^ ;]*:$port[ ;]" $release/gateway/nginx.conf && continue
test -e $release/units/agentrig-runtime.service && grep -qs "\"runtime_port\": $port," $release/deployment.json &&
continue
answer $port /v1/models || continue
if answer $port /api/version; then answer $port /api/ps; else answer $port /version; fi
done
:"""
#: ufw keeps in its own file whether it is on; its unit counts as active either way.
FIREWALLS = """
grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf && echo ufw
test "$(systemctl is-active firewalld)" = active && echo firewalld
nft list tables | sed -n 's/^table /nft /p'
:"""

#: What a list of llms calls its owner -> the program. ``library`` is where Ollama's own come from.
_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama_cpp", "library": "ollama"}
#: Names that are kept of one endpoint, and letters of one name.
_MOST_LLMS, _MOST_LETTERS = 50, 200
_LINE = re.compile(r"([0-9]{1,5}) (/[a-z0-9/]+) ([A-Za-z0-9+/=]+)")
_FIREWALL = re.compile(r"ufw|firewalld|nft (?:ip|ip6|inet|arp|bridge|netdev) \S+")


def parse_endpoints(text: str, listeners: Iterable[Listener]) -> tuple[RunningEndpoint, ...]:
    """Read the answers; what lists no llms is no endpoint. Raises ProbeGarbled where a line is none of ours."""
    answers: dict[int, dict[str, Any]] = {}
    for line in text.splitlines():
        row = _LINE.fullmatch(line)
        if row is None:
            raise ProbeGarbled("what was asked on 127.0.0.1 is not understood")
        answers.setdefault(int(row[1]), {})[row[2]] = _document(row[3])
    programs = {one.port: one.program for one in listeners if one.protocol == "tcp" and one.program}
    found = (_endpoint(port, said, programs.get(port, "")) for port, said in sorted(answers.items()))
    return tuple(one for one in found if one)


def _endpoint(port: int, said: Mapping[str, Any], program: str) -> RunningEndpoint | None:
    listed = said.get("/v1/models")
    if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
        return None
    rows = _rows(listed, "data")
    names = [_name(row.get("id")) for row in rows]
    ollama = _version(said.get("/api/version"))
    owners = {_OWNERS.get(str(row.get("owned_by")), "openai") for row in rows}
    kind = "ollama" if ollama else owners.pop() if len(owners) == 1 else "openai"
    return RunningEndpoint.model_validate(
        {
            "url": f"http://127.0.0.1:{port}",
            "kind": kind,
            "version": ollama or _version(said.get("/version")),
            "program": program,
            "llms": tuple(name for name in names if name)[:_MOST_LLMS],
            "context_tokens": _window(rows) or _window(_rows(said.get("/api/ps"), "models")),
        }
    )


def _window(rows: Iterable[Mapping[str, Any]]) -> int | None:
    """Give the window that all of them were started with: each program has its own name for it."""
    found = set()
    for row in rows:
        meta = row.get("meta")
        told = row.get("max_model_len") or row.get("context_length")
        found.add(told or (meta.get("n_ctx") if isinstance(meta, dict) else None))
    (only,) = found if len(found) == 1 else (None,)
    return only if isinstance(only, int) and only > 0 else None


def _rows(document: Any, key: str) -> list[dict[str, Any]]:
    rows = document.get(key) if isinstance(document, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _version(document: Any) -> str | None:
    said = document.get("version") if isinstance(document, dict) else None
    return _name(said) or None


def _name(said: Any) -> str:
    """Give a name that a stranger told, in letters that can be shown."""
    text = said if isinstance(said, str) else ""
    return text if text.isprintable() and len(text) <= _MOST_LETTERS else ""


def _document(encoded: str) -> Any:
    try:
        return json.loads(base64.b64decode(encoded))
    except (binascii.Error, ValueError):
        return None


def parse_firewalls(text: str) -> tuple[str, ...]:
    """Read a line a firewall. Raises ProbeGarbled."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if strange := [line for line in lines if not _FIREWALL.fullmatch(line)]:
        raise ProbeGarbled(f"a firewall is called {strange[0][:40]!r}")
    return tuple(dict.fromkeys(lines))
