"""The index of words in the local copy (SQLite's FTS5), written beside the documents by `filling.py`.

A document's number grows with the time of its last change, so that the newest that have a word are read first and no
others at all. The index takes numbers in their order only (any other makes it write itself out each time): what comes
and goes while a copy is filled is noted, and settled at the end.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime

import zstandard

from outlast.library.words import text_of, title_of

SCHEMA = """
CREATE VIRTUAL TABLE words USING fts5 (
  title, body, content = '', detail = column, prefix = '2 4', tokenize = 'unicode61 remove_diacritics 2'
);
"""

GONE = 0
"""The collection of documents that go: none is called so, and nobody reads it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_IN_A_SECOND = 1 << 16


class WordIndex:
    """The words of the documents that one filling adds and removes. Inside its transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._decompressor = zstandard.ZstdDecompressor()
        connection.execute("PRAGMA temp_store = MEMORY")  # what was read must be in no temporary file
        for table in ("fresh", "gone"):
            connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY)")

    def number(self, changed: datetime | None) -> int:
        """A free number for a document that was changed then: higher than those of the seconds before."""
        second = 0 if changed is None else max(0, int((changed - _EPOCH).total_seconds()))
        while True:
            first = second * _IN_A_SECOND
            query = "SELECT max(id) FROM document WHERE id >= ? AND id < ?"
            (last,) = self._connection.execute(query, (first, first + _IN_A_SECOND)).fetchone()
            if last is None:
                return first or 1
            if last + 1 < first + _IN_A_SECOND:
                return int(last) + 1
            second += 1  # more than that in one second: an import

    def add(self, number: int) -> None:
        """The document of this number is new."""
        self._connection.execute("INSERT INTO fresh VALUES (?)", (number,))

    def remove(self, number: int) -> None:
        """The document of this number goes: at once for readers, out of the index when things are settled."""
        self._connection.execute("INSERT INTO gone VALUES (?)", (number,))
        self._connection.execute("UPDATE document SET collection = ?, key = id WHERE id = ?", (GONE, number))

    def settle(self) -> None:
        """Take out what went and put in what came."""
        # An index without content is told what to take out.
        remove = "INSERT INTO words (words, rowid, title, body) VALUES ('delete', ?, ?, ?)"
        self._write(remove, "SELECT document.id, body FROM gone CROSS JOIN document USING (id) ORDER BY gone.id")
        self._connection.execute("DELETE FROM document WHERE collection = ?", (GONE,))
        insert = "INSERT INTO words (rowid, title, body) VALUES (?, ?, ?)"
        self._write(insert, "SELECT document.id, body FROM fresh CROSS JOIN document USING (id) ORDER BY fresh.id")
        self._connection.execute("DELETE FROM gone")
        self._connection.execute("DELETE FROM fresh")

    def _write(self, statement: str, documents: str) -> None:
        for number, body in self._connection.execute(documents):
            document = json.loads(self._decompressor.decompress(body))
            self._connection.execute(statement, (number, title_of(document), text_of(document)))
