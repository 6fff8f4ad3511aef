"""The child process that holds the SSH connections: questions as JSON on its input, one JSON line a host on its output.

gevent is patched here and imported nowhere else. Nothing but those lines is written to the output.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402 - nothing may be loaded before it is patched
import ctypes  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import shlex  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from pyinfra.api.command import StringCommand  # noqa: E402
from pyinfra.api.config import Config  # noqa: E402
from pyinfra.api.exceptions import ConnectError, PyinfraError  # noqa: E402
from pyinfra.api.inventory import Inventory  # noqa: E402
from pyinfra.api.state import State  # noqa: E402

CONNECT_SECONDS = 10
#: Connecting, greeting and the key each have their own limit; a slow resolver has none.
TOTAL_CONNECT_SECONDS = 3 * CONNECT_SECONDS
#: prctl(2): the child gets this signal when its parent is gone.
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Ask all hosts at once and write a line for each as it answers."""
    _end_with_parent()
    asked = json.load(sys.stdin)
    output = sys.stdout
    sys.stdout = sys.stderr
    logging.getLogger("pyinfra").addHandler(logging.NullHandler())
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    names = {f"host-{index}": one for index, one in enumerate(asked)}
    hosts = [(name, _data(one["host"])) for name, one in names.items()]
    inventory: Any = Inventory((hosts, {}))  # type: ignore[no-untyped-call]
    State(inventory, Config(CONNECT_TIMEOUT=CONNECT_SECONDS))  # type: ignore[no-untyped-call]
    readers = [gevent.spawn(_ask, inventory.get_host(name), one) for name, one in names.items()]
    for reader in gevent.iwait(readers):
        output.write(json.dumps(reader.value) + "\n")
        output.flush()
    return 0


def _end_with_parent() -> None:
    """Let no killed parent leave this process behind, where the kernel can see to it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _data(host: dict[str, Any]) -> dict[str, Any]:
    """Give a host as pyinfra's SSH connector takes it: its key must be a known one, its own files leave ours alone."""
    data: dict[str, Any] = {
        "ssh_hostname": host["address"],
        "ssh_port": host["port"],
        "ssh_user": host["user"],
        "ssh_strict_host_key_checking": "yes",
        "ssh_paramiko_connect_kwargs": {"banner_timeout": CONNECT_SECONDS, "auth_timeout": CONNECT_SECONDS},
    }
    if host["known_hosts"]:
        data["ssh_known_hosts_file"] = host["known_hosts"]
    if host["private_key"]:
        data["ssh_key"] = host["private_key"]
    if host["lab"]:
        data["ssh_config_file"] = "/dev/null"
    return data


def _ask(host: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Connect to one host, run its script, and give its line."""
    about = asked["host"]
    try:
        with gevent.Timeout(TOTAL_CONNECT_SECONDS, TimeoutError("no connection in time")):
            host.connect(show_errors=False, raise_exceptions=True)
    except (ConnectError, PyinfraError, TimeoutError, OSError, ValueError) as error:
        return _unreachable(about, _words(error))
    try:
        _, output = host.run_shell_command(
            StringCommand("sh"), _stdin=asked["script"], _timeout=asked["seconds"], _success_exit_codes=[0]
        )
    except TimeoutError:
        return _failed(about, f"it did not answer within {asked['seconds']} s", "see what it is busy with")
    except Exception as error:  # noqa: BLE001 - one host's broken connection must not cost the others their answers
        return _failed(about, f"the connection broke: {_words(error)}", "try again")
    finally:
        with contextlib.suppress(Exception):
            host.connector.client.close()
    return {"name": about["name"], "output": output.stdout}


def _unreachable(about: dict[str, Any], said: str) -> dict[str, Any]:
    at = f"{about['user']}@{about['address']}"
    place = f"{at} port {about['port']}"
    key = "No host key" in said or "Host key" in said
    what = f"{place}: {_why(said)}"
    do = (
        f"check its host key, then connect once: ssh -p {about['port']} {shlex.quote(at)} true"
        if key
        else "see whether it is on and lets this user in with this key"
    )
    return _error(about, "unreachable", what, do)


def _why(said: str) -> str:
    """Give a connector's complaint in a few words."""
    for sign, words in (
        ("Authentication", "it refused the key"),
        ("No host key", "its host key is not known"),
        ("Host key", "its host key has changed"),
        ("banner", f"no SSH server answers there within {CONNECT_SECONDS} s"),
        ("timed out", f"no answer within {CONNECT_SECONDS} s"),
        ("no connection in time", f"no answer within {TOTAL_CONNECT_SECONDS} s"),
        ("refused", "the connection was refused"),
        ("Could not resolve", "there is no such name"),
        ("o such private key", "the private key is not there"),
    ):
        if sign in said:
            return words
    return said


def _failed(about: dict[str, Any], what: str, do: str) -> dict[str, Any]:
    return _error(about, "detect", what, do)


def _error(about: dict[str, Any], kind: str, what: str, do: str) -> dict[str, Any]:
    return {"name": about["name"], "error": {"kind": kind, "what": what, "where": about["name"], "do": do}}


def _words(error: BaseException) -> str:
    """Give an error in one line; where paramiko tried several addresses, what each said."""
    tried = getattr(error.__context__, "errors", None)
    said = "; ".join(str(one) for one in tried.values()) if isinstance(tried, dict) else str(error)
    return " ".join(said.split())[:200] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
