"""Every test of this ring takes root; the rig that most of them look at is brought up once, from the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="the lab makes hosts, which takes root: sudo -E make lab"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([str(uv), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command ``deploy`` of the wheel, installed with its locked wheels into an environment of its own."""
    folder = tmp_path_factory.mktemp("installed")
    uv = str(Path(sys.executable).parent / "uv")
    requirements = folder / "requirements.txt"
    export = [uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "-o", str(requirements)]
    subprocess.run(export, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], check=True)
    into = [uv, "pip", "install", "--quiet", "--python", str(folder / "venv")]
    subprocess.run([*into, "-r", str(requirements)], check=True)
    subprocess.run([*into, "--no-deps", str(wheel)], check=True)
    return folder / "venv/bin/deploy"


@pytest.fixture(scope="session")
def rig(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An empty folder, an empty state, and the installed command; the lab goes away at the end."""
    folder = tmp_path_factory.mktemp("empty")
    rig = Rig(folder, tmp_path_factory.mktemp("state"), (str(installed),))
    yield rig
    done = rig.run("lab", "down")
    assert done.returncode == 0, done.stderr
