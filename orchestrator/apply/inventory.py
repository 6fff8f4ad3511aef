"""Ansible's own inventories, read by Ansible's own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.errors import InventoryError
from orchestrator.inventory import Host

#: What a host of an inventory may also say of itself, for the lab: the system it is made with.
LAB_OS = "lab_os"


def read_inventory(path: Path) -> dict[str, dict[str, Any]]:
    """Give the variables of each host, by name; raises InventoryError."""
    if not path.exists():
        raise InventoryError("there is no such inventory", where=str(path), do="give a file or folder that is there")
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(path), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()
        raise InventoryError(last[-1] if last else "Ansible cannot read it", where=str(path), do="mend the inventory")
    variables: dict[str, dict[str, Any]] = json.loads(done.stdout)["_meta"]["hostvars"]
    names = _names(json.loads(done.stdout))
    if not names:
        raise InventoryError("the inventory names no host", where=str(path), do="add a host to it")
    return {name: variables.get(name, {}) for name in names}


def _names(listing: dict[str, Any]) -> list[str]:
    """Give every host that a group names, in the inventory's order, each once."""
    groups = [group for name, group in listing.items() if name != "_meta"]
    return list(dict.fromkeys(host for group in groups for host in group.get("hosts", ())))


def host_of(name: str, variables: dict[str, Any]) -> Host:
    """Give a host as its inventory says it is reached; raises InventoryError for what is no host."""
    connection = variables.get("ansible_connection", "ssh")
    if connection not in ("ssh", "local"):
        raise InventoryError(
            f"ansible_connection is {connection!r}", where=name, do="use ssh or local; nothing else is spoken here"
        )
    user = variables.get("ansible_user", "root")
    return Host(
        name=name,
        connection=connection,
        address=str(variables.get("ansible_host", name)),
        port=int(variables.get("ansible_port", 22)),
        user=user,
        private_key=variables.get("ansible_ssh_private_key_file"),
        become=bool(variables.get("ansible_become", user != "root")),
        profile=variables.get("agentrig_profile"),
    )
