"""What the driver's module says of a kernel module that is another, not there, or not let in: as it runs on a host."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.files import data

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

SHARED = "ansible.module_utils.agentrig"


def loaded(name: str, path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with the project's own beside it as Ansible puts it there."""
    monkeypatch.setitem(sys.modules, SHARED, loaded(SHARED, data("roles") / "host_base/module_utils/agentrig.py"))
    return loaded("agentrig_driver", data("roles") / "gpu_driver/library/agentrig_driver.py")


@pytest.mark.parametrize(
    ("loaded", "disk", "nouveau", "other", "why"),
    [
        ("580.95.05", "580.178.04", False, None, "the loaded NVIDIA module is 580.95.05, the installed driver 580.178"),
        (None, "580.178.04", True, None, "nouveau has the cards"),
        (None, None, True, None, "nouveau has the cards"),
        (None, None, False, "6.8.0-151-generic", "made for the kernel 6.8.0-151-generic, and 6.8.0-60-generic runs"),
        ("580.178.04", "580.178.04", False, "6.8.0-151-generic", None),
        ("580.178.04", None, False, None, None),
        (None, "580.178.04", False, None, None),
        (None, None, False, None, None),
    ],
)
def test_a_reboot_is_asked_for_where_nothing_else_helps(  # noqa: PLR0913 - each is a thing that is seen
    driver: Any, *, loaded: str | None, disk: str | None, nouveau: bool, other: str | None, why: str | None
) -> None:
    said = driver.reboot_reason(loaded, disk, nouveau=nouveau, other=other, kernel="6.8.0-60-generic")
    assert said is None if why is None else why in said


def test_in_a_container_it_is_said_and_nothing_fails(driver: Any) -> None:
    note = driver.not_loaded("modprobe: FATAL: Module nvidia not found", container=True, kernel="6.8.0")
    assert "container" in note
    assert "FATAL: Module nvidia not found" in note


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("modprobe: ERROR: could not insert 'nvidia': Key was rejected by service", "Enroll MOK"),
        ("modprobe: ERROR: could not insert 'nvidia': Required key not available", "Enroll MOK"),
        ("modprobe: ERROR: could not insert 'nvidia': No such device", "No such device"),
        ("", "said nothing"),
    ],
)
def test_elsewhere_it_is_refused_with_what_was_said(driver: Any, said: str, why: str) -> None:
    with pytest.raises(driver.Refused, match=why):
        driver.not_loaded(said, container=False, kernel="6.8.0")


def test_a_path_that_is_not_the_drivers_is_refused(driver: Any) -> None:
    with pytest.raises(driver.Refused, match="/etc/shadow"):
        driver.wanted_files([{"path": "/etc/shadow", "content": ""}])
