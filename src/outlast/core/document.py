"""A tool's object as a row: its key, when it was last changed, and the document itself, as its vendor sent it.

The key of what belongs to something begins with that one's key and a slash (`10001/555` is a comment of issue 10001):
so children stand together, in the order of their parents. The document is JSON with its members sorted, so that an
answer in which only their order differs is no change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from outlast.core import row
from outlast.core.row import KeyKind
from outlast.core.table import Column, Ownership, OwnershipKind, Table, TableName

COLUMNS = (
    Column("key", "text", not_null=True),
    Column("updated_at", "timestamp with time zone"),
    Column("document", "jsonb", not_null=True),
)
COLUMN_NAMES = tuple(column.name for column in COLUMNS)
SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a tool. `table` is named by vendor and resource (`jira.issues`); `tenant` is the site's key."""

    source: str
    tenant: str
    table: str
    key: str
    updated_at: datetime | None
    document: dict[str, Any]

    @property
    def parent(self) -> str | None:
        """The key of what it belongs to, in whichever table that is."""
        return self.key.rpartition(SEPARATOR)[0] or None


def document_table(name: TableName) -> Table:
    """A table of documents."""
    return Table(name, COLUMNS, ("key",), (KeyKind.TEXT,), Ownership(OwnershipKind.OWNED))


def encode_row(key: str, updated_at: datetime | None, document: dict[str, Any]) -> bytes:
    """The row, without its newline."""
    changed = row.NULL if updated_at is None else stamp(updated_at).encode("ascii")
    return b"\t".join((row.escape(key.encode()), changed, row.escape(encode_json(document))))


def encode_json(document: dict[str, Any]) -> bytes:
    """JSON with sorted members. Half of a surrogate pair, which is no UTF-8, stays escaped as it came."""
    try:
        return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode("ascii")


def decode_row(line: bytes, *, source: str, tenant: str, table: str) -> Document:
    """The document that a row stands for. Raises ValueError where it is none."""
    key, changed, document = (row.value(field) for field in row.fields(line))
    if key is None or document is None:
        raise ValueError("a document's row has no key or no document")
    at = None if changed is None else datetime.fromisoformat(changed)
    return Document(source, tenant, table, key, at, json.loads(document))


def stamp(time: datetime) -> str:
    """A time as PostgreSQL writes it (DateStyle ISO, UTC): without the zeros at a fraction's end."""
    text = f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".")
    return text + "+00"
