"""A spool: sealed bytes that wait on disk until all of a tenant's tables were read.

The file has no name (it is gone with the process, however that ends) and holds ciphertext only: what is not sealed to
a tenant yet is encrypted under a key that lives in this process's memory.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import weakref
from pathlib import Path
from typing import IO, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outlast.core.errors import OutlastError

_NONCE_BYTES = 12
_BUFFER_BYTES_MAX = 4 * 1024 * 1024


class Spool:
    """Append and read back. Not thread-safe: one process, one spool."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._opened: IO[bytes] | None = None
        self._aead = AESGCM(AESGCM.generate_key(256))
        self._buffer = bytearray()
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()

    def closing_itself(self) -> Self:
        """For a spool without a `with`, which lives as long as somebody reads from it: its file goes when it does."""
        return self

    @property
    def _file(self) -> IO[bytes]:
        # Only for what memory does not hold: very many tenants at once would run out of descriptors.
        if self._opened is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._opened = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - closed by __exit__
            weakref.finalize(self, self._opened.close)
        return self._opened

    def append(self, sealed: bytes) -> int:
        """Keep bytes that are ciphertext already. Returns where they stand."""
        offset = self._written + len(self._buffer)
        self._buffer += sealed
        if len(self._buffer) >= _BUFFER_BYTES_MAX:
            self._flush()
        return offset

    def read(self, offset: int, length: int) -> bytes:
        if offset >= self._written:
            within = offset - self._written
            if within + length <= len(self._buffer):
                return bytes(self._buffer[within : within + length])
        if offset + length > self._written:
            self._flush()
        data = os.pread(self._file.fileno(), length, offset)
        if len(data) != length:
            raise OutlastError(f"cannot read back what was spooled under {self._directory}: it ends early")
        return data

    def encrypt(self, plaintext: bytes) -> bytes:
        """Under the spool's own key, which dies with the process."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, None)

    def decrypt(self, sealed: bytes) -> bytes:
        return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)

    def _flush(self) -> None:
        view = memoryview(self._buffer)
        try:
            while view:
                written = os.write(self._file.fileno(), view)
                view = view[written:]
                self._written += written
        except OSError as error:
            raise OutlastError(
                f"cannot spool under {self._directory}: {error.strerror}",
                hint="Free some space there (about a quarter of the data that changed), or name another folder under "
                "[keys] dir in outlast.toml. The vault is as it was.",
                code="disk-full",
            ) from error
        finally:
            view.release()
        self._buffer.clear()
