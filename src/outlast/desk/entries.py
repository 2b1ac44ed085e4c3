"""Tickets and comments that were taken here: an append-only journal, each with who wrote it and where it belongs.

What an entry says is never changed. Beside it stands its way back into the recovered tool: that it was tried, and what
it became there.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Connection, Float, Index, MetaData, Row, Table, Text, func, insert, select, update

from outlast.core.errors import UsageError
from outlast.state.database import Schema, adding

TITLE_MAX = 250
TEXT_MAX = 30_000  # Jira's own limit is 32,767, and the mark of where it came from has to fit

metadata = MetaData()
entries = Table(
    "desk_entry",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("by", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),  # the tool's name in outlast.toml; empty: not said
    Column("about", Text, nullable=False),  # a comment's ticket: table and key, or another entry's id
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("taken_at", Float),  # when it went to the tool
    Column("taken_as", Text),  # its key there
    Column("taken_url", Text),  # where people see it there
    Column("seen_at", Float),  # when the tool's document was last changed, as its author read it here
    Column("attempted_at", Float),  # when it was sent to the tool, as long as it is not known to be there
    Column("upstream_at", Float),  # when its document was last changed there, right after we had changed it
    Index("desk_entry_about", "about", "at"),
    Index("desk_entry_at", "at"),
)
SCHEMA = Schema("desk", metadata, (adding(entries, "taken_url", "seen_at", "attempted_at", "upstream_at"),))

TICKET = "ticket"
COMMENT = "comment"
COMMENTED = frozenset({"jira.issues", "opsgenie.alerts", "pagerduty.incidents", "confluence.pages"})
"""The tables whose documents can be written on, so that it goes back."""


@dataclass(frozen=True, slots=True)
class Entry:
    id: str
    at: float
    by: str
    kind: str
    source: str
    about: str
    title: str
    text: str
    taken_at: float | None = None
    taken_as: str | None = None
    taken_url: str | None = None
    seen_at: float | None = None
    attempted_at: float | None = None
    upstream_at: float | None = None


def ticket(by: str, title: str, text: str, source: str = "") -> Entry:
    """A new ticket. Raises UsageError."""
    title = " ".join(title.split())
    if not title or len(title) > TITLE_MAX:
        raise UsageError(f"a ticket's title must have 1 to {TITLE_MAX} characters")
    return Entry(str(uuid.uuid4()), time.time(), by, TICKET, source, "", title, _text(text, needed=False))


def comment(by: str, about: str, text: str, source: str = "", seen_at: datetime | None = None) -> Entry:
    """A comment on a ticket of a tool (`place`) or of ours (its id), which was last changed when it was read here
    (`seen_at`). Raises UsageError."""
    seen = None if seen_at is None else seen_at.timestamp()
    text = _text(text, needed=True)
    return Entry(str(uuid.uuid4()), time.time(), by, COMMENT, source, about, "", text, seen_at=seen)


def place(table: str, key: str) -> str:
    """How a comment names the tool's document that it is about."""
    return f"{table}:{key}"


def _text(text: str, *, needed: bool) -> str:
    text = text.replace("\x00", "").replace("\r\n", "\n").strip()
    if (needed and not text) or len(text) > TEXT_MAX:
        raise UsageError(f"the text must have {1 if needed else 0} to {TEXT_MAX} characters")
    return text


def keep(connection: Connection, entry: Entry) -> None:
    """Write it, in the caller's transaction."""
    connection.execute(insert(entries).values({name: getattr(entry, name) for name in Entry.__slots__}))


def get(connection: Connection, entry_id: str) -> Entry | None:
    row = connection.execute(select(entries).where(entries.c.id == entry_id)).first()
    return _entry(row) if row is not None else None


def about(connection: Connection, named: str) -> list[Entry]:
    """The comments on something, oldest first."""
    rows = connection.execute(select(entries).where(entries.c.about == named).order_by(entries.c.at).limit(500))
    return [_entry(row) for row in rows]


def newest(connection: Connection, limit: int) -> list[Entry]:
    rows = connection.execute(select(entries).order_by(entries.c.at.desc()).limit(limit))
    return [_entry(row) for row in rows]


def untaken(connection: Connection) -> list[Entry]:
    """What no tool has yet, in the order in which it was written."""
    rows = connection.execute(select(entries).where(entries.c.taken_at.is_(None)).order_by(entries.c.at))
    return [_entry(row) for row in rows]


def newest_taken(connection: Connection, limit: int) -> list[Entry]:
    """What went, or was left here, the newest first."""
    rows = connection.execute(
        select(entries).where(entries.c.taken_at.is_not(None)).order_by(entries.c.taken_at.desc()).limit(limit)
    )
    return [_entry(row) for row in rows]


def last_changed(connection: Connection, source: str, about: str) -> float | None:
    """When a document of a tool had last been changed right after we had written to it; None where we did not."""
    ours = (entries.c.source == source, entries.c.about == about)
    found: float | None = connection.scalar(select(func.max(entries.c.upstream_at)).where(*ours))
    return found


def attempted(connection: Connection, entry_id: str, at: float | None) -> None:
    """It is being sent to the tool; None: it is known not to have come there."""
    connection.execute(update(entries).where(entries.c.id == entry_id).values(attempted_at=at))


def taken(
    connection: Connection, entry_id: str, at: float, key: str, url: str | None, upstream_at: float | None
) -> None:
    """It is in the tool, under that key."""
    values = {"taken_at": at, "taken_as": key, "taken_url": url, "attempted_at": None, "upstream_at": upstream_at}
    connection.execute(update(entries).where(entries.c.id == entry_id).values(values))


def _entry(row: Row[tuple[object, ...]]) -> Entry:
    return Entry(**{name: getattr(row, name) for name in Entry.__slots__})
