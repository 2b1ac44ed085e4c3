"""Filling the local copy from the vault: of a newer run only the chunks that the copy does not know are read.

One transaction a source: a reader sees one run or the next, and whatever interrupts it leaves the run before.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import zstandard

from outlast import disk
from outlast.core.document import COLUMN_NAMES, Document, decode_row, encode_json
from outlast.core.errors import OutlastError
from outlast.library import index
from outlast.library.index import WordIndex
from outlast.vault.manifest import ChunkRef, Manifest, TableManifest
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.run import RunRecord

VERSION = 2
"""Of the file, and of what is taken for words: a file of another version is filled anew."""

_SCHEMA = """
CREATE TABLE source (
  name TEXT PRIMARY KEY, tenant TEXT NOT NULL, label TEXT, run INTEGER NOT NULL, moment TEXT NOT NULL
);
CREATE TABLE collection (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (source, name)
);
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (collection, digest)
);
CREATE TABLE document (
  id INTEGER PRIMARY KEY, collection INTEGER NOT NULL, key TEXT NOT NULL, updated_at TEXT,
  chunk INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL, UNIQUE (collection, key)
);
CREATE INDEX document_by_chunk ON document (chunk);
"""


@dataclass(frozen=True, slots=True)
class Filled:
    """What a refresh did: documents written (new or changed) and removed."""

    run: int
    written: int
    removed: int


def fill(path: Path, vault: Vault, source: str) -> Filled | None:
    """Bring the copy at `path` to the newest run of a source of documents. None where there was nothing to do.

    The file is made where there is none, readable by its owner only. Needs a vault that was opened with an identity.
    """
    run = vault.resolve(source)
    with closing(_open(path)) as connection:
        known = connection.execute("SELECT run, tenant FROM source WHERE name = ?", (source,)).fetchone()
        entries = vault.tenants(source, run.run)
        if known is not None and known[0] == run.run and entries:
            return None
        try:
            words = WordIndex(connection)
            connection.execute("BEGIN IMMEDIATE")
            filling = _Filling(connection, vault, source, run, words)
            filled = filling.fill(entries)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise OutlastError(
                f"cannot fill the local copy {path}: {error}",
                hint="Free some space there, or remove the file: it is filled again from the vault.",
                code="copy",
            ) from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return filled


def forget(path: Path, source: str) -> None:
    """Take a source out of the copy: it was erased, or is no longer configured."""
    if not path.is_file():
        return
    with closing(_open(path)) as connection:
        words = WordIndex(connection)
        connection.execute("BEGIN IMMEDIATE")
        for (collection,) in connection.execute("SELECT id FROM collection WHERE source = ?", (source,)).fetchall():
            writer = _Collection(connection, collection, words)
            writer.remove_chunks(set(writer.chunks().values()))
            connection.execute("DELETE FROM collection WHERE id = ?", (collection,))
        words.settle()
        connection.execute("DELETE FROM source WHERE name = ?", (source,))
        connection.execute("COMMIT")


def is_current(path: Path, vault: Vault, source: str) -> bool:
    """Whether the copy has the newest run. Reads the vault's list of runs only."""
    numbers = vault.numbers(source)
    if not path.is_file() or not numbers:
        return not numbers
    with closing(_open(path)) as connection:
        row = connection.execute("SELECT run FROM source WHERE name = ?", (source,)).fetchone()
        return row is not None and row[0] == numbers[-1]


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with suppress(FileExistsError):  # before SQLite, which would go by the umask; see state.database
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            _begin_anew(connection)
    except (sqlite3.Error, OSError) as error:
        what, hint = disk.told(path, error, "Remove it: it is filled again from the vault.")
        raise OutlastError(f"cannot use the local copy {path}: {what}", hint=hint, code="copy") from error
    return connection


def _begin_anew(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    for kind, name in connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        " AND name NOT LIKE 'words_%'"
    ).fetchall():
        connection.execute(f'DROP {kind} "{name}"')
    for statement in (_SCHEMA + index.SCHEMA).split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


class _Filling:
    """One source, brought to one run."""

    def __init__(
        self, connection: sqlite3.Connection, vault: Vault, source: str, run: RunRecord, words: WordIndex
    ) -> None:
        self._connection = connection
        self._vault = vault
        self._source = source
        self._run = run
        self._words = words
        self._written = self._removed = 0

    def fill(self, entries: list[TenantEntry]) -> Filled:
        present: set[str] = set()
        for entry in entries:
            manifest = self._vault.manifest(self._source, entry)
            tables = _document_tables(manifest)
            present |= tables.keys()
            for name, table in tables.items():
                self._fill_table(entry, name, table)
            self._connection.execute(
                "INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?)",
                (self._source, entry.tenant.key, entry.tenant.label, self._run.run, self._run.moment.time.isoformat()),
            )
        for name, collection in self._collections():
            if name not in present:
                self._remove_all(collection)
        self._words.settle()
        if not entries:  # erased: nothing of it may be left here either
            self._connection.execute("DELETE FROM source WHERE name = ?", (self._source,))
        return Filled(self._run.run, self._written, self._removed)

    def _collections(self) -> list[tuple[str, int]]:
        query = "SELECT name, id FROM collection WHERE source = ?"
        return self._connection.execute(query, (self._source,)).fetchall()

    def _remove_all(self, collection: int) -> None:
        writer = _Collection(self._connection, collection, self._words)
        self._removed += writer.remove_chunks(set(writer.chunks().values()))

    def _fill_table(self, entry: TenantEntry, name: str, table: TableManifest) -> None:
        self._connection.execute("INSERT OR IGNORE INTO collection (source, name) VALUES (?, ?)", (self._source, name))
        query = "SELECT id FROM collection WHERE source = ? AND name = ?"
        collection = self._connection.execute(query, (self._source, name)).fetchone()[0]
        writer = _Collection(self._connection, collection, self._words)
        before = writer.chunks()
        wanted = [ref for ref in table.chunks if ref.digest not in before]
        for ref, data in self._vault.chunks(self._source, entry, table, wanted):
            self._written += writer.take(ref, _documents(data, self._source, entry, name))
        now = {ref.digest for ref in table.chunks}
        self._removed += writer.remove_chunks({number for digest, number in before.items() if digest not in now})


class _Collection:
    """One table of documents in the copy."""

    def __init__(self, connection: sqlite3.Connection, number: int, words: WordIndex) -> None:
        self._connection = connection
        self._number = number
        self._words = words
        self._compressor = zstandard.ZstdCompressor(level=1)

    def chunks(self) -> Mapping[bytes, int]:
        query = "SELECT digest, id FROM chunk WHERE collection = ?"
        return dict(self._connection.execute(query, (self._number,)).fetchall())

    def take(self, ref: ChunkRef, documents: Iterator[tuple[bytes, Document]]) -> int:
        """Keep a chunk's documents. Returns how many were not there as they are now."""
        chunk = self._connection.execute(
            "INSERT INTO chunk (collection, digest) VALUES (?, ?)", (self._number, ref.digest)
        ).lastrowid
        written = 0
        for digest, document in documents:
            row = self._connection.execute(
                "SELECT id, digest FROM document WHERE collection = ? AND key = ?", (self._number, document.key)
            ).fetchone()
            if row is not None and row[1] == digest:
                self._connection.execute("UPDATE document SET chunk = ? WHERE id = ?", (chunk, row[0]))
                continue
            if row is not None:
                self._words.remove(row[0])
            self._insert(chunk, digest, document)
            written += 1
        return written

    def remove_chunks(self, numbers: set[int]) -> int:
        """Forget chunks, and the documents that no other chunk has taken over. Returns how many those were."""
        removed = 0
        for number in numbers:
            query = "SELECT id FROM document WHERE chunk = ? AND collection = ?"
            rows = self._connection.execute(query, (number, self._number)).fetchall()
            for (one,) in rows:
                self._words.remove(one)
            removed += len(rows)
            self._connection.execute("DELETE FROM chunk WHERE id = ?", (number,))
        return removed

    def _insert(self, chunk: int | None, digest: bytes, found: Document) -> None:
        number, body = self._words.number(found.updated_at), self._compressor.compress(encode_json(found.document))
        at = None if found.updated_at is None else found.updated_at.isoformat()
        self._connection.execute(
            "INSERT INTO document (id, collection, key, updated_at, chunk, digest, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, self._number, found.key, at, chunk, digest, body),
        )
        self._words.add(number)


def _document_tables(manifest: Manifest) -> dict[str, TableManifest]:
    """The tables that hold documents: all of a tool's, none of a database's."""
    return {
        name: table
        for name, table in manifest.tables.items()
        if tuple(column for column, _ in table.columns) == COLUMN_NAMES
    }


def _documents(data: bytes, source: str, entry: TenantEntry, table: str) -> Iterator[tuple[bytes, Document]]:
    for line in data.split(b"\n")[:-1]:
        digest = hashlib.blake2b(line, digest_size=16).digest()
        yield digest, decode_row(line, source=source, tenant=entry.tenant.key, table=table)
