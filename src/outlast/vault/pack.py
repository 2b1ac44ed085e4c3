"""A pack: boxes of one tenant's backup laid end to end, then the manifest, its signature, a trailer that finds them.

A pack is named by the SHA-256 of its bytes, so that anyone can scrub a vault without any key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from outlast.core.errors import CorruptionError, VaultError

TRAILER_BYTES = 64
_MAGIC = "OUTLAST1"


@dataclass(frozen=True, slots=True)
class Trailer:
    """Where a pack's manifest stands. A pack of a large tenant's data may have none: both lengths are then 0."""

    manifest_offset: int
    manifest_length: int
    signature_length: int

    def to_bytes(self) -> bytes:
        text = f"{_MAGIC} {self.manifest_offset} {self.manifest_length} {self.signature_length}"
        return text.ljust(TRAILER_BYTES - 1).encode("ascii") + b"\n"


def parse_trailer(data: bytes, size_bytes: int, what: str) -> Trailer:
    """Read the last TRAILER_BYTES of a pack of `size_bytes`. Raises CorruptionError, VaultError for a newer format."""
    fields = data.decode("ascii", "replace").split()
    if fields and fields[0].startswith("OUTLAST") and fields[0] != _MAGIC:
        raise VaultError(f"{what} is of a newer format than this Outlast reads", hint="Upgrade Outlast.", code="format")
    try:
        magic, offset, length, signature = fields
        trailer = Trailer(int(offset), int(length), int(signature))
    except ValueError:
        raise CorruptionError(f"{what} does not end in a trailer: it was cut or changed", code="trailer") from None
    end = trailer.manifest_offset + trailer.manifest_length + trailer.signature_length + TRAILER_BYTES
    if magic != _MAGIC or trailer.to_bytes() != data or end != size_bytes:
        raise CorruptionError(f"{what} has a trailer that does not fit it: it was changed", code="trailer")
    return trailer


class PackBuilder:
    """Lays boxes end to end, in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def add_box(self, sealed: bytes) -> int:
        """Returns where the box begins."""
        offset = self.size
        self._parts.append(sealed)
        self.size += len(sealed)
        return offset

    def finish(self, manifest: bytes | None, signature: bytes | None) -> tuple[str, bytes]:
        """The pack's name and bytes. `manifest` is sealed; `signature` is over those bytes."""
        trailer = Trailer(self.size, len(manifest or b""), len(signature or b""))
        data = b"".join([*self._parts, manifest or b"", signature or b"", trailer.to_bytes()])
        return hashlib.sha256(data).hexdigest(), data


def pack_path(source: str, prefix: str, name: str) -> str:
    return f"{source}/{prefix}/packs/{name}"
