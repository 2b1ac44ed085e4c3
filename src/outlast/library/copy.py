"""The local copy: documents in one SQLite file, searchable by words, read with no vendor, vault or source at hand.

It is filled from the vault (`filling.py`) and only read here. It holds what the vault holds *in the clear*: whoever can
read the file can read every ticket in it (docs/THREATS.md). Losing it costs nothing but the time to fill it again.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import zstandard

from outlast import disk
from outlast.core.document import SEPARATOR, Document
from outlast.core.errors import CorruptionError, NotFoundError, UsageError
from outlast.library.words import folded, text_of, title_of

FILE_NAME = "library.sqlite"
"""Its name in the key directory."""

_FETCHED = 200
_RANKED_MAX = 150
"""Of those with only some of the words in their title the newest so many are ranked by how many."""

_TITLE_WORDS_MAX = 5

_SNIPPET_CHARACTERS = 160
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Copied:
    """One source in the copy: which run of it this is, and when that run's reading began."""

    source: str
    tenant: str
    label: str | None
    run: int
    moment: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found, what it is called, and the place in its text."""

    document: Document
    title: str
    snippet: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that belongs to a document. Its content comes from `LocalCopy.content`."""

    source: str
    table: str  # of its description, such as jira.attachments
    key: str
    name: str
    media_type: str
    size_bytes: int | None


class LocalCopy:
    """Read-only. May be used from several threads; each call is short, and sees one run of a source or the next."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._decompressor = zstandard.ZstdDecompressor()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file. Raises NotFoundError where there is none yet."""
        if not path.is_file():
            raise NotFoundError(
                f"there is no local copy yet ({path})",
                hint="Each backup of a tool fills it: outlast backup SOURCE",
                code="no-copy",
            )
        try:
            connection = _connect(path)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        return cls(path, connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # What there is

    def sources(self) -> list[Copied]:
        """The sources in the copy, by name."""
        rows = self._all("SELECT name, tenant, label, run, moment FROM source ORDER BY name")
        return [Copied(name, tenant, label, run, datetime.fromisoformat(at)) for name, tenant, label, run, at in rows]

    def moment(self, source: str) -> datetime | None:
        """As of when the copy has this source; None where it has not."""
        return next((one.moment for one in self.sources() if one.source == source), None)

    def tables(self, source: str | None = None) -> dict[str, int]:
        """Names of tables, each with its number of documents."""
        query = (
            "SELECT collection.name, count(*) FROM document JOIN collection ON collection.id = document.collection"
            " WHERE ? IS NULL OR collection.source = ? GROUP BY collection.name ORDER BY collection.name"
        )
        return dict(self._all(query, (source, source)))

    def sources_with(self, table: str) -> list[str]:
        """The sources that have such a table, by name: `jira.issues` is where tickets are taken."""
        return sorted({source for _, source, _ in self._collections(table, None)})

    # Documents

    def documents(self, table: str, source: str | None = None) -> Iterator[Document]:
        """Every document of a table (`opsgenie.schedules`), in the order of keys, of one source or of all."""
        for collection, name, tenant in self._collections(table, source):
            after = ""
            while rows := self._all(
                "SELECT key, updated_at, body FROM document WHERE collection = ? AND key > ? ORDER BY key LIMIT ?",
                (collection, after, _FETCHED),
            ):
                yield from (self._document(name, tenant, table, row) for row in rows)
                after = rows[-1][0]

    def get(self, source: str, table: str, key: str) -> Document | None:
        """One document, or None."""
        for collection, name, tenant in self._collections(table, source):
            rows = self._all(
                "SELECT key, updated_at, body FROM document WHERE collection = ? AND key = ?", (collection, key)
            )
            return self._document(name, tenant, table, rows[0]) if rows else None
        return None

    def children(self, source: str, table: str, parent: str) -> Iterator[Document]:
        """The documents of a table that belong to `parent` (comments of an issue), in the order of keys."""
        start = parent + SEPARATOR
        for collection, name, tenant in self._collections(table, source):
            rows = self._all(
                "SELECT key, updated_at, body FROM document WHERE collection = ? AND key >= ? AND key < ? ORDER BY key",
                (collection, start, start + _LAST),
            )
            yield from (self._document(name, tenant, table, row) for row in rows)

    def attachments(self, source: str, table: str, parent: str) -> list[Attachment]:
        """The files that belong to a document, by the table of their descriptions (`jira.attachments`)."""
        return [
            Attachment(
                source,
                table,
                found.key,
                _first(found.document, "filename", "title", "name") or found.key.rpartition(SEPARATOR)[2],
                _first(found.document, "mimeType", "mediaType", "contentType") or "application/octet-stream",
                _size(found.document),
            )
            for found in self.children(source, table, parent)
        ]

    def content(self, attachment: Attachment) -> Iterator[bytes]:
        """A file's bytes, part by part; nothing where the content was not kept."""
        table = f"{attachment.table}_content"
        for part in self.children(attachment.source, table, attachment.key):
            yield base64.b64decode(part.document["data"])

    # Search

    def search(self, words: str, limit: int = 20, source: str | None = None) -> list[Hit]:
        """The documents that have all the words; the last word may be the beginning of one.

        Whole words come before beginnings, then those with more of the words in their title, then the newest first.
        Raises UsageError where there is no word in `words`.
        """
        wanted = _WORD.findall(words)
        if not wanted:
            raise UsageError(
                f"there is no word in {words!r}", hint="Write what the document says: outlast search disk full"
            )
        exact = [f'"{word}"' for word in wanted]
        found = self._ranked(exact, wanted, limit, source)
        if len(found) < limit:
            begun = self._ranked([*exact[:-1], exact[-1] + " *"], wanted, limit, source)
            found |= {number: one for number, one in begun.items() if number not in found}
        return [_hit(one, wanted) for one in list(found.values())[:limit]]

    def _ranked(self, asked: list[str], words: list[str], limit: int, source: str | None) -> dict[int, Document]:
        found: dict[int, Document] = {}
        for match in _questions(asked):
            if len(found) < limit:
                found |= self._matching(match, limit, source)
        return dict(sorted(found.items(), key=lambda one: (-_in_title(one[1], words), -one[0])))

    def _matching(self, match: str, limit: int, source: str | None) -> dict[int, Document]:
        """The newest documents that match, by number. Without bm25(), which reads every word's list to its end."""
        rows = self._all(
            "SELECT document.id, document.key, document.updated_at, document.body,"
            " collection.source, source.tenant, collection.name"
            " FROM words CROSS JOIN document ON document.id = words.rowid"
            " CROSS JOIN collection ON collection.id = document.collection"
            " CROSS JOIN source ON source.name = collection.source"
            " WHERE words MATCH ? AND (? IS NULL OR collection.source = ?) ORDER BY words.rowid DESC LIMIT ?",
            (match, source, source, max(limit, _RANKED_MAX)),
        )
        return {number: self._document(name, tenant, table, row) for number, *row, name, tenant, table in rows}

    # Reading

    def _collections(self, table: str, source: str | None) -> list[tuple[int, str, str]]:
        return self._all(
            "SELECT collection.id, source.name, source.tenant FROM collection"
            " JOIN source ON source.name = collection.source"
            " WHERE collection.name = ? AND (? IS NULL OR source.name = ?) ORDER BY source.name",
            (table, source, source),
        )

    def _document(self, source: str, tenant: str, table: str, row: Any) -> Document:
        key, changed, body = row
        at = None if changed is None else datetime.fromisoformat(changed)
        return Document(source, tenant, table, key, at, json.loads(self._decompressor.decompress(body)))

    def _all(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _unusable(self.path, error) from error


def _unusable(path: Path, error: sqlite3.Error) -> CorruptionError:
    what, hint = disk.told(path, error, "Remove it: the next `outlast search` fills it again from the vault.")
    return CorruptionError(f"cannot read the local copy {path}: {what}", hint=hint, code="copy")


def _connect(path: Path) -> sqlite3.Connection:
    """Also where nothing can be written beside it (SQLite shares an index of its log): a full or read-only disk must
    not keep anybody from reading, and then nobody writes into it. What stands in a log is not left out, though."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM source LIMIT 1")
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if disk.trouble(path) is None or (log.exists() and log.stat().st_size):
            raise
        connection = sqlite3.connect(f"{address}&immutable=1", uri=True, check_same_thread=False)
        connection.execute("SELECT 1 FROM source LIMIT 1")
    return connection


def _questions(words: list[str]) -> Iterator[str]:
    """What is asked of the index, the better answers first: all words in the title, some of them, none."""
    everywhere = " ".join(words)
    if len(words) <= _TITLE_WORDS_MAX:  # of more words the next question finds the same
        yield f"title : ({everywhere})"
    if len(words) > 1:
        yield f"title : ({' OR '.join(words)}) AND ({everywhere})"
    yield everywhere


def _in_title(document: Document, words: list[str]) -> int:
    """How many of the words stand in its title; the last may be the beginning of one."""
    *others, last = map(folded, words)
    title = _WORD.findall(folded(title_of(document.document)))
    return sum(word in title for word in others) + any(word.startswith(last) for word in title)


def _hit(document: Document, words: list[str]) -> Hit:
    return Hit(document, title_of(document.document) or document.key, _snippet(text_of(document.document), words))


def _first(document: dict[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := document.get(name), str) and value), None)


def _size(document: dict[str, Any]) -> int | None:
    size = document.get("size", document.get("fileSize"))
    return size if isinstance(size, int) else None


def _snippet(text: str, words: list[str]) -> str:
    """The text around the first of the words, on one line."""
    line = " ".join(text.split())
    low = line.casefold()
    places = [place for word in words if (place := low.find(word.casefold())) >= 0]
    start = max(0, min(places, default=0) - _SNIPPET_CHARACTERS // 3)
    cut = line[start : start + _SNIPPET_CHARACTERS]
    return ("…" if start else "") + cut + ("…" if start + len(cut) < len(line) else "")
