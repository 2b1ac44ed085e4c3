"""What comes after the rows of a copy: keys, indexes, foreign keys and statistics, on several sessions side by side.

As pg_restore -j does it: a piece is begun when no other one holds a table of it, so that no session waits for another.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from outlast.rehearsal.copy_schema import Piece, SchemaPoints, note_failure, pieces, run_piece, run_pieces

_HEAVY = frozenset({"CONSTRAINT", "INDEX"})
_KEYS = frozenset({"FK CONSTRAINT"})

_NAME = rb'(?:"(?:[^"]|"")*"|[^\s"().;,]+)'
_TABLE = rb"(" + _NAME + rb"\." + _NAME + rb")"
_SHARED = re.compile(rb"CREATE (?:UNIQUE )?INDEX .*? ON (?:ONLY )?" + _TABLE)
_ALONE = re.compile(rb"ALTER TABLE (?:ONLY )?" + _TABLE)
_REFERENCED = re.compile(rb"\) REFERENCES (?:ONLY )?" + _TABLE)
_DEADLOCK = "40P01"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Claim:
    """The tables that a piece locks: against everybody, or against those who change them."""

    alone: frozenset[bytes] = frozenset()
    shared: frozenset[bytes] = frozenset()

    def collides(self, other: Claim) -> bool:
        return bool(self.alone & (other.alone | other.shared) or self.shared & other.alone)


def claim_of(text: bytes) -> Claim:
    """What a statement out of pg_dump locks. Of one that is not known, nothing: then the server has it wait."""
    if found := _ALONE.search(text):
        return Claim(frozenset({found[1], *_REFERENCED.findall(text)}))
    found = _SHARED.search(text)
    return Claim(shared=frozenset({found[1]})) if found else Claim()


def run_after(connections: Sequence[psycopg.Connection[Any]], section: bytes, points: SchemaPoints) -> None:
    """The section after the rows: keys and indexes, then the rest one by one, foreign keys last."""
    found = list(pieces(section))
    for connection in connections:
        run_piece(connection, found[0], points)
    _side_by_side(connections, [piece for piece in found[1:] if piece.kind in _HEAVY], points)
    rest = [piece for piece in found[1:] if piece.kind not in _HEAVY]
    run_pieces(connections[0], [piece for piece in rest if piece.kind not in _KEYS], points)
    _side_by_side(connections, [piece for piece in rest if piece.kind in _KEYS], points)


def analyze(connections: Sequence[psycopg.Connection[Any]]) -> None:
    """Statistics of every table, so that the script's plans are like production's."""
    tables = connections[0].execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' ORDER BY c.relpages DESC"
    )
    names = [sql.Identifier(schema, name) for schema, name in tables.fetchall()]

    def work(connection: psycopg.Connection[Any], name: sql.Identifier) -> None:
        connection.execute(sql.SQL("ANALYZE {}").format(name))

    _each(connections, names, lambda _: Claim(), work)


def _side_by_side(
    connections: Sequence[psycopg.Connection[Any]], wanted: Sequence[Piece], points: SchemaPoints
) -> None:
    again: list[Piece] = []

    def work(connection: psycopg.Connection[Any], piece: Piece) -> None:
        try:
            connection.execute(piece.text)
        except psycopg.Error as error:
            if error.sqlstate == _DEADLOCK:  # of partitions, which no statement names
                again.append(piece)
            else:
                note_failure(piece, error, points)

    _each(connections, wanted, lambda piece: claim_of(piece.text), work)
    run_pieces(connections[0], again, points)


def _each(
    connections: Sequence[psycopg.Connection[Any]],
    wanted: Sequence[_T],
    claim: Callable[[_T], Claim],
    work: Callable[[psycopg.Connection[Any], _T], None],
) -> None:
    """Do all of them, in order as far as claims allow, as many at a time as there are sessions."""
    waiting = [(one, claim(one)) for one in wanted]
    held: list[Claim] = []
    turn = threading.Condition()

    def take() -> tuple[_T, Claim] | None:
        with turn:
            while waiting:
                for place, (_, claimed) in enumerate(waiting):
                    if not any(claimed.collides(other) for other in held):
                        held.append(claimed)
                        return waiting.pop(place)
                turn.wait()
            return None

    def serve(connection: psycopg.Connection[Any]) -> None:
        while (taken := take()) is not None:
            try:
                work(connection, taken[0])
            finally:
                with turn:
                    held.remove(taken[1])
                    turn.notify_all()

    with ThreadPoolExecutor(len(connections), "after the rows") as pool:
        list(pool.map(serve, connections))
