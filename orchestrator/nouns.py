"""What all nouns share: frozen, refusing the unknown, the same bytes for the same value."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Noun(BaseModel):
    """A frozen value that refuses unknown keys and reads and writes JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def document(self) -> dict[str, Any]:
        """Give the value as plain JSON types."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """Write the value: keys in the order of the type, two spaces, a newline at the end."""
        return json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a value that ``to_json`` wrote; raises pydantic's ``ValidationError``."""
        return cls.model_validate_json(text)

    def fingerprint(self) -> str:
        """Give the sha256 of the value's canonical JSON (sorted keys, no blanks), 64 hex digits."""
        return digest_of(self.document())


def digest_of(document: Any) -> str:
    """Give the sha256 of a JSON value's canonical form (sorted keys, no blanks), 64 hex digits."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
