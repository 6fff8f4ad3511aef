"""The scenarios of Molecule, as a developer runs them: the roles on a lab host, a change by hand, away again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.lab import Lab, cgroups, client
from tests.lab.rig import NO_HUB
from tests.lab.test_lab_hosts import family, left_of, spaces, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent

#: What Molecule itself keeps of a scenario that is destroyed.
KEPT = {"ansible.cfg", "inventory", "inventory/ansible_inventory.yml", "state.yml"}


@dataclass(frozen=True)
class Molecule:
    """Runs Molecule on a scenario, with an ephemeral directory of its own; the store is shared."""

    folder: Path
    scenario: str
    store: Path

    @property
    def ephemeral(self) -> Path:
        return self.folder / "ephemeral"

    @property
    def lab(self) -> Path:
        return self.ephemeral / "state/lab"

    def run(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a verb from the checkout; its colours and its own progress are off."""
        paths = {"AGENTRIG_STATE": str(self.store), "MOLECULE_EPHEMERAL_DIRECTORY": str(self.ephemeral)}
        paths["PATH"] = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
        plain = {"NO_COLOR": "1", "PY_COLORS": "0", "ANSIBLE_NOCOLOR": "1", "MOLECULE_COMMAND_BORDERS": "false"}
        return subprocess.run(
            [str(TOOLS / "molecule"), verb, "-s", self.scenario, *options],
            cwd=ROOT,
            env=os.environ | paths | plain | {"HF_ENDPOINT": NO_HUB},
            capture_output=True,
            text=True,
            check=False,
        )

    def on(self, command: str) -> None:
        """Run a shell line on the scenario's host."""
        (host,) = Lab(self.lab).hosts()
        subprocess.run([*host.ssh(), command], check=True, capture_output=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state whose store all scenarios fetch into, once."""
    return tmp_path_factory.mktemp("state")


#: Each scenario, and what a hand may alter on its host: a command, and the word that verify has of it.
SCENARIOS = {
    "place": ("chmod 0666 /opt/agentrig/current/deployment.json", "deployment.json"),
    "serve": ("systemctl stop agentrig-gateway.service", "agentrig-gateway.service"),
    "agents": (
        "ln -sfn /opt/agentrig/current/agents/aider/aider /usr/local/bin/opencode",
        "link /usr/local/bin/opencode",
    ),
}


@pytest.fixture(scope="module", params=SCENARIOS)
def molecule(
    request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Molecule]:
    molecule = Molecule(tmp_path_factory.mktemp("molecule"), request.param, store)
    yield molecule
    if (molecule.ephemeral / "state").exists():
        molecule.run("destroy")


@pytest.fixture(scope="module")
def tested(molecule: Molecule) -> str:
    """What Molecule printed while it tested the scenario, the hosts kept for the tests below."""
    done = molecule.run("test", "--destroy=never")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_every_step_is_taken_and_the_host_specs_hold(tested: str) -> None:
    for step in ("create", "prepare", "converge", "idempotence", "verify"):
        assert f"{step}: Executed: Successful" in tested
    assert "The host specs hold." in tested
    assert "passed: the host agrees with its manifest" in tested
    assert "passed: files have their declared mode, owner and group" in tested


def test_what_the_roles_are_given_is_private(molecule: Molecule, tested: str) -> None:
    (values,) = (molecule.ephemeral / "values").iterdir()
    assert values.stat().st_mode & 0o777 == 0o600
    secrets = json.loads((molecule.lab / "rigs/host-1/secrets.json").read_text())
    assert all(secret in values.read_text() for secret in secrets.values()), "the roles put them on the host"
    assert not [name for name, secret in secrets.items() if secret in tested]


def test_a_change_by_hand_turns_it_red(molecule: Molecule, tested: str) -> None:
    del tested
    by_hand, word = SCENARIOS[molecule.scenario]
    molecule.on(by_hand)
    done = molecule.run("verify")
    assert done.returncode != 0
    assert "Check mode would still" in done.stdout
    assert word in done.stdout


def test_destroy_leaves_nothing(molecule: Molecule, tested: str) -> None:
    del tested
    supervisor = client.pid_of(molecule.lab)
    assert supervisor
    members = family(supervisor)
    theirs = set.union(*map(spaces, members)) - spaces(os.getpid())
    done = molecule.run("destroy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert until(lambda: not left_of(molecule.lab, members, theirs)), left_of(molecule.lab, members, theirs)
    group = client.group_of(molecule.lab)
    assert not [hierarchy for hierarchy in cgroups.hierarchies() if (hierarchy / group).exists()]
    kept = {str(path.relative_to(molecule.ephemeral)) for path in molecule.ephemeral.rglob("*")}
    assert kept <= KEPT, kept - KEPT
