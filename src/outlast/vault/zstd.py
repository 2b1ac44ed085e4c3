"""zstd contexts that are kept, one a thread: making one takes longer than what most tenants' rows take to compress."""

from __future__ import annotations

import threading

import zstandard

LEVEL = 1


class _Contexts(threading.local):
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress(data: bytes) -> bytes:
    """One frame, at the level at which everything of a tenant is compressed."""
    return _contexts.compressor.compress(data)


def read_frames(data: bytes, size_bytes_max: int = -1) -> bytes:
    """What concatenated frames hold, or its beginning. Raises zstandard.ZstdError."""
    with _contexts.decompressor.stream_reader(data, read_across_frames=True) as reader:
        return reader.read(size_bytes_max)
