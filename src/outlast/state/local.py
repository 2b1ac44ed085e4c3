"""This host's own state: what the last backup saw, plans, and the newest run seen.

It can be thrown away at any time: the next backup reads everything again, or rebuilds it from the vault. It holds
tenants' keys and hashes of their rows, so every value and every name is encrypted or keyed under the host key.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Self

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outlast import disk
from outlast.core.errors import OutlastError, Refused, VaultKeyError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
  space TEXT NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, name)
) WITHOUT ROWID
"""
_NONCE_BYTES = 12


class HostKey:
    """The key that this host's state is encrypted under. Made on first use, readable by its owner only."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(hashlib.sha256(b"outlast state encryption" + key).digest())
        self._naming = hashlib.sha256(b"outlast state names" + key).digest()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the key, or make it where there is none."""
        try:
            text = path.read_text(encoding="ascii")
        except FileNotFoundError:
            return cls(_create_key(path))
        except OSError as error:
            raise VaultKeyError(
                f"cannot read the host key {path}: {error.strerror}",
                hint="Run as the user who owns it, or name another folder under [keys] dir in outlast.toml.",
            ) from error
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError as error:
            raise VaultKeyError(
                f"cannot use the host key {path}: it is not one line of hexadecimal digits",
                hint="Put the file back, or remove it and state.sqlite: the next backup reads everything again.",
            ) from error

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plaintext, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)

    def name(self, name: str) -> bytes:
        # Keyed BLAKE2 and not HMAC: OpenSSL takes 30 µs to set one up, and there is one a tenant and backup.
        return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), key=self._naming, digest_size=16).digest()


def _create_key(path: Path) -> bytes:
    key = secrets.token_bytes(32)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise VaultKeyError(
            f"cannot make the host key {path}: {error.strerror}",
            hint="Run as a user who may write there, or name another folder under [keys] dir in outlast.toml.",
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key


class LocalState:
    """An encrypted map (space, name) → bytes in one SQLite file. Each `put_all` is one transaction.

    It is on disk when it returns; with `later` when a session without that has made the next one. Until then it can
    be lost in a power cut, as a whole and after everything before it.
    """

    def __init__(self, directory: Path, *, later: bool = False) -> None:
        self.directory = directory
        self.host_key = HostKey.load(directory / "host.key")
        self._path = directory / "state.sqlite"
        try:
            self._connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {'NORMAL' if later else 'FULL'}")
            self._connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        self._path.chmod(0o600)
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def _unusable(self, error: sqlite3.Error) -> OutlastError:
        what, hint = disk.told(
            self._path, error, "It can be removed: the next backup reads everything again and makes it anew."
        )
        return OutlastError(f"cannot use the local state {self._path}: {what}", hint=hint, code="state")

    def get(self, space: str, name: str) -> bytes | None:
        """The value, or None. Raises where it cannot be opened with this host's key."""
        try:
            row = self._connection.execute(
                "SELECT value FROM entry WHERE space = ? AND name = ?", (space, self.host_key.name(name))
            ).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return None if row is None else self._open(row[0])[1]

    def items(self, space: str) -> Iterator[tuple[str, bytes]]:
        """Every (name, value) of a space, in no particular order, without holding them all."""
        try:
            with closing(self._connection.execute("SELECT value FROM entry WHERE space = ?", (space,))) as rows:
                for (value,) in rows:
                    yield self._open(value)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def put(self, space: str, name: str, value: bytes) -> None:
        self.put_all([(space, name, value)])

    def put_all(self, entries: Iterable[tuple[str, str, bytes]]) -> None:
        """Set many values at once: all of them or none."""
        rows = [(space, self.host_key.name(name), self._seal(name, value)) for space, name, value in entries]
        self._write([("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", rows)])

    def remove_all(self, space: str, names: Iterable[str]) -> None:
        rows = [(space, self.host_key.name(name)) for name in names]
        self._write([("DELETE FROM entry WHERE space = ? AND name = ?", rows)])

    def clear(self, *spaces: str) -> None:
        self._write([("DELETE FROM entry WHERE space = ?", [(space,) for space in spaces])])

    def move(self, source: str, to: str, extra: Iterable[tuple[str, str, bytes]]) -> None:
        """Move every value of one space over into another, then set `extra`. One transaction."""
        rows = [(space, self.host_key.name(name), self._seal(name, value)) for space, name, value in extra]
        moved = "INSERT OR REPLACE INTO entry SELECT ?, name, value FROM entry WHERE space = ?"
        self._write(
            [
                (moved, [(to, source)]),
                ("DELETE FROM entry WHERE space = ?", [(source,)]),
                ("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", rows),
            ]
        )

    def _write(self, statements: Sequence[tuple[str, Sequence[tuple[object, ...]]]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in statements:
                    self._connection.executemany(statement, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _seal(self, name: str, value: bytes) -> bytes:
        encoded = name.encode("utf-8", "surrogateescape")
        body = len(encoded).to_bytes(4, "big") + encoded + value
        return self.host_key.seal(self._compressor.compress(body), b"entry")

    def _open(self, sealed: bytes) -> tuple[str, bytes]:
        try:
            body = self._decompressor.decompress(self.host_key.open(sealed, b"entry"))
        except InvalidTag as error:
            raise VaultKeyError(
                f"cannot open the local state {self._path}: it was written under another host key",
                hint="Put the old host.key back beside it, or remove state.sqlite: the next backup makes it anew.",
            ) from error
        size = int.from_bytes(body[:4], "big")
        return body[4 : 4 + size].decode("utf-8", "surrogateescape"), body[4 + size :]


class WriterLock:
    """One writer a source on this host. The vault's own lock is the run number; this one says so before the work."""

    def __init__(self, directory: Path, source: str) -> None:
        self._path = directory / f"{source}.lock"
        self._source = source
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise Refused(
                f"cannot write source {self._source!r}: process {owner or 'unknown'} on this host is writing it",
                hint="Wait for it to end, or end it; an interrupted backup does no harm.",
                code="locked",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(self, *_: object) -> None:
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None
