"""Carry parts of artefacts from the control machine's store to a host: small ones in one archive, large ones singly."""

from __future__ import annotations

import hashlib
import os
import secrets
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

#: Parts larger than this are carried as they are, so that the control machine needs no second copy of them.
LARGE_BYTES = 64 * 1024 * 1024
#: A file is carried in pieces of this size; how far it is gets told after each.
PIECE_BYTES = 16 * 1024 * 1024
#: Names a file of the control machine into which it is told how many bytes were carried, and of how many.
TOLD = "AGENTRIG_CARRIED"


class ActionModule(ActionBase):
    """Takes ``digests``, the store's root ``store`` and the host's folder ``staging``."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("digests", "store", "staging"))

    def run(self, tmp=None, task_vars=None):
        """Carry what is asked for; in check mode only say so."""
        result = super().run(tmp, task_vars)
        digests, staging = self._task.args["digests"], PurePosixPath(self._task.args["staging"])
        blobs = {digest: Path(self._task.args["store"], "sha256", digest[:2], digest) for digest in digests}
        for digest, blob in blobs.items():
            if not blob.is_file():
                raise AnsibleActionFail(f"the store has lost sha256:{digest}; deploy lock fetches it again")
            if _sha256(blob) != digest:
                if not self._task.check_mode:
                    blob.unlink()
                raise AnsibleActionFail(f"{blob} was damaged and has been removed; run it again: it is fetched anew")
        sizes = {digest: blob.stat().st_size for digest, blob in blobs.items()}
        result |= {"changed": bool(digests), "changes": [f"carry {len(digests)} parts, {sum(sizes.values())} bytes"]}
        if self._task.check_mode:
            return result
        self._carried, self._all = 0, sum(sizes.values())
        # What a run that was cut off had still to send comes when the link is back: it must not meet this one's files.
        self._command(f"rm -f {staging}/*.part")
        small = {digest: blob for digest, blob in blobs.items() if sizes[digest] <= LARGE_BYTES}
        for digest in digests:
            if digest not in small:
                self._put(blobs[digest], staging / digest)
        if small:
            self._put_archive(small, staging)
        return result

    def _put(self, blob, staged):
        """Carry one file; it has its name only when all of it is there. What a failure leaves of it is removed."""
        beside = f"{staged}.{secrets.token_hex(8)}.part"
        self._command(f": > {beside}")
        try:
            with blob.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    self._command(f"cat >> {beside} || {{ cat > /dev/null; exit 1; }}", piece)
                    self._tell(len(piece))
        except AnsibleActionFail:
            self._command(f"rm -f {beside}")
            raise
        self._command(f"mv {beside} {staged}")

    def _tell(self, count):
        """Tell how far it is, where somebody wants to know."""
        self._carried = min(self._carried + count, self._all)
        if path := os.environ.get(TOLD):
            Path(path).write_text(f"{self._carried} {self._all}\n", encoding="ascii")

    def _put_archive(self, blobs, staging):
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=constants.DEFAULT_LOCAL_TMP) as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for digest, blob in blobs.items():
                    archive.add(blob, arcname=digest, filter=_plain)
            file.flush()
            carried = staging / f"parts-{secrets.token_hex(8)}.tar"
            self._put(Path(file.name), carried)
        unpack = f"tar -xf {carried} -C {staging} --no-same-owner"
        self._command(f"{unpack} && rm -f {carried} || {{ rm -f {carried}; exit 1; }}")

    def _command(self, line, feed=None):
        done = self._low_level_execute_command(line, sudoable=False, in_data=feed)
        if done["rc"]:
            raise AnsibleActionFail(f"{line.split()[0]} on the host: {done['stderr'].strip() or done['rc']}")


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(member):
    """Leave the control machine's owners and modes behind."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member
