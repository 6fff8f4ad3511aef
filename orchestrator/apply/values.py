"""What the roles are given: their variables, from the rendering and the lock. Pure."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

from orchestrator.apply.declare import LITTER, MASKED, WAITING, fingerprint, other_links, unit_links
from orchestrator.errors import ApplyError
from orchestrator.rendered import ROOT, SANDBOX_IMAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.lockfile import Artefact, Lock
    from orchestrator.manifest import Manifest
    from orchestrator.rendered import Rendered, RenderedLink, RenderedUnit
    from orchestrator.snapshot import Listener

#: Where people of a host find the agents' commands (FHS 3.0, 4.9: what the administrator puts there himself).
COMMANDS = "/usr/local/bin"
#: Where others keep weights on a host, each file under its sha256: the hub's cache of each person, Ollama's service and
#: each person's own Ollama (both programs' documentation of their folders).
ELSEWHERE = (
    *(f"{home}/.cache/huggingface/hub/*--*/blobs/{{digest}}" for home in ("/root", "/home/*")),
    *(f"{home}/.ollama/models/blobs/sha256-{{digest}}" for home in ("/usr/share/ollama", "/root", "/home/*")),
)
#: Roles that run a unit, and the unit that each runs.
UNITS = {
    "runtime": "agentrig-runtime.service",
    "sandbox_host": "agentrig-sandbox.service",
    "gateway": "agentrig-gateway.service",
}


def debs_of(lock: Lock, name: str) -> list[dict[str, Any]]:
    """Give the packages of a host as the roles read them; a file's name bears no epoch."""
    known = lock.by_id()
    debs = [known[deb] for deb in lock.hosts[name].debs]
    return [{**_part(deb), "file": f"{deb.name}_{deb.key[:16]}.deb"} for deb in sorted(debs, key=lambda deb: deb.name)]


def trees_of(lock: Lock, keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give the artefacts of a host as the roles build them."""
    known = {artefact.key: artefact for artefact in lock.artefacts if artefact.digest}
    return [_tree(known[key], lock) for key in sorted(set(keys.values()))]


def _tree(artefact: Artefact, lock: Lock) -> dict[str, Any]:
    if artefact.kind in ("file", "binary"):
        kind, parts = "archive" if artefact.kind == "binary" and _is_packed(artefact) else "file", [artefact]
    elif artefact.kind == "image":
        kind, parts = "file", [part for name in artefact.parts if (part := lock.by_id()[name]).kind == "file"]
    elif artefact.kind in ("venv", "folder", "npm_tree"):
        kind = "file" if artefact.kind == "folder" else artefact.kind
        parts = [lock.by_id()[part] for part in artefact.parts]
    else:
        raise ApplyError(
            f"{artefact.name} is of the kind {artefact.kind}, which no role places yet", where="deploy.lock"
        )
    return {
        "key": artefact.key,
        "name": f"{artefact.name} {artefact.version}",
        "kind": kind,
        "parts": [_part(part) for part in parts],
        "places": {place: lock.by_id()[part].key for place, part in artefact.places.items()},
        "commands": artefact.commands,
    }


def _is_packed(artefact: Artefact) -> bool:
    return ".tar." in artefact.filename or artefact.filename.endswith((".tar", ".tgz"))


def _part(artefact: Artefact) -> dict[str, Any]:
    return {
        "digest": artefact.key,
        "bytes": artefact.bytes or 0,
        "file": artefact.filename or artefact.name,
        "name": artefact.name,
        "version": artefact.version,
    }


def host_values(
    rendered: Rendered, debs: Sequence[Mapping[str, Any]], listeners: Sequence[Listener], ports: Mapping[str, int]
) -> dict[str, Any]:
    """Give the variables of ``host_base``. ``ports`` are by unit."""
    return {
        "host_base_users": [user.document() for user in rendered.users],
        "host_base_packages": [deb["name"] for deb in debs],
        "host_base_listeners": [listener.document() for listener in listeners],
        "host_base_ports": [{"port": port, "unit": unit} for unit, port in ports.items()],
    }


def signed_values(
    name: str,
    signed: tuple[bytes, str] | None,
    debs: Sequence[Mapping[str, Any]],
    trees: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Give the variables by which a host sees who signed what it is about to be given, and that it is that."""
    content, signature = signed or (b"", "")
    parts = {part["digest"] for tree in trees for part in tree["parts"]}
    return {
        "host_base_name": name,
        "host_base_lock": base64.b64encode(zlib.compress(content)).decode() if content else "",
        "host_base_signature": signature,
        "host_base_digests": sorted(parts | {tree["key"] for tree in trees} | {deb["digest"] for deb in debs}),
    }


def release_values(
    rendered: Rendered, release: str, keys: Mapping[str, str], secrets: dict[str, str]
) -> dict[str, Any]:
    """Give the variables of ``artefacts`` that say what the release is; its files have their secrets put in."""
    return {
        "artefacts_release": release,
        "artefacts_files": [
            {
                "path": file.path,
                "mode": file.mode,
                "owner": file.owner,
                "group": file.group,
                "content": file.filled(secrets),
            }
            for file in rendered.files
        ],
        "artefacts_named": dict(keys),
        "artefacts_links": _plain([link for link in other_links(rendered) if not is_command(link.path)]),
        "artefacts_masked": dict(MASKED),
        "artefacts_waiting": dict(WAITING),
        "coding_agents_links": _plain([link for link in other_links(rendered) if is_command(link.path)]),
    }


def is_command(path: str) -> bool:
    """Tell whether a link is a command that people find in their PATH: the role ``coding_agents`` places those."""
    return path.startswith(f"{COMMANDS}/")


def unit_values(
    rendered: Rendered, lock: Lock, name: str, keys: Mapping[str, str], secrets: dict[str, str]
) -> dict[str, Any]:
    """Give the variables of ``runtime`` and ``gateway``; what the rendering itself says of them comes last."""
    values: dict[str, Any] = {}
    ports = ports_of(lock, name)
    for role, unit in _units(rendered).items():
        values |= {
            f"{role}_unit": unit.name,
            f"{role}_links": _plain(unit_links(unit)),
            f"{role}_fingerprint": fingerprint(unit, rendered, keys, secrets),
            f"{role}_port": ports.get(unit.name, 0),
        }
    if "runtime_unit" in values:
        values["runtime_together"] = [values["gateway_unit"]] if "gateway_unit" in values else []
        values["runtime_health"] = f"http://127.0.0.1:{values['runtime_port']}/health"
    if SANDBOX_IMAGE in keys:
        values["container_engine_image"] = keys[SANDBOX_IMAGE]
    return values | rendered.variables


def ports_of(lock: Lock, name: str) -> dict[str, int]:
    """Give unit -> TCP port, as the host's deployment has them."""
    applied = lock.hosts[name].applied
    return {UNITS["runtime"]: applied.runtime_port, UNITS["gateway"]: applied.gateway_port}


def away_values(manifests: Sequence[Manifest], *, purge: bool) -> dict[str, Any]:
    """Give the variables of all roles for taking away what manifests name."""
    users = sorted({user for manifest in manifests for user in manifest.users})
    packages = {package.name: package.version for manifest in manifests for package in manifest.packages}
    values: dict[str, Any] = {
        "host_base_users": [{"name": user, "groups": []} for user in users],
        "artefacts_debs": [
            {"name": name, "version": version, "digest": "", "bytes": 0, "file": ""}
            for name, version in sorted(packages.items())
        ],
        "artefacts_masked": dict(MASKED),
        "artefacts_litter": dict(LITTER),
        "artefacts_links": [link for link in _other_links_of(manifests) if not is_command(link["path"])],
        "coding_agents_links": [link for link in _other_links_of(manifests) if is_command(link["path"])],
    }
    values |= {f"{role}_purge": purge for role in ("host_base", "artefacts", "container_engine", *UNITS)}
    return values | {f"{role}_unit": unit for role, unit in UNITS.items()}


def _other_links_of(manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    """Give the links of manifests that the roles do not know by themselves."""
    own = tuple(f"/{unit}" for unit in UNITS.values())
    links = {link.path: link for manifest in manifests for link in manifest.links if link.target != "/dev/null"}
    return [
        link.document() for path, link in links.items() if not path.startswith(f"{ROOT}/") and not path.endswith(own)
    ]


def _units(rendered: Rendered) -> dict[str, RenderedUnit]:
    """Give role -> unit for the units that a rendering has; raises ApplyError for one that no role runs."""
    roles = {unit: role for role, unit in UNITS.items()}
    if strange := [unit.name for unit in rendered.units if unit.name not in roles]:
        raise ApplyError(f"no role runs the unit {strange[0]}", where="the rendering")
    return {roles[unit.name]: unit for unit in rendered.units}


def _plain(links: Sequence[RenderedLink]) -> list[dict[str, Any]]:
    return [link.document() for link in links]
