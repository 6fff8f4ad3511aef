#!/usr/bin/python3 -I
"""Asks the door to the sandboxes of this host: agentrig-sandbox VERB [NAME] [OPTIONS] [-- COMMAND].

It has no right of its own: who asks is what the kernel tells the door.
"""

from __future__ import annotations

import argparse
import array
import json
import socket
import sys

SOCKET = "/run/agentrig-sandbox/door.sock"
EXIT_FAILED = 1


def main() -> int:
    """Ask, and end as what was asked for ended."""
    asked = request_of(sys.argv[1:])
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.connect(SOCKET)
            files = array.array("i", [0, 1, 2]) if asked["verb"] == "exec" else array.array("i")
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)] if files else []
            line = json.dumps(asked).encode() + b"\n"
            if rest := line[door.sendmsg([line], beside) :]:  # an empty rest would be sent to who has answered and gone
                door.sendall(rest)
            with door.makefile("rb") as answers:
                told = json.loads(answers.readline() or b"null")
    except (OSError, ValueError) as error:
        told = {"error": {"what": f"the door to the sandboxes does not answer: {error}", "do": "", "exit": EXIT_FAILED}}
    if not isinstance(told, dict):
        told = {"error": {"what": "the door closed without an answer", "do": "", "exit": EXIT_FAILED}}
    if "exit" in told:
        return int(told["exit"])
    error = told.get("error", {})
    if asked["verb"] == "exec":  # what was started has standard output for itself
        sys.stderr.write("\n  ".join(filter(None, (f"error: {error.get('what')}", error.get("do")))) + "\n")
    else:
        sys.stdout.write(json.dumps(told) + "\n")
    return int(error.get("exit", 0))


def request_of(words: list[str]) -> dict:  # type: ignore[type-arg]
    """Read the command line."""
    cut = words.index("--") if "--" in words else len(words)
    own, command = words[:cut], words[cut + 1 :]
    parser = argparse.ArgumentParser(prog="agentrig-sandbox", allow_abbrev=False)
    parser.add_argument("verb", choices=["create", "list", "info", "exec", "requests", "destroy"])
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--since", type=float)
    parser.add_argument("--where")
    parser.add_argument("--terminal", action="store_true")
    parser.add_argument("--again", action="store_true")
    found = {key: value for key, value in vars(parser.parse_args(own)).items() if value not in (None, False)}
    return found | ({"argv": command} if command else {})


if __name__ == "__main__":
    sys.exit(main())
