"""How much is fetched, and how much lies on each host's disk afterwards. Pure; all sizes in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.nouns import Noun

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from orchestrator.catalog.rows import Catalog
    from orchestrator.deployment import Deployment
    from orchestrator.lockfile import Artefact, Lock
    from orchestrator.snapshot import HostSnapshot

#: What a package takes installed, for each byte of its .deb: 1.64 for the closure of nginx and python3-venv on
#: Debian 12 by the packages' own ``Installed-Size``, and a quarter more, for it is an estimate.
INSTALLED_PER_DEB = 2.0
#: What a venv takes, for each byte of its wheels: 3.13 for xllamacpp's, by the sizes in the archive; an estimate.
UNPACKED_PER_WHEEL = 3.2
#: The same for a tree of npm packages, whose tarballs are packed alike.
_UNPACKED = {"wheel": UNPACKED_PER_WHEEL, "npm": UNPACKED_PER_WHEEL}
#: A download of more than this is asked about before it begins.
LARGE_FETCH = 1 << 30
#: Parts up to this size are carried in one archive, which lies beside them until it is unpacked (the role's own bound).
ARCHIVED_BYTES = 64 << 20
_MIB = 1 << 20


class Sizes(Noun):
    """One host's part of a lock, in bytes. ``free`` is what its disk has left now, None where nobody could say."""

    host: str
    #: What this machine must still fetch, as far as sizes are known.
    fetch: int = 0
    #: Files to fetch whose size no registry has told.
    fetch_unsized: int = 0
    #: What is carried to the host.
    carry: int = 0
    #: What is on the host's disk when all is done and was not before: built trees and packages are estimates.
    place: int = 0
    #: The most that its disk must take at once: parts that were carried lie beside what is built from them.
    peak: int = 0
    free: int | None = None

    @property
    def short(self) -> int:
        """Give how many bytes the host's disk is too small by; 0 where it is large enough, or not known."""
        return 0 if self.free is None else max(0, self.peak - self.free)


def sizes(
    lock: Lock,
    snapshot: HostSnapshot,
    *,
    in_store: Callable[[str], bool],
    trees: Collection[str] = (),
) -> Sizes:
    """Give what one host of a lock takes. ``trees`` are keys of artefacts that it already has whole.

    ``in_store`` tells for a digest whether this machine has fetched it. The host is the snapshot's.
    """
    known, locked = lock.by_id(), lock.hosts[snapshot.name]
    debs = [known[name] for name in locked.debs]
    lacking = [top for name in locked.links.values() if (top := known[name]).digest and top.key not in trees]
    parts = {part.id: part for top in lacking for part in _parts(top, lock)}
    packed = [part for part in parts.values() if part.kind in _UNPACKED]
    installed = {one.name: one.version for one in snapshot.packages}
    new = [deb for deb in debs if installed.get(deb.name) != deb.version]
    carried = [*parts.values(), *new]
    fetched = {one.id: one for one in _fetched(lock.artefacts_of(snapshot.name)) if not in_store(str(one.digest))}
    small = _sum(one for one in carried if _size(one) <= ARCHIVED_BYTES)
    built = int(sum(_size(one) * _UNPACKED[one.kind] for one in packed)) + int(_sum(new) * INSTALLED_PER_DEB)
    stays = _sum(part for part in parts.values() if part.kind not in _UNPACKED) + _sum(new)
    return Sizes(
        host=snapshot.name,
        fetch=_sum(fetched.values()),
        fetch_unsized=sum(one.bytes is None for one in fetched.values()),
        carry=_sum(carried),
        place=stays + built,
        peak=_sum(carried) + max(small, built),
        free=None if snapshot.disk_free_mib is None else snapshot.disk_free_mib * _MIB,
    )


def expected(
    deployment: Deployment, snapshot: HostSnapshot, catalog: Catalog, *, in_store: Callable[[str], bool]
) -> Sizes:
    """Give what is known before anything is locked: the weights, as large as the catalog says, if any.

    Weights that the catalog knows by digest and that were fetched already count as nothing to fetch.
    """
    row = catalog.llms.get(deployment.llm)
    quant = next((one for one in row.quants if one.quant == deployment.quant), None) if row else None
    weights = quant.weights_bytes if quant and deployment.runtime_url is None else 0
    there = quant is not None and all(one.sha256 and in_store(one.sha256) for one in quant.files)
    return Sizes(
        host=deployment.host,
        fetch=0 if there else weights,
        carry=weights,
        place=weights,
        peak=weights,
        free=None if snapshot.disk_free_mib is None else snapshot.disk_free_mib * _MIB,
    )


def readable(count: float) -> str:
    """Give bytes for a person: MiB up to a GiB, then GiB with one decimal."""
    return f"{count / _MIB:.0f} MiB" if count < 1 << 30 else f"{count / (1 << 30):.1f} GiB"


def _parts(top: Artefact, lock: Lock) -> tuple[Artefact, ...]:
    known = lock.by_id()
    if top.kind == "image":  # of an image what was built of its packages is carried
        return tuple(known[name] for name in top.parts if known[name].kind == "file")
    return tuple(known[name] for name in top.parts) or (top,)


def _fetched(artefacts: Iterable[Artefact]) -> tuple[Artefact, ...]:
    """Give those that come from a registry; built trees are made of them."""
    kinds = {"deb", "wheel", "npm", "file", "binary"}
    return tuple(one for one in artefacts if one.kind in kinds and one.digest and not one.source.startswith("built:"))


def _size(one: Artefact) -> int:
    return one.bytes or 0


def _sum(artefacts: Iterable[Artefact]) -> int:
    return sum(_size(one) for one in artefacts)
