"""What already lives on a host: ports that are taken, endpoints that answer, firewalls. Told, never touched. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from orchestrator.errors import ApplyError
from orchestrator.plan import offers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.deployment import Deployment
    from orchestrator.inventory import Host
    from orchestrator.rendered import Rendered
    from orchestrator.snapshot import HostSnapshot, Listener

#: What its owner runs to let a port in, by firewall: ``PORT`` stands for it (ufw(8), firewall-cmd(1)).
_ALLOWING = {
    "ufw": "ufw allow PORT/tcp",
    "firewalld": "firewall-cmd --permanent --add-port=PORT/tcp && firewall-cmd --reload",
}


def refuse_taken_ports(host: Host, snapshot: HostSnapshot, rendered: Rendered, deployment: Deployment) -> None:
    """Raise ApplyError, before anything is changed, where a port of ours is another program's: whose, and what to set.

    For a host that has nothing of ours; of others, apply sees whose process it is.
    """
    taken = {(one.protocol, one.port): one for one in snapshot.listeners}
    for wanted in rendered.listeners:
        if stranger := taken.get((wanted.protocol, wanted.port)):
            key = "gateway.port" if wanted.port == deployment.gateway_port else "runtime.port"
            raise ApplyError(
                f"port {wanted.port} is taken by {_program(stranger)}",
                where=host.name,
                do=f"set {key} in the profile to another port, or stop that program",
            )


def refuse_silent_endpoint(host: Host, snapshot: HostSnapshot, deployment: Deployment) -> None:
    """Raise ApplyError where nothing listens at an address of the host itself that the profile names."""
    if deployment.runtime_url is None or not _here(deployment.runtime_url) or not snapshot.listeners:
        return
    if deployment.runtime_port not in {one.port for one in snapshot.listeners if one.protocol == "tcp"}:
        raise ApplyError(
            f"nothing answers at {deployment.runtime_url}",
            where=host.name,
            do="start the program that is to serve there, or set another runtime.url in the profile",
        )


def notes(snapshot: HostSnapshot, deployment: Deployment) -> Iterator[str]:
    """Give what the owner should know of the others on the host."""
    if deployment.runtime_url is None:
        yield from offers(snapshot)
    yield from to_allow(snapshot, deployment)


def to_allow(snapshot: HostSnapshot, deployment: Deployment) -> tuple[str, ...]:
    """Give what a person has to allow in the host's own firewalls, where the gateway is to be reached from elsewhere.

    We open nothing: a gateway on a loopback address needs nothing opened.
    """
    if ip_address(deployment.gateway_address).is_loopback:
        return ()
    port = str(deployment.gateway_port)
    known = [name for name in _ALLOWING if name in snapshot.firewalls]
    told = [f"{name} filters there: {_ALLOWING[name].replace('PORT', port)} lets others reach it" for name in known]
    tables = [name.removeprefix("nft ") for name in snapshot.firewalls if name.startswith("nft ")]
    if tables and not known:
        told.append(f"nft tables filter there ({', '.join(tables)}): see that they let tcp port {port} in")
    return tuple(told)


def _here(url: str) -> bool:
    return url.split("://", 1)[-1].startswith(("127.", "[::1]"))


def _program(one: Listener) -> str:
    return f"{one.program} ({one.address})" if one.program else f"another program ({one.address})"
