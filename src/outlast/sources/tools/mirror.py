"""The mirror: what was fetched so far from one tool, on this host, between the vendor's pages and the vault's chunks.

Like all local state it is disposable and encrypted under the host key: names are keyed, values sealed. Without it the
next backup fetches everything once more. A page and the place up to which it leads are written in one transaction, so
whatever kills a fetch, the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import zstandard
from cryptography.exceptions import InvalidTag

from outlast import disk
from outlast.core.errors import OutlastError

_VERSION = 1
_SCHEMA = """
CREATE TABLE document (
  place INTEGER PRIMARY KEY, resource TEXT NOT NULL, name BLOB NOT NULL UNIQUE, parent BLOB, label BLOB NOT NULL,
  digest BLOB NOT NULL, row BLOB NOT NULL, round INTEGER NOT NULL
);
CREATE INDEX document_by_resource ON document (resource, round);
CREATE INDEX document_by_parent ON document (parent) WHERE parent IS NOT NULL;
CREATE TABLE todo (resource TEXT NOT NULL, name BLOB NOT NULL, PRIMARY KEY (resource, name)) WITHOUT ROWID;
CREATE INDEX todo_by_name ON todo (name);
CREATE TABLE version (resource TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID
"""


class Sealer(Protocol):
    """The host key."""

    def seal(self, plaintext: bytes, context: bytes) -> bytes: ...
    def open(self, sealed: bytes, context: bytes) -> bytes: ...
    def name(self, name: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A document that is to be kept. `row` is a whole row (core/document.py); `stamp` its time as it was listed."""

    key: str
    row: bytes
    stamp: str = ""
    parent: tuple[str, str] | None = None  # resource and key


@dataclass(frozen=True, slots=True)
class Seen:
    """The time as it was listed when a document was kept, and the round in which it was seen last."""

    stamp: str
    round: int


class Mirror:
    """One source's documents and notes. One process at a time (the writer's lock sees to that)."""

    def __init__(self, path: Path, sealer: Sealer) -> None:
        self.path = path
        self._sealer = sealer
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            if self._connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                self._begin_anew()
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error
        if not self._is_ours():
            self._begin_anew()
            self.put_note("id", {"id": secrets.token_hex(8)})

    def _is_ours(self) -> bool:
        """Whether it was written under this host key: under another one it is of no use."""
        try:
            return bool(self.note("id"))
        except InvalidTag:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def _begin_anew(self) -> None:
        query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        tables = self._connection.execute(query).fetchall()
        for (name,) in tables:
            self._connection.execute(f'DROP TABLE "{name}"')
        for statement in _SCHEMA.split(";\n"):
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _unusable(self, error: Exception) -> OutlastError:
        what, hint = disk.told(
            self.path, error, "It can be removed: the next backup fetches everything again and makes it anew."
        )
        return OutlastError(f"cannot use {self.path}: {what}", hint=hint, code="state")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is written inside stands together, or not at all."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    # Notes

    def note(self, name: str) -> dict[str, Any]:
        """What was noted under a name; empty where nothing was, or where it was sealed under another host key."""
        row = self._connection.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        if row is None:
            return {}
        found: dict[str, Any] = json.loads(self._open(row[0]))
        return found

    def put_note(self, name: str, value: Mapping[str, Any]) -> None:
        sealed = self._seal(json.dumps(value).encode())
        self._connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, sealed))

    # Documents

    def put(self, resource: str, entries: Iterable[Entry], round_: int) -> list[str]:
        """Keep documents. Returns the keys of those that are new or not as they were."""
        changed: list[str] = []
        for entry in entries:
            name = self._name(resource, entry.key)
            digest = hashlib.blake2b(entry.row, digest_size=16).digest()
            found = self._connection.execute("SELECT place, digest FROM document WHERE name = ?", (name,)).fetchone()
            if found is not None and found[1] == digest:
                self._connection.execute("UPDATE document SET round = ? WHERE place = ?", (round_, found[0]))
                continue
            label = self._seal(json.dumps([entry.key, entry.stamp]).encode())
            parent = None if entry.parent is None else self._name(*entry.parent)
            self._connection.execute(
                "INSERT OR REPLACE INTO document (resource, name, parent, label, digest, row, round)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (resource, name, parent, label, digest, self._seal(entry.row), round_),
            )
            changed.append(entry.key)
        if changed:
            self._bump(resource)
        return changed

    def touch(self, resource: str, key: str, round_: int) -> None:
        """It is still there."""
        self._connection.execute("UPDATE document SET round = ? WHERE name = ?", (round_, self._name(resource, key)))

    def seen(self, resource: str, key: str) -> Seen | None:
        """As what a document was seen last; None for what is not known."""
        row = self._connection.execute(
            "SELECT label, round FROM document WHERE name = ?", (self._name(resource, key),)
        ).fetchone()
        return None if row is None else Seen(json.loads(self._open(row[0]))[1], row[1])

    def row(self, resource: str, key: str) -> bytes | None:
        found = self._connection.execute(
            "SELECT row FROM document WHERE name = ?", (self._name(resource, key),)
        ).fetchone()
        return None if found is None else self._open(found[0])

    def missing(self, resource: str, round_: int, parent: tuple[str, str] | None = None) -> list[str]:
        """Keys of a resource (of one parent) that were not seen in this round."""
        query, values = "SELECT label FROM document WHERE resource = ? AND round <> ?", [resource, round_]
        if parent is not None:
            query, values = query + " AND parent = ?", [*values, self._name(*parent)]
        return [json.loads(self._open(label))[0] for (label,) in self._connection.execute(query, values)]

    def remove(self, resource: str, keys: Iterable[str]) -> None:
        """Forget documents, and whatever belongs to them."""
        for key in keys:
            names = [self._name(resource, key)]
            while names:
                name = names.pop()
                row = self._connection.execute("SELECT resource FROM document WHERE name = ?", (name,)).fetchone()
                if row is not None:
                    self._bump(row[0])
                self._connection.execute("DELETE FROM document WHERE name = ?", (name,))
                below = self._connection.execute("SELECT name FROM document WHERE parent = ?", (name,)).fetchall()
                self._connection.execute("DELETE FROM todo WHERE name = ?", (name,))
                names += [one for (one,) in below]

    def clear(self, resource: str) -> None:
        """Forget a whole resource: it is no longer asked for."""
        self.remove(resource, [key for key, _ in self.keys(resource)])
        self._connection.execute("DELETE FROM todo WHERE resource = ?", (resource,))

    def count(self, resource: str) -> int:
        found = self._connection.execute("SELECT count(*) FROM document WHERE resource = ?", (resource,)).fetchone()
        return int(found[0])

    def version(self, resource: str) -> int:
        """A number that changes whenever a document of the resource does."""
        row = self._connection.execute("SELECT number FROM version WHERE resource = ?", (resource,)).fetchone()
        return 0 if row is None else int(row[0])

    def keys(self, resource: str) -> list[tuple[str, int]]:
        """Every key and its place, in the order of keys' bytes."""
        found = self._connection.execute("SELECT label, place FROM document WHERE resource = ?", (resource,))
        keys = [(json.loads(self._open(label))[0], place) for label, place in found]
        return sorted(keys, key=lambda one: one[0].encode())

    def at(self, place: int) -> bytes:
        (row,) = self._connection.execute("SELECT row FROM document WHERE place = ?", (place,)).fetchone()
        return self._open(row)

    # What is still to be fetched

    def add_todo(self, resource: str, of: str, keys: Iterable[str]) -> None:
        """The children `resource` of these documents of `of` are to be fetched."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO todo VALUES (?, ?)", [(resource, self._name(of, key)) for key in keys]
        )

    def todo_all(self, resource: str, of: str) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO todo SELECT ?, name FROM document WHERE resource = ?", (resource, of)
        )

    def next_todo(self, resource: str, count: int) -> list[tuple[bytes, str, bytes]]:
        """Some parents whose children are to be fetched: name, key, row."""
        found = self._connection.execute(
            "SELECT todo.name, document.label, document.row FROM todo JOIN document ON document.name = todo.name"
            " WHERE todo.resource = ? LIMIT ?",
            (resource, count),
        ).fetchall()
        return [(name, json.loads(self._open(label))[0], self._open(row)) for name, label, row in found]

    def todo_count(self, resource: str) -> int:
        found = self._connection.execute("SELECT count(*) FROM todo WHERE resource = ?", (resource,)).fetchone()
        return int(found[0])

    def done(self, resource: str, name: bytes) -> None:
        self._connection.execute("DELETE FROM todo WHERE resource = ? AND name = ?", (resource, name))

    # Within

    def _bump(self, resource: str) -> None:
        self._connection.execute(
            "INSERT INTO version VALUES (?, 1) ON CONFLICT (resource) DO UPDATE SET number = number + 1", (resource,)
        )

    def _name(self, resource: str, key: str) -> bytes:
        return self._sealer.name(f"{resource}\0{key}")

    def _seal(self, plaintext: bytes) -> bytes:
        return self._sealer.seal(self._compressor.compress(plaintext), b"mirror")

    def _open(self, sealed: bytes) -> bytes:
        return self._decompressor.decompress(self._sealer.open(sealed, b"mirror"))
