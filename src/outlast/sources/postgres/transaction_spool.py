"""Where changes of large transactions wait for their COMMIT: on disk, in a file without a name, encrypted.

The key lives in this process's memory, so the file is worth nothing to anybody else and is gone with the process,
however that ends. Space is handed out in slabs and used again, because transactions end in any order; when nothing
waits any more, the file is emptied. What the bytes mean is left to the caller.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path
from typing import NamedTuple, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outlast.core.errors import OutlastError

SLAB_BYTES = 64 * 1024
_NONCE_BYTES = 12


class Extent(NamedTuple):
    """Where some bytes were put."""

    slabs: tuple[int, ...]
    length: int


class TransactionSpool:
    """Put, get, free. Not thread-safe. The file is made with the first `put`, and closed by the end of the block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None
        self._aead = AESGCM(AESGCM.generate_key(256))
        self._free: list[int] = []
        self._slabs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def size_bytes(self) -> int:
        """What is in use."""
        return (self._slabs - len(self._free)) * SLAB_BYTES

    def put(self, plaintext: bytes) -> Extent:
        """Encrypt and keep. Raises OutlastError (disk-full) where there is no room."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = memoryview(nonce + self._aead.encrypt(nonce, plaintext, None))
        slabs = tuple([self._slab() for _ in range(0, len(sealed), SLAB_BYTES)])
        try:
            for number, slab in enumerate(slabs):
                self._write(sealed[number * SLAB_BYTES : (number + 1) * SLAB_BYTES], slab * SLAB_BYTES)
        except OSError as error:
            raise OutlastError(
                f"cannot keep a large transaction under {self._directory} until it commits: {error.strerror}",
                hint="Free some space there, or name another folder under [keys] dir in outlast.toml. Nothing is lost: "
                "the server sends again what was not confirmed.",
                code="disk-full",
            ) from error
        return Extent(slabs, len(sealed))

    def get(self, extent: Extent) -> bytes:
        file = self._open()
        parts = [os.pread(file, SLAB_BYTES, slab * SLAB_BYTES) for slab in extent.slabs]
        sealed = b"".join(parts)[: extent.length]
        return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)

    def free(self, extent: Extent) -> None:
        self._free += extent.slabs
        if len(self._free) == self._slabs and self._file is not None:
            os.ftruncate(self._file, 0)
            self._free.clear()
            self._slabs = 0

    def _slab(self) -> int:
        if self._free:
            return self._free.pop()
        self._slabs += 1
        return self._slabs - 1

    def _open(self) -> int:
        if self._file is None:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
                    self._file = os.dup(file.fileno())
            except OSError as error:
                raise OutlastError(
                    f"cannot make a file under {self._directory}: {error.strerror}",
                    hint="Large transactions wait there for their commit. Name another folder under [keys] dir.",
                ) from error
        return self._file

    def _write(self, data: memoryview, offset: int) -> None:
        file = self._open()
        while data:
            written = os.pwrite(file, data, offset)
            data = data[written:]
            offset += written
