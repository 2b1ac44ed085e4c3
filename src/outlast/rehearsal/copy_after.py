"""What comes after the rows of a copy: keys, indexes, foreign keys and statistics, on several sessions side by side.

As pg_restore -j does it: a piece is begun when no other one holds a table of it, so that no session waits for another.
Unlike there, a foreign key is first made and then validated: to validate locks neither its table against an index of
another, nor the table that it points at, so that no core waits for the longest of them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from outlast.rehearsal.copy_schema import Piece, SchemaPoints, note_failure, pieces, run_piece, run_pieces

_HEAVY = frozenset({"CONSTRAINT", "INDEX"})
_KEYS = frozenset({"FK CONSTRAINT"})
_ATTACH = "INDEX ATTACH"  # before it an index of a partitioned table is none that a foreign key may point at

_NAME = rb'(?:"(?:[^"]|"")*"|[^\s"().;,]+)'
_TABLE = rb"(" + _NAME + rb"\." + _NAME + rb")"
_SHARED = re.compile(rb"CREATE (?:UNIQUE )?INDEX .*? ON (?:ONLY )?" + _TABLE)
_ALONE = re.compile(rb"ALTER TABLE (?:ONLY )?" + _TABLE)
_REFERENCED = re.compile(rb"\) REFERENCES (?:ONLY )?" + _TABLE)
_FOREIGN = re.compile(
    rb"\s*ALTER TABLE ONLY " + _TABLE + rb"\s+ADD CONSTRAINT (" + _NAME + rb") FOREIGN KEY \(.*(?<!NOT VALID)"
    rb"(?<!NOT ENFORCED)(;)(?:\s|--[^\n]*\n)*\Z",
    re.S,
)
_DEADLOCK = "40P01"


@dataclass(frozen=True, slots=True)
class Claim:
    """The tables that a piece locks: against everybody, against those who change them, against those who make indexes
    and others of its kind, or against nobody but the first."""

    alone: frozenset[bytes] = frozenset()
    shared: frozenset[bytes] = frozenset()
    looked_through: frozenset[bytes] = frozenset()
    pointed_at: frozenset[bytes] = frozenset()

    @property
    def tables(self) -> frozenset[bytes]:
        return self.alone | self.shared | self.looked_through | self.pointed_at

    def collides(self, other: Claim) -> bool:
        return bool(
            self.alone & other.tables
            or other.alone & self.tables
            or self.looked_through & (other.looked_through | other.shared)
            or other.looked_through & self.shared
        )


def claim_of(text: bytes) -> Claim:
    """What a statement out of pg_dump locks. Of one that is not known, nothing: then the server has it wait."""
    if found := _ALONE.search(text):
        return Claim(frozenset({found[1], *_REFERENCED.findall(text)}))
    found = _SHARED.search(text)
    return Claim(shared=frozenset({found[1]})) if found else Claim()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One that is made in two steps. `drop` takes it away again where rows do not hold to it."""

    make: bytes
    validate: bytes
    drop: bytes
    claim: Claim  # of validating

    @classmethod
    def of(cls, text: bytes) -> ForeignKey | None:
        """None for one that cannot: of a partitioned table, or never to be validated."""
        found, referenced = _FOREIGN.match(text), _REFERENCED.search(text)
        if found is None or referenced is None:
            return None
        alter = b"ALTER TABLE ONLY %b " % found[1]
        return cls(
            text[: found.start(3)] + b" NOT VALID;",
            alter + b"VALIDATE CONSTRAINT " + found[2],
            alter + b"DROP CONSTRAINT " + found[2],
            Claim(looked_through=frozenset({found[1]}), pointed_at=frozenset({referenced[1]})),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Something to be done on one of the sessions. `after` stand before it."""

    claim: Claim
    work: Callable[[psycopg.Connection[Any]], None]
    after: tuple[Task, ...] = ()


def run_after(connections: Sequence[psycopg.Connection[Any]], section: bytes, points: SchemaPoints) -> None:
    """The section after the rows: keys, indexes and foreign keys, then the rest one by one."""
    found = list(pieces(section))
    for connection in connections:
        run_piece(connection, found[0], points)
    heavy = [piece for piece in found[1:] if piece.kind in _HEAVY]
    keys = [piece for piece in found[1:] if piece.kind in _KEYS]
    rest = [piece for piece in found[1:] if piece.kind not in _HEAVY | _KEYS]
    late = any(piece.kind == _ATTACH for piece in rest)
    _Heavy(points).run(connections, heavy, () if late else keys)
    run_pieces(connections[0], rest, points)
    if late:
        _Heavy(points).run(connections, (), keys)


def analyze(connections: Sequence[psycopg.Connection[Any]]) -> None:
    """Statistics of every table, so that the script's plans are like production's."""
    tables = connections[0].execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' ORDER BY c.relpages DESC"
    )

    def task(name: sql.Identifier) -> Task:
        return Task(Claim(), lambda connection: _execute(connection, sql.SQL("ANALYZE {}").format(name)))

    do_all(connections, [task(sql.Identifier(schema, name)) for schema, name in tables.fetchall()])


class _Heavy:
    """Keys, indexes and foreign keys. What cannot be made is noted."""

    def __init__(self, points: SchemaPoints) -> None:
        self._points = points
        self._again: list[Piece] = []

    def run(
        self, connections: Sequence[psycopg.Connection[Any]], heavy: Sequence[Piece], keys: Sequence[Piece]
    ) -> None:
        unique = [self._task(piece) for piece in heavy if _is_unique(piece)]
        others = [self._task(piece) for piece in heavy if not _is_unique(piece)]
        made: list[Task] = []
        validated: list[Task] = []
        for piece in keys:
            claim = claim_of(piece.text)
            after = tuple(task for task in unique if task.claim.tables & claim.tables)
            key = ForeignKey.of(piece.text)
            if key is None:
                validated.append(self._task(piece, after))
            else:
                steps = _Steps(self, piece, key)
                made.append(Task(claim, steps.make, after))
                validated.append(Task(key.claim, steps.validate, (made[-1],)))
        do_all(connections, [*unique, *made, *others, *validated])
        run_pieces(connections[0], self._again, self._points)

    def _task(self, piece: Piece, after: tuple[Task, ...] = ()) -> Task:
        def work(connection: psycopg.Connection[Any]) -> None:
            self.execute(connection, piece, piece.text)

        return Task(claim_of(piece.text), work, after)

    def execute(self, connection: psycopg.Connection[Any], piece: Piece, text: bytes) -> bool:
        """Whether it could be done."""
        try:
            connection.execute(text)
        except psycopg.Error as error:
            if error.sqlstate == _DEADLOCK:  # of partitions, which no statement names
                self._again.append(piece)
            else:
                note_failure(piece, error, self._points)
            return False
        return True


@dataclass
class _Steps:
    """The two steps of one foreign key. After the second one it is there and validated, or not there."""

    heavy: _Heavy
    piece: Piece
    key: ForeignKey
    made: bool = False

    def make(self, connection: psycopg.Connection[Any]) -> None:
        self.made = self.heavy.execute(connection, self.piece, self.key.make)

    def validate(self, connection: psycopg.Connection[Any]) -> None:
        if self.made and not self.heavy.execute(connection, self.piece, self.key.validate):
            connection.execute(self.key.drop)


def _is_unique(piece: Piece) -> bool:
    """What a foreign key may need."""
    return piece.kind == "CONSTRAINT" or b"CREATE UNIQUE" in piece.text


def _execute(connection: psycopg.Connection[Any], query: sql.Composed) -> None:
    connection.execute(query)


def do_all(connections: Sequence[psycopg.Connection[Any]], tasks: Sequence[Task]) -> None:
    """Do all of them, in order as far as claims allow, as many at a time as there are sessions."""
    waiting = list(tasks)
    held: list[Task] = []
    over: set[Task] = set()
    turn = threading.Condition()

    def take() -> Task | None:
        with turn:
            while waiting:
                for place, task in enumerate(waiting):
                    if over.issuperset(task.after) and not any(task.claim.collides(one.claim) for one in held):
                        held.append(task)
                        return waiting.pop(place)
                turn.wait()
            return None

    def serve(connection: psycopg.Connection[Any]) -> None:
        while (task := take()) is not None:
            try:
                task.work(connection)
            finally:
                with turn:
                    held.remove(task)
                    over.add(task)
                    turn.notify_all()

    with ThreadPoolExecutor(len(connections), "after the rows") as pool:
        list(pool.map(serve, connections))
