"""A pack's bytes out of the store: whole, in its parts, and what they decompress to. Wrong bytes are an error."""

from __future__ import annotations

import hashlib

import zstandard

from outlast.core.errors import CorruptionError
from outlast.vault.manifest import Head
from outlast.vault.pack import TRAILER_BYTES, parse_trailer
from outlast.vault.store import Store
from outlast.vault.zstd import read_frames


def get_pack(store: Store, path: str) -> bytes:
    """A whole pack whose bytes are the ones that it is named after. Raises CorruptionError."""
    data = store.get(path)
    if hashlib.sha256(data).hexdigest() != path.rpartition("/")[2]:
        raise CorruptionError(
            f"the bytes of {path} are not those that were written",
            hint="`outlast verify` lists all damage; a copy or an older version of the object may still be whole.",
            code="changed-bytes",
        )
    return data


def split_pack(pack: bytes, head: Head, path: str) -> tuple[bytes, bytes]:
    """The sealed manifest that `head` points to in a pack's bytes, and its signature. Raises CorruptionError."""
    trailer = parse_trailer(pack[-TRAILER_BYTES:], len(pack), path)
    if (trailer.manifest_offset, trailer.manifest_length) != (head.offset, head.length):
        raise CorruptionError(f"{path} has its manifest elsewhere than the run record says", code="trailer")
    end = head.offset + head.length
    return pack[head.offset : end], pack[end:-TRAILER_BYTES]


def decompress(data: bytes, what: str, size_bytes_max: int = -1) -> bytes:
    """What concatenated zstd frames hold, or its beginning: anyone can seal to a public key, so a box may be a bomb."""
    try:
        return read_frames(data, size_bytes_max)
    except zstandard.ZstdError as error:
        raise CorruptionError(f"{what} cannot be decompressed", code="zstd") from error
