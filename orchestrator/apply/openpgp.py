"""As much of OpenPGP as a signed apt archive needs: one Ed25519 key, its public half, signatures over plain text.

The signatures are made by the cryptography library; here is only the form that apt reads (RFC 4880, with the EdDSA
keys of RFC 9580, section 3.2: "legacy"). The same key and text give the same bytes. The control machine needs no gpg.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: When keys and signatures say they were made (2026-01-01 00:00 UTC): never in the future of a host whose clock lags.
MADE = 1767225600
_EDDSA = 22
_SHA512 = 10
#: The curve Ed25519 as an object identifier, with its length in front.
_CURVE = bytes.fromhex("092b06010401da470f01")
#: What the key is for: to certify itself, and to sign.
_FLAGS = 0x03
_CERTIFIES, _SIGNS_TEXT = 0x13, 0x01
_PUBLIC_KEY, _USER, _SIGNATURE = 6, 13, 2


class Signer:
    """A key that lies in a file of the control machine, and whose name the archive bears."""

    def __init__(self, key: Ed25519PrivateKey, name: str) -> None:
        self._key, self._name = key, name.encode()

    @classmethod
    def kept_in(cls, file: Path, name: str) -> Signer:
        """Give the signer whose key lies in ``file`` (mode 0600); made at the first asking, once for all who ask."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
                new.write(Ed25519PrivateKey.generate().private_bytes_raw())
                new.flush()
                os.fsync(new.fileno())
            try:
                os.link(beside, file)
            except FileExistsError:
                pass
            finally:
                beside.unlink()
        return cls(Ed25519PrivateKey.from_private_bytes(file.read_bytes()), name)

    def public(self) -> bytes:
        """Give the public key as apt's ``signed-by`` takes it: not armoured."""
        certified = b"\x99" + _counted(self._body(), 2) + b"\xb4" + _counted(self._name, 4)
        return (
            _packet(_PUBLIC_KEY, self._body())
            + _packet(_USER, self._name)
            + _packet(_SIGNATURE, self._signature(_CERTIFIES, certified, bytes((2, 27, _FLAGS))))
        )

    def clearsign(self, text: str) -> str:
        """Give a text with its signature, as ``InRelease`` has them. Blanks at the ends of lines do not count."""
        lines = [line.rstrip(" \t") for line in text.rstrip("\n").split("\n")]
        signature = _packet(_SIGNATURE, self._signature(_SIGNS_TEXT, "\r\n".join(lines).encode()))
        shown = "\n".join(f"- {line}" if line.startswith("-") else line for line in lines)
        return (
            f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{shown}\n"
            f"-----BEGIN PGP SIGNATURE-----\n\n{_armoured(signature)}-----END PGP SIGNATURE-----\n"
        )

    def _body(self) -> bytes:
        """Give the public key's packet without its head (RFC 4880, section 5.5.2)."""
        point = b"\x40" + self._key.public_key().public_bytes_raw()
        return b"\x04" + MADE.to_bytes(4, "big") + bytes((_EDDSA,)) + _CURVE + _number(point)

    def _signature(self, kind: int, signed: bytes, more: bytes = b"") -> bytes:
        """Give a signature's packet without its head (RFC 4880, sections 5.2.3 and 5.2.4)."""
        fingerprint = hashlib.sha1(b"\x99" + _counted(self._body(), 2), usedforsecurity=False).digest()
        hashed = bytes((5, 2)) + MADE.to_bytes(4, "big") + bytes((22, 33, 4)) + fingerprint + more
        head = bytes((4, kind, _EDDSA, _SHA512)) + _counted(hashed, 2)
        digest = hashlib.sha512(signed + head + b"\x04\xff" + len(head).to_bytes(4, "big")).digest()
        made = self._key.sign(digest)
        issuer = bytes((9, 16)) + fingerprint[-8:]
        return head + _counted(issuer, 2) + digest[:2] + _number(made[:32]) + _number(made[32:])


def _counted(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def _number(content: bytes) -> bytes:
    """Give a number with its length in bits in front (RFC 4880, section 3.2)."""
    content = content.lstrip(b"\0")
    return int.from_bytes(content, "big").bit_length().to_bytes(2, "big") + content


def _packet(tag: int, body: bytes) -> bytes:
    """Give a packet with a head of the old form and a length of two bytes (RFC 4880, section 4.2.1)."""
    return bytes((0x80 | tag << 2 | 1,)) + _counted(body, 2)


def _armoured(content: bytes) -> str:
    """Give bytes as lines of base64 with their check sum, which GnuPG cannot do without (RFC 4880, section 6)."""
    encoded = base64.b64encode(content).decode()
    lines = "".join(f"{encoded[start : start + 64]}\n" for start in range(0, len(encoded), 64))
    return f"{lines}={base64.b64encode(_check_sum(content)).decode()}\n"


def _check_sum(content: bytes) -> bytes:
    """Give the CRC-24 of RFC 4880, section 6.1."""
    total = 0xB704CE
    for byte in content:
        total ^= byte << 16
        for _ in range(8):
            total = (total << 1) ^ (0x1864CFB if total & 0x800000 else 0)
    return total.to_bytes(3, "big")
