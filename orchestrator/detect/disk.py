"""What our folder takes of a host's disk, release by release. A command and a pure parse."""

from __future__ import annotations

import re

from orchestrator.releases import DiskUse
from orchestrator.rendered import RELEASES, ROOT, STORE

#: All of it, then each release and each artefact, then which release links to which artefact. Bytes of the disk.
DISK = f"""
test -d {ROOT} || exit 0
du -sx -B1 {ROOT}
for folder in {RELEASES}/* {STORE}/*; do test -d "$folder" && du -sx -B1 "$folder"; done
find {RELEASES} -path '*/artefacts/*' -type l -printf 'link %p %l\\n'
:"""
_SIZE = re.compile(r"^(\d+)\t(\S+)$", re.MULTILINE)
_LINK = re.compile(rf"^link {RELEASES}/([0-9a-f]+)/artefacts/\S+ {STORE}/([0-9a-f]+)$", re.MULTILINE)


def parse_disk(text: str) -> DiskUse | None:
    """Give what our folder takes; None where there is none."""
    sizes = {path: int(size) for size, path in _SIZE.findall(text)}
    if ROOT not in sizes:
        return None
    uses: dict[str, set[str]] = {}
    for release, key in _LINK.findall(text):
        uses.setdefault(release, set()).add(key)

    def below(root: str) -> dict[str, int]:
        return {path.removeprefix(f"{root}/"): size for path, size in sizes.items() if path.startswith(f"{root}/")}

    return DiskUse(
        total=sizes[ROOT],
        releases=below(RELEASES),
        artefacts=below(STORE),
        uses={release: tuple(sorted(keys)) for release, keys in uses.items()},
    )
