"""The sandboxes of a host: the door and its settings, the walls, and the agents' settings as they are inside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.render.agents import agent_files
from orchestrator.render.gateway import BRIDGE_ADDRESS, HEALTH_PATH
from orchestrator.render.texts import filled, verbatim
from orchestrator.render.units import GATEWAY_USER
from orchestrator.rendered import CURRENT, RenderedFile, RenderedLink

if TYPE_CHECKING:
    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment

SANDBOX_UNIT = "agentrig-sandbox.service"
FOLDER = "sandbox"
#: The bridge, and the gateway's address on it.
BRIDGE, ADDRESS = "agentrig0", BRIDGE_ADDRESS
#: What people of the host start; ``deploy sandbox`` asks through it.
COMMAND = "/usr/local/bin/agentrig-sandbox"
PROGRAMS = ("door.py", "places.py", "engine.py", "network.py", "client.py")
#: What an agent may ask of the kernel, as Docker reads it.
SYSTEM_CALLS = "seccomp.json"
#: What pushes at the walls.
PROBES = ("walls.py", "table.py", "inside.py", "wire.py")
#: What the door reads, itself not named.
PARTS = ("engine.py", "network.py", "places.py", SYSTEM_CALLS, "settings.json", "walls.nft")
#: The tables of the walls, as nftables lists them.
TABLES = ("bridge agentrig", "inet agentrig")
#: What the door lays the network with.
NETWORK_PACKAGES = ("iproute2", "nftables")
#: What the door needs of root: the bridge and its walls, another's network, files of agents, their programs' end.
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_KILL", "CAP_NET_ADMIN"),
    *("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"),
)
#: What one sandbox may take. MiB, processes, processors, files that are open at once.
LIMITS = {"memory_mib": 4096, "processes": 512, "cpus": 2.0, "disk_mib": 8192, "open_files": 8192}
#: Days after which a sandbox's token ends; it is lengthened whenever the sandbox is brought up.
TOKEN_DAYS = 30


def inside(deployment: Deployment) -> Deployment:
    """Give the deployment as an agent in a sandbox meets it: the gateway is its one neighbour."""
    return deployment.model_copy(update={"gateway_address": ADDRESS, "people": ()})


def sandbox_files(deployment: Deployment, catalog: Catalog) -> tuple[RenderedFile, ...]:
    """Give all files of the sandboxes; none for a deployment without."""
    if deployment.sandbox is None:
        return ()
    settings = {
        "bridge": BRIDGE,
        "address": ADDRESS,
        "port": deployment.gateway_port,
        "health_path": HEALTH_PATH,
        "people": list(deployment.people),
        "agents": list(deployment.agents),
        "gateway_user": GATEWAY_USER,
        "output_tokens": deployment.output_tokens,
        "token_days": TOKEN_DAYS,
        "limits": LIMITS,
    }
    walls = filled(f"{FOLDER}/walls.nft.j2", bridge=BRIDGE, address=ADDRESS, port=deployment.gateway_port)
    unit = filled(
        f"units/{SANDBOX_UNIT}.j2",
        door=f"{CURRENT}/{FOLDER}/door.py",
        parts=[f"{CURRENT}/{FOLDER}/{name}" for name in PARTS],
        capabilities=" ".join(CAPABILITIES),
    )
    programs = [
        RenderedFile(path=f"{FOLDER}/{name}", content=verbatim(f"{FOLDER}/{name}"))
        for name in (*PROGRAMS, *PROBES, SYSTEM_CALLS)
    ]
    agents = [
        file.model_copy(update={"path": f"{FOLDER}/{file.path}"})
        for file in agent_files(inside(deployment), catalog, walled=True)
        if not file.secrets
    ]
    return (
        RenderedFile(path=f"units/{SANDBOX_UNIT}", content=unit),
        RenderedFile(path=f"{FOLDER}/walls.nft", content=walls),
        RenderedFile(path=f"{FOLDER}/settings.json", content=json.dumps(settings, indent=2, ensure_ascii=False) + "\n"),
        *(
            one.model_copy(update={"mode": "0755"}) if one.path.endswith(("client.py", "walls.py")) else one
            for one in programs
        ),
        *agents,
    )


def sandbox_links(deployment: Deployment) -> tuple[RenderedLink, ...]:
    """Give the link by which people find the door's client."""
    if deployment.sandbox is None:
        return ()
    return (RenderedLink(path=COMMAND, target=f"{CURRENT}/{FOLDER}/client.py"),)
