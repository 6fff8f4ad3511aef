"""What a distribution's own archive carries of NVIDIA's driver: one row a release, and the names it makes."""

from __future__ import annotations

import re

from pydantic import Field, model_validator

from orchestrator.nouns import Noun

#: What a package's name may leave open, and no other word.
PLACES = frozenset({"branch", "kernel", "flavour"})
_PLACE = re.compile(r"\{([^}]*)\}")


class DriverRow(Noun):
    """One release of a distribution; an empty ``version``: all of them. Without ``branches`` nothing is installed.

    ``library`` is what is installed whatever the cards are; ``open`` and ``closed`` are modules that the host builds
    for each kernel itself, ``signed_open`` and ``signed_closed`` those that the distribution built and signed.
    """

    name: str
    os: str
    version: str = ""
    #: Branches of the archive, the lowest first.
    branches: tuple[str, ...] = ()
    #: Parts of the archive that carry them, beside those that the host has.
    components: tuple[str, ...] = ()
    library: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    signed_open: tuple[str, ...] = ()
    signed_closed: tuple[str, ...] = ()
    #: What building a module for the running kernel takes.
    headers: tuple[str, ...] = ()
    #: What its owner can do where the branches are too old, or there is none.
    newer: str = Field(min_length=1)
    #: Why nobody vouches for it; None where it was seen to work.
    untried: str | None = None
    source: str

    @property
    def names(self) -> tuple[str, ...]:
        """Give all names of packages, their places still open."""
        return (*self.library, *self.open, *self.closed, *self.signed_open, *self.signed_closed, *self.headers)

    @model_validator(mode="after")
    def _can_be_installed(self) -> DriverRow:
        if strange := sorted({place for name in self.names for place in _PLACE.findall(name)} - PLACES):
            message = f"a package's name leaves {{{strange[0]}}} open; known are {', '.join(sorted(PLACES))}"
            raise ValueError(message)
        if self.branches and not (self.library and self.open and self.closed):
            raise ValueError("a row with branches names its library, its open and its closed modules")
        if not self.branches and self.names:
            raise ValueError("a row that names packages says of which branches they are")
        return self
