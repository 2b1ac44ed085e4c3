"""What the tests of the change stream share: a slot that is followed, and a replica that lives by its changes alone.

    with followed(url, "accounts", "projects") as follower:   # publication, slot and stream; dropped at the end
        ...                                                   # write to the database
        transactions = follower.catch_up()                    # read once: every transaction up to now, in order
        assert follower.rows("accounts") == table(url, "accounts")

`catch_up` ends with a logical message of its own, so it needs no sleep: all that was committed before was delivered.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from outlast.core.change import (
    OP_DELETE,
    OP_INSERT,
    OP_TRUNCATE,
    OP_UPDATE,
    Change,
    Relation,
    key_in,
    row_of,
)
from outlast.core.moment import Lsn
from outlast.sources.postgres.session import Target, connect
from outlast.sources.postgres.slot import drop_slot
from outlast.sources.postgres.stream import ChangeStream
from outlast.sources.postgres.transactions import Assembler, LogicalMessage, Observer, Transaction

WAIT_S = 60.0
START = Lsn(0)  # wherever the slot stands


@dataclass(frozen=True)
class Seen:
    """A transaction that was read to its end. `changes`: operation, table, old key or row, new row."""

    xid: int
    commit: Lsn
    end: Lsn
    streamed: bool
    changes: tuple[tuple[str, str, bytes | None, bytes | None], ...]
    messages: tuple[LogicalMessage, ...]
    raw: tuple[tuple[Relation | None, Change], ...] = field(repr=False, default=())


class Follower:
    """A stream with its assembler, and the tables as they are according to it: {table: {key: row}}."""

    def __init__(
        self, url: str, slot: str, publications: Sequence[str], start: Lsn = START, observer: Observer | None = None
    ) -> None:
        self.url, self.slot, self.publications = url, slot, publications
        self.tables: dict[str, dict[bytes, bytes]] = {}
        self.loose: list[LogicalMessage] = []
        self.folder = Path(tempfile.mkdtemp(prefix="outlast-spool-"))
        self.assembler = Assembler(self.folder, observer)
        self.stream = ChangeStream(Target(url), slot, publications, start)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.assembler.__exit__()
        self.folder.rmdir()  # fails if anything with a name were left there

    @property
    def position(self) -> Lsn:
        return Lsn(self.assembler.position)

    def rows(self, table: str) -> list[bytes]:
        return sorted(self.tables.get(table, {}).values())

    def reconnect(self, start: Lsn) -> None:
        self.stream.close()
        self.assembler.restart()
        self.stream = ChangeStream(Target(self.url), self.slot, self.publications, start)

    def catch_up(self, timeout_s: float = WAIT_S) -> list[Seen]:
        """Every transaction that committed before this call, those seen before excepted; applied to `tables`."""
        mark = uuid.uuid4().hex
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'outlast.mark', %s)", [mark])
        return self.until(mark, timeout_s)

    def until(self, mark: str, timeout_s: float = WAIT_S) -> list[Seen]:
        seen: list[Seen] = []
        done = False
        while not done:
            events = self.stream.receive(timeout_s)
            assert events, "nothing came in time"
            for one in self.assembler.feed(events):
                if isinstance(one, LogicalMessage):
                    self.loose.append(one)
                elif one.messages and one.messages[0].prefix == "outlast.mark":
                    one.discard()
                    done = done or one.messages[0].content == mark.encode()  # else one that came before, again
                else:
                    seen.append(self.read(one))
        return seen

    def live(self) -> None:
        """Read and confirm until the stream ends, with its error."""
        while True:
            for one in self.assembler.feed(self.stream.receive(WAIT_S)):
                if isinstance(one, Transaction):
                    self.read(one)
            self.stream.confirm(self.position)

    def read(self, transaction: Transaction) -> Seen:
        changes, raw = [], []
        count = 0
        for relations, block in transaction.blocks():
            count += len(block)
            for change in block:
                changes.append(self._apply(relations[change[1]], change))
                raw.append((relations[change[1]], change))
        assert count == transaction.change_count
        return Seen(
            transaction.xid,
            transaction.commit,
            transaction.end,
            transaction.streamed,
            tuple(changes),
            transaction.messages,
            tuple(raw),
        )

    def _apply(self, relation: Relation, change: Change) -> tuple[str, str, bytes | None, bytes | None]:
        op, _, old, new = change
        name = relation.name.name
        rows = self.tables.setdefault(name, {})
        keys = relation.identity_columns
        old_key = None if old is None else key_in(old[1:], keys)
        row = None
        if op == OP_TRUNCATE:
            rows.clear()
        elif op == OP_DELETE:
            assert old_key is not None
            rows.pop(old_key, None)
        elif op == OP_INSERT:
            assert new is not None
            row = row_of(new)
            rows[key_in(new, keys) if keys else row] = row
        else:
            assert op == OP_UPDATE
            assert new is not None
            key = old_key if old_key is not None else key_in(new, keys)
            row = row_of(new, rows.pop(key, None))
            rows[key_in(new, keys)] = row
        told = old_key if old is None or old[:1] == b"K" else row_of(old[1:])
        return chr(op), name, told, row


def table(url: str, name: str, columns: str = "*") -> list[bytes]:
    """The rows of a table as a pinned session's COPY gives them, sorted."""
    with connect(Target(url), role="test") as session, session.cursor() as cursor:
        query = sql.SQL("COPY (SELECT {} FROM public.{}) TO STDOUT").format(sql.SQL(columns), sql.Identifier(name))
        with cursor.copy(query) as copy:
            return sorted(bytes(line).rstrip(b"\n") for line in copy)


def publish(url: str, *tables: str, name: str | None = None) -> str:
    name = name or f"p_{uuid.uuid4().hex[:10]}"
    names = sql.SQL(", ").join([sql.Identifier("public", one) for one in tables])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(name), names))
    return name


def make_slot(url: str, plugin: str = "pgoutput") -> str:
    name = f"s_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, %s)", [name, plugin])
    return name


@contextmanager
def followed(url: str, *tables: str, observer: Observer | None = None) -> Iterator[Follower]:
    publication = publish(url, *tables)
    slot = make_slot(url)
    try:
        with Follower(url, slot, [publication], observer=observer) as follower:
            yield follower
    finally:
        remove_slot(url, slot)


def remove_slot(url: str, slot: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
            " WHERE slot_name = %s AND active_pid IS NOT NULL",
            [slot],
        )
    with suppress(psycopg.Error):
        drop_slot(Target(url), slot)
