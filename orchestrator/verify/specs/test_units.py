"""Our units, and who their processes are."""
# ruff: noqa: S101 - pytest's own way to say what must hold

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from orchestrator.manifest import Manifest, UnitItem

    Ask = Callable[[str, Iterable[str]], list[str]]
    RecordCount = Callable[[int, str], None]

#: Units of root's, each with the capabilities that it may hold and no more (capabilities(7), by number).
ROOTS = {"agentrig-sandbox.service": (0, 1, 2, 3, 5, 12, 19, 21)}
#: How the names of units of our own begin; the others are packages' (a container engine's), which run as they come.
OWN = "agentrig-"
#: Prints for each unit: its name, whether it is enabled, whether it is active; read anew, not from systemd's memory.
_STATES = """
for unit; do
  enabled=$(systemctl is-enabled -- "$unit" 2>/dev/null)
  echo "$unit ${enabled:-unknown} $(systemctl is-active -- "$unit")"
done
"""
#: Prints for each unit: its name, the real and effective user of its process, NoNewPrivs, effective capabilities.
_PROCESS = """
for unit; do
  status=/proc/$(systemctl show --property=MainPID --value -- "$unit")/status
  [ -r "$status" ] || { echo "$unit -"; continue; }
  echo "$unit" $(awk '/^Uid:/ {print $2, $3} /^(NoNewPrivs|CapEff):/ {print $2}' "$status")
done
"""


def test_units(host: Any, manifest: Manifest, record_count: RecordCount) -> None:
    """Units are enabled and active as declared."""
    record_count(len(manifest.units), "units")
    assert manifest.units, "the manifest declares no unit"
    found = _by_unit(host, _STATES, [unit.name for unit in manifest.units])
    faults = [fault for unit in manifest.units for fault in _unit_faults(unit, found.get(unit.name, []))]
    assert not faults, "; ".join(faults)


def test_processes(host: Any, manifest: Manifest, record_count: RecordCount) -> None:
    """Each service runs as its own user, can gain no privilege and holds no capability."""
    services = {f"{user}.service": user for user in manifest.users}
    units = [unit.name for unit in manifest.units if unit.active and unit.name in services]
    record_count(len(units), "processes")
    ours = [unit.name for unit in manifest.units if unit.active and unit.name.startswith(OWN)]
    nobodys = [name for name in ours if name not in {*services, *ROOTS}]
    assert units, "the manifest declares no running service with a user of its own"
    assert not nobodys, f"no user of its own is declared for {', '.join(nobodys)}"
    numbers = dict(_passwd(host.run("getent passwd " + " ".join(services.values())).stdout))
    seen = _by_unit(host, _PROCESS, units)
    faults = [
        fault
        for unit in units
        for fault in _process_faults(unit, services[unit], numbers.get(services[unit]), seen.get(unit, []))
    ]
    assert not faults, "; ".join(faults)


def test_root(host: Any, manifest: Manifest, record_count: RecordCount) -> None:
    """A service of root's can gain no privilege and holds the declared capabilities alone."""
    units = [unit.name for unit in manifest.units if unit.active and unit.name in ROOTS]
    record_count(len(units), "processes")
    seen = _by_unit(host, _PROCESS, units) if units else {}
    faults = []
    for unit in units:
        match seen.get(unit, []):
            case [_, _, capabilities, no_new_privileges]:
                more = int(capabilities, 16) & ~sum(1 << number for number in ROOTS[unit])
                faults += [] if no_new_privileges == "1" else [f"{unit} may gain privileges"]
                faults += [f"{unit} holds capabilities {more:#x} besides"] if more else []
            case _:
                faults.append(f"{unit} has no process that can be read")
    assert not faults, "; ".join(faults)


def _by_unit(host: Any, script: str, units: list[str]) -> dict[str, list[str]]:
    lines = host.run(f"sh -c %s sh {' '.join(units)}", script).stdout.splitlines()
    return {unit: rest for unit, *rest in map(str.split, lines)}


def _unit_faults(unit: UnitItem, found: list[str]) -> list[str]:
    enabled, active = found if len(found) == 2 else ("unknown", "unknown")  # noqa: PLR2004 - both were printed
    faults = []
    if (enabled == "enabled") is not unit.enabled:
        faults.append(f"{unit.name} is {enabled}, declared as {'enabled' if unit.enabled else 'not enabled'}")
    if (active == "active") is not unit.active:
        faults.append(f"{unit.name} is {active}, declared as {'active' if unit.active else 'not active'}")
    return faults


def _passwd(text: str) -> list[tuple[str, str]]:
    return [(fields[0], fields[2]) for fields in (line.split(":") for line in text.splitlines())]


def _process_faults(unit: str, user: str, number: str | None, seen: list[str]) -> list[str]:
    if number is None:
        return [f"{unit}: there is no user {user}"]
    match seen:
        case [real, effective, capabilities, no_new_privileges]:
            faults = [] if (real, effective) == (number, number) else [f"{unit} runs as uid {effective}, not as {user}"]
            faults += [] if no_new_privileges == "1" else [f"{unit} may gain privileges"]
            faults += [] if int(capabilities, 16) == 0 else [f"{unit} holds capabilities {capabilities}"]
            return faults
        case _:
            return [f"{unit} has no process that can be read"]
