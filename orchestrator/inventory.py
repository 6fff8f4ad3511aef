"""A host as the control machine reaches it: the address book, not what the host is."""

from __future__ import annotations

from typing import Literal

from orchestrator.errors import UsageError
from orchestrator.nouns import Noun


class Host(Noun):
    """How one host is reached. ``connection`` is ``local`` for this machine, else ``ssh``."""

    name: str
    connection: Literal["ssh", "local"] = "ssh"
    address: str = "127.0.0.1"
    port: int = 22
    user: str = "root"
    private_key: str | None = None
    known_hosts: str | None = None
    become: bool = False
    #: True for a throwaway host of the lab: stand-ins are allowed there and nowhere else.
    lab: bool = False
    #: Profile named by the inventory's variable ``agentrig_profile``.
    profile: str | None = None

    def ssh_files(self) -> dict[str, str]:
        """Give ssh's own options for the host's files: the one key that is shown, and whose keys are believed.

        A host with known hosts of its own is believed by those alone. Paths are quoted as ssh_config(5) reads them.
        """
        options: dict[str, str] = {}
        if self.private_key:
            options |= {"IdentityFile": ssh_quoted(self.private_key), "IdentitiesOnly": "yes"}
        if self.known_hosts:
            options |= {"UserKnownHostsFile": ssh_quoted(self.known_hosts), "GlobalKnownHostsFile": "/dev/null"}
            options |= {"StrictHostKeyChecking": "yes"}
        return options


def ssh_quoted(path: str) -> str:
    """Give a path as ssh_config(5) reads it: in quotes, with ssh's own signs made plain.

    Raises UsageError for ``${``, which ssh takes for a variable of the environment and lets nobody escape.
    """
    if "${" in path:
        raise UsageError("ssh reads no path with ${ in it", where=path, do="move the file elsewhere")
    plain = path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


LOCAL = Host(name="localhost", connection="local")
