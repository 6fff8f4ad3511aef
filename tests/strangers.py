"""Somebody who is not the owner: his keys count nowhere but with himself."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def somebody_else(home: Path) -> Iterator[None]:
    """Be another user for as long as this lasts, as far as keys go: one whose states lie under ``home``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home / "states"))
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        yield
