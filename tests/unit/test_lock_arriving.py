"""Bytes while they arrive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.lock.arriving import follow_pip, size_of, told, watched

if TYPE_CHECKING:
    from pathlib import Path

SAID = """\
Collecting small
  Downloading small-1.0-py3-none-any.whl (2.0 MB)
Progress 0 of 2000
Progress 1500 of 2000
Progress 2000 of 2000
Collecting other
Progress 0 of 300
Progress 300 of 300
Successfully downloaded small other
"""


def test_pip_s_figures_are_added_up_over_its_files() -> None:
    figures: list[tuple[int, int | None]] = []
    with told(lambda done, total: figures.append((done, total))):
        follow_pip(SAID.splitlines(keepends=True))
    assert figures == [(0, 2000), (1500, 2000), (2000, 2000), (2000, 2300), (2300, 2300)]


def test_a_size_that_pip_does_not_know_is_no_total() -> None:
    figures: list[tuple[int, int | None]] = []
    with told(lambda done, total: figures.append((done, total))):
        follow_pip(["Progress 0 of 0\n", "Progress 77 of 0\n"])
    assert figures == [(0, None), (77, None)]


def test_nobody_needs_to_wait_for_them() -> None:
    follow_pip(SAID.splitlines())


def test_a_folder_that_fills_is_told(tmp_path: Path) -> None:
    figures: list[tuple[int, int | None]] = []
    with told(lambda done, total: figures.append((done, total))), watched(tmp_path, 500, before=100, total=1000):
        (tmp_path / "below").mkdir()
        (tmp_path / "below/part").write_bytes(b"x" * 200)
        end = time.monotonic() + 20
        while (300, 1000) not in figures and time.monotonic() < end:
            time.sleep(0.02)
    assert (300, 1000) in figures
    assert size_of(tmp_path) == 200
