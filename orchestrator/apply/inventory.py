"""Ansible's own inventories, read by Ansible's own reader."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InventoryError
from orchestrator.inventory import Host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: What a host of an inventory may also say of itself, for the lab: the system it is made with.
LAB_OS = "lab_os"
#: Files of ours that lie in an inventory's folder and are none.
_OURS = r"^deploy\.lock(\.sig)?$,^profiles$,^llms$"
#: Names that Ansible's SSH connection takes for the same thing (ansible.builtin.ssh, "Parameters"), the newest first.
_ADDRESS = ("ansible_host", "ansible_ssh_host")
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_KEY = ("ansible_private_key_file", "ansible_ssh_private_key_file")
_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_CHECKING = ("ansible_host_key_checking", "ansible_ssh_host_key_checking")
#: Options of ssh (ssh_config(5)) that change nothing of where a host is or whom to believe: here they are chosen anew.
_CHOSEN_HERE = frozenset(
    (
        "batchmode",
        "compression",
        "connecttimeout",
        "connectionattempts",
        "controlmaster",
        "controlpath",
        "controlpersist",
        "identitiesonly",
        "loglevel",
        "passwordauthentication",
        "preferredauthentications",
        "serveralivecountmax",
        "serveraliveinterval",
        "tcpkeepalive",
    )
)
#: Names of users and of machines, of any script: what a shell would act on, ssh refuses (ssh.c, valid_ruser).
_USERS = r"\w([\w .@+\\-]*[\w.@+-])?"
_ADDRESSES = r"[\w:][\w.:%-]*"
_FLAGS_CHOSEN_HERE = frozenset(("-C", "-q", "-T", "-v", "-x"))


def read_inventory(path: Path) -> dict[str, dict[str, Any]]:
    """Give the variables of each host, by name; raises InventoryError."""
    return read_groups(path)[0]


def read_groups(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, frozenset[str]]]:
    """Give the variables of each host, and each group's hosts with those of its children; raises InventoryError."""
    if not path.exists():
        raise InventoryError("there is no such inventory", where=str(path), do="give a file or folder that is there")
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(path.absolute()), "--list"]
    settings = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true", "ANSIBLE_INVENTORY_IGNORE_REGEX": _OURS}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    if done.returncode:
        raise InventoryError(_complaint(done.stderr), where=str(path), do="mend the inventory")
    listing = json.loads(done.stdout, object_hook=_plain)
    variables: dict[str, dict[str, Any]] = listing.pop("_meta")["hostvars"]
    names = _names(listing)
    if not names:
        raise InventoryError("the inventory names no host", where=str(path), do="add a host to it")
    groups = {name: frozenset(_members(name, listing)) for name in listing}
    return {name: variables.get(name, {}) for name in names}, groups


class _Plain(str):
    """A text that its inventory marks ``!unsafe``: a template in it is none."""

    __slots__ = ()


def _plain(told: dict[str, Any]) -> Any:
    """Give a text that Ansible shows as unsafe as such a text, and all else as it is."""
    return _Plain(told["__ansible_unsafe"]) if told.keys() == {"__ansible_unsafe"} else told


def _complaint(said: str) -> str:
    """Give the telling line of what ansible-inventory complains of."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("[ERROR]", "ERROR"))] or lines[-1:]
    return telling[0].removeprefix("[ERROR]:").strip() if telling else "Ansible cannot read it"


def _names(listing: dict[str, Any]) -> list[str]:
    """Give every host that a group names, in the inventory's order, each once."""
    return list(dict.fromkeys(host for group in listing.values() for host in group.get("hosts", ())))


def _members(group: str, listing: dict[str, Any]) -> Iterator[str]:
    """Give the hosts of a group and of its children; Ansible lets no group be its own child."""
    said = listing.get(group, {})
    yield from said.get("hosts", ())
    for child in said.get("children", ()):
        yield from _members(child, listing)


def host_of(name: str, variables: Mapping[str, Any]) -> Host:
    """Give a host as its inventory says it is reached; raises InventoryError for what is no host, or is not heeded."""
    connection = str(variables.get("ansible_connection", "ssh")).removeprefix("ansible.builtin.")
    if connection not in ("ssh", "local", "smart"):
        raise InventoryError(
            f"ansible_connection is {connection!r}", where=name, do="use ssh or local; nothing else is spoken here"
        )
    if not name.isprintable() or not name.strip():
        raise InventoryError(f"{name!r} is no name for a host", where="the inventory", do="use signs that can be shown")
    user = str(_first(name, variables, _USER, "root"))
    port = str(_first(name, variables, _PORT, 22))
    if not port.isdecimal():
        raise InventoryError(f"ansible_port is {port!r}", where=name, do="give a number")
    if not all(_truth(variables[key]) for key in _CHECKING if key in variables):
        raise _unchecked(name, "ansible_host_key_checking is off")
    options = _ssh_options(name, variables)
    address = str(_first(name, variables, _ADDRESS, name))
    if connection != "local":
        _refuse_odd(name, "user", user, _USERS, "give it with ansible_user")
        _refuse_odd(name, "address", address, _ADDRESSES, "give it with ansible_host")
    return Host(
        name=name,
        connection="local" if connection == "local" else "ssh",
        address=address,
        port=int(port),
        user=user,
        private_key=_file(_first(name, variables, _KEY, options.get("identityfile"))),
        known_hosts=_file(options.get("userknownhostsfile")),
        become=_truth(variables.get("ansible_become", user != "root")),
        profile=_first(name, variables, ("agentrig_profile",), None),
    )


def _refuse_odd(name: str, what: str, text: str, legal: str, do: str) -> None:
    """Refuse what ssh would take for an option or refuse itself, before anything is tried; raises InventoryError."""
    if not re.fullmatch(legal, text):
        raise InventoryError(f"{text!r} is no {what} that ssh takes", where=name, do=do)


def _first(name: str, variables: Mapping[str, Any], keys: tuple[str, ...], otherwise: Any) -> Any:
    """Give the first variable that is there; raises InventoryError for a template, which only a play can fill."""
    key = next((key for key in keys if key in variables), "")
    value = variables.get(key, otherwise)
    if isinstance(value, str) and not isinstance(value, _Plain) and "{{" in value:
        raise InventoryError(f"{key} is a template: {value}", where=name, do="write its value there")
    return value


def _truth(value: object) -> bool:
    """Read a yes or no as Ansible does: an INI inventory gives it as text."""
    return str(value).strip().lower() in {"true", "yes", "on", "1", "y", "t"}


def _file(path: object) -> str | None:
    """Give a file of this machine by its whole path: processes with another current folder are told of it."""
    return str(Path(str(path)).expanduser().absolute()) if path else None


def _ssh_options(name: str, variables: Mapping[str, Any]) -> dict[str, str]:
    """Give the options of ssh, by name in small letters, that a host's variables set and that are heeded here.

    Raises InventoryError for one that is not: ignored, it would lead elsewhere, or past the host's key.
    """
    options: dict[str, str] = {}
    for variable in _ARGUMENTS:
        for option, value in _pairs(name, str(_first(name, variables, (variable,), ""))):
            if option == "stricthostkeychecking" and value not in ("yes", "true", "ask"):
                raise _unchecked(name, f"StrictHostKeyChecking is {value}")
            if option in ("userknownhostsfile", "identityfile"):
                options.setdefault(option, value)
            elif option not in _CHOSEN_HERE | {"stricthostkeychecking"}:
                raise InventoryError(
                    f"{variable} has {option}, which is not heeded here",
                    where=name,
                    do="say it for this host in ~/.ssh/config, which is",
                )
    return options


def _pairs(name: str, arguments: str) -> Iterator[tuple[str, str]]:
    """Give what ssh's arguments set: name in small letters, value."""
    try:
        words = iter(shlex.split(arguments))
    except ValueError as error:
        raise InventoryError(f"ssh's arguments cannot be read: {error}", where=name, do="mend the quotes") from None
    for word in words:
        if word.startswith("-o"):
            option, *value = re.split(r"\s*=\s*|\s+", (word[2:] or next(words, "")).strip(), maxsplit=1)
            yield option.lower(), _unquoted("".join(value).strip())
        elif word.startswith("-i"):
            yield "identityfile", word[2:] or next(words, "")
        elif word not in _FLAGS_CHOSEN_HERE:
            yield word, ""


def _unquoted(value: str) -> str:
    """Give a value of ssh's settings without ssh's quotes, and what is escaped there as it is."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r'\\(["\\])', r"\1", value[1:-1])
    return value.replace("%%", "%")


def _unchecked(name: str, what: str) -> InventoryError:
    return InventoryError(
        f"{what}: a host whose key is not checked may be another's",
        where=name,
        do="put its key into a file and say -o UserKnownHostsFile=FILE in ansible_ssh_common_args",
    )
