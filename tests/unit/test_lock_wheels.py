from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import LockError
from orchestrator.lock import Store, wheels
from orchestrator.lock.keys import folder_key, venv_key
from orchestrator.lock.wanted import Target, target_of
from tests.unit.lock_stand_ins import snapshot, wheel

BOOKWORM = Target("3.11.2", "x86_64", (2, 36))
NOBLE_ARM = Target("3.12.3", "aarch64", (2, 39))


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of small wheels as pip's only source."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_platforms_run_from_the_hosts_glibc_down() -> None:
    tags = wheels.platforms(BOOKWORM)
    assert tags[0] == "manylinux_2_36_x86_64"
    assert (
        tags.index("manylinux_2_28_x86_64") < tags.index("manylinux_2_17_x86_64") < tags.index("manylinux2014_x86_64")
    )
    assert tags[-1] == "linux_x86_64"
    assert "manylinux_2_37_x86_64" not in tags
    assert not [tag for tag in wheels.platforms(NOBLE_ARM) if "x86_64" in tag]


def test_a_target_is_read_from_what_the_lock_says() -> None:
    assert Target.read(f"venv:vllm==1 for {NOBLE_ARM}") == NOBLE_ARM
    with pytest.raises(LockError):
        Target.read("venv:vllm==1")


def test_the_glibc_comes_from_the_hosts_own_library_and_else_from_its_release() -> None:
    assert target_of(snapshot(), "3.11.2").glibc == (2, 36)
    assert target_of(snapshot(packages=()), "3.11.2").glibc == (2, 36)
    unknown = snapshot(packages=(), os=snapshot().os.model_copy(update={"id": "plan9", "pretty": "Plan 9"}))
    with pytest.raises(LockError, match="glibc of Plan 9 is not known"):
        target_of(unknown, "3.11.2")


def test_the_closure_is_that_of_the_hosts_interpreter_not_of_ours(wheelhouse: Path, store: Store) -> None:
    wheel(
        wheelhouse,
        "Top",
        "1.0",
        'old-helper; python_version < "3.12"',
        'new_helper; python_full_version >= "3.12.1"',
        'arm-helper; platform_machine == "aarch64"',
        'windows-helper; sys_platform == "win32"',
    )
    for name in ("old-helper", "new-helper", "arm-helper", "windows-helper"):
        wheel(wheelhouse, name, "2.0")
    assert [one.name for one in wheels.resolve_wheels(["top"], BOOKWORM, store)] == ["old-helper", "top"]
    assert [one.name for one in wheels.resolve_wheels(["top"], NOBLE_ARM, store)] == ["arm-helper", "new-helper", "top"]


def test_held_versions_do_not_move(wheelhouse: Path, store: Store) -> None:
    wheel(wheelhouse, "top", "1.0", "helper")
    wheel(wheelhouse, "helper", "1.0")
    wheel(wheelhouse, "helper", "2.0")
    held = wheels.resolve_wheels(["top"], BOOKWORM, store, {"helper": "1.0", "absent": "7"})
    free = wheels.resolve_wheels(["top"], BOOKWORM, store)
    assert [one.version for one in held] == ["1.0", "1.0"]
    assert [one.version for one in free] == ["2.0", "1.0"]


def test_fetched_wheels_keep_their_names_and_bytes(wheelhouse: Path, store: Store) -> None:
    path = wheel(wheelhouse, "top", "1.0")
    (one,) = wheels.resolve_wheels(["top"], BOOKWORM, store)
    assert (one.filename, one.source, one.bytes) == (path.name, "pypi:top==1.0", None)
    wheels.fetch_wheels([one], BOOKWORM, store)
    assert one.digest is not None
    assert store.path(one.digest).read_bytes() == path.read_bytes()
    assert wheels.sized([one], store)[0].bytes == path.stat().st_size


def test_other_bytes_under_the_same_version_are_refused(wheelhouse: Path, store: Store) -> None:
    wheel(wheelhouse, "top", "1.0")
    resolved = wheels.resolve_wheels(["top"], BOOKWORM, store)
    wheel(wheelhouse, "top", "1.0", files={"top.py": b"evil = True\n"})
    with pytest.raises(LockError) as raised:
        wheels.fetch_wheels(resolved, BOOKWORM, store)
    assert "top 1.0" in str(raised.value)
    assert not [path for path in store.root.rglob("*") if path.is_file()]
    with pytest.raises(LockError):
        wheels.still_there(resolved, BOOKWORM, store)


def test_a_name_that_is_not_there_is_one_clear_line(wheelhouse: Path, store: Store) -> None:
    assert wheelhouse.is_dir()
    with pytest.raises(LockError, match=r"^ghost: No matching distribution found for ghost$"):
        wheels.resolve_wheels(["ghost"], BOOKWORM, store)


def test_an_interpreter_without_pip_says_so() -> None:
    script = Path(wheels.__file__).with_name("pip_as.py")
    done = subprocess.run([sys.executable, "-I", "-S", str(script), "{}"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has no pip" in wheels.complaint(done.stderr)


def test_complaints_carry_no_address() -> None:
    said = "WARNING: x\nERROR: Could not install from https://user:secret@index.example/simple: 403\n"
    assert wheels.complaint(said) == "Could not install from the registry 403"
    assert wheels.complaint("WARNING: Retrying (Retry(total=4)) after…\nERROR: No matching distribution") == (
        "pip does not reach its registry"
    )
    assert wheels.complaint("") == ""


@pytest.mark.parametrize("report", [{}, {"version": "2", "install": []}, {"version": "1", "install": None}])
def test_a_report_of_another_form_is_refused(report: dict[str, object]) -> None:
    with pytest.raises(LockError, match="form that is not known"):
        wheels.read_report(report)


def test_a_wheel_without_a_sha256_is_refused() -> None:
    item = {
        "metadata": {"name": "top", "version": "1"},
        "download_info": {"url": "file:///top.whl", "archive_info": {}},
    }
    with pytest.raises(LockError, match="no sha256 for top 1"):
        wheels.read_report({"version": "1", "install": [item]})


def test_a_venvs_key_holds_what_it_is_built_from_and_not_their_order() -> None:
    key = venv_key(["sha256:a", "sha256:b"], "3.11.2", "x86_64")
    assert key == venv_key(["sha256:b", "sha256:a"], "3.11.2", "x86_64")
    others = {
        venv_key(["sha256:a"], "3.11.2", "x86_64"),
        venv_key(["sha256:a", "sha256:b"], "3.11.4", "x86_64"),
        venv_key(["sha256:a", "sha256:b"], "3.11.2", "aarch64"),
    }
    assert len(others | {key}) == 4
    assert folder_key({"a": "sha256:1"}) != folder_key({"b": "sha256:1"})
