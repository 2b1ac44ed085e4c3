"""Filling the route map from a snapshot: of each row only its identity, its owner's columns, and what others point at.

Memory is bounded whatever the tables' size: ids are spread over nameless files by their hash, and go into the map's
tree in order. What is written there are keyed hashes and numbers, as in the map itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psycopg
from psycopg import sql

from outlast.capture.numbering import Numbering
from outlast.capture.route_ids import ORPHAN_NUMBER, Route, Space, aliased
from outlast.capture.route_map import RouteMap
from outlast.capture.route_plan import Canonical, RoutePlan, TablePlan
from outlast.capture.ways import (
    id_of,
    is_row_target,
    needs_row_route,
    owner_columns,
    row_space_of,
    target_space_of,
)
from outlast.core.row import NULL, unescape
from outlast.core.table import TableName
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.following_facts import Member
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.session import Session

_HELD_MAX = 150_000
_FILES = 64
_NO_ID = bytes(16)

Entry = tuple[bytes, Route]


def identity_of(member: Member) -> tuple[str, ...]:
    """The columns that an UPDATE or DELETE of this relation tells; none where it tells nothing. FULL has no key."""
    if member.identity == "d" and member.primary is not None:
        return tuple(sorted(member.primary.columns))
    if member.identity == "i" and member.chosen is not None:
        return tuple(sorted(member.chosen.columns))
    return ()


def seed_routes(
    session: Session,
    plan: RoutePlan,
    members: Sequence[Member],
    roots: Callable[[Member], TableName],
    map_: RouteMap,
    numbers: Numbering,
    spool_directory: Path,
) -> int:
    """Read the members' rows at the session's snapshot and put their routes in place of what the map had of them.

    Returns how many rows were read. `members` are what stores rows: tables, and leaves of partitioned ones; all that
    belong to a root must be given together.
    """
    rows = 0
    with ExitStack() as stack:
        heaps: dict[int, _Heap] = {}

        def heap(space: Space) -> _Heap:
            if space.number not in heaps:
                heaps[space.number] = stack.enter_context(_Heap(space, spool_directory))
            return heaps[space.number]

        for member in members:
            table = plan.tables.get(roots(member))
            if table is None or member.kind != "r" or not owner_columns(table):
                continue
            reading = _reading(member, table, map_, numbers)
            if reading is not None:
                for space in reading.spaces:
                    heap(space)  # also where it has no row: what the map had there goes
                rows += _read(session, member, reading, heap)
        numbers.save()
        map_.seed([one.space for one in heaps.values()], (part for one in heaps.values() for part in one.parts()))
    return rows


@dataclass(frozen=True, slots=True)
class _Target:
    space: Space
    positions: tuple[int, ...]
    canonical: tuple[Canonical | None, ...] | None
    listed: bool
    is_row: bool


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is read of one relation, and what becomes of it."""

    columns: tuple[str, ...]
    owner: tuple[int, ...]
    route_of: Callable[[Sequence[bytes | None]], Route]
    row: tuple[Space, tuple[int, ...]] | None
    targets: tuple[_Target, ...]

    @property
    def spaces(self) -> list[Space]:
        return [target.space for target in self.targets] + ([self.row[0]] if self.row is not None else [])


def _reading(member: Member, table: TablePlan, map_: RouteMap, numbers: Numbering) -> _Reading | None:
    identity = identity_of(member)
    full = member.identity == "f"
    keeps_row = needs_row_route(table, identity, full=full)
    if not keeps_row and not table.referenced:
        return None
    owner = owner_columns(table)
    wanted = [*owner, *(identity if keeps_row else ()), *(name for one in table.referenced for name in one.columns)]
    columns = tuple(dict.fromkeys(wanted))
    root = table.table.name
    row = (row_space_of(map_, root, identity), tuple(columns.index(name) for name in identity)) if keeps_row else None
    targets = []
    for one in table.referenced:
        is_row = keeps_row and is_row_target(one.columns, identity, exact=one.exact)
        space = target_space_of(map_, root, one.columns)
        positions = tuple(columns.index(name) for name in one.columns)
        listed = keeps_row and not set(one.columns) <= set(identity)
        targets.append(_Target(space, positions, None if one.exact else one.canonical, listed, is_row))
        if is_row:
            row = (space, positions)
    pointer = table.pointer
    if pointer is None:

        def route_of(values: Sequence[bytes | None]) -> Route:
            return ORPHAN_NUMBER if values[0] is None else numbers.number_of(values[0])

    else:
        parent = target_space_of(map_, pointer.to, pointer.referenced.columns)
        canonical = None if pointer.referenced.exact else pointer.referenced.canonical

        def route_of(values: Sequence[bytes | None]) -> Route:
            return id_of(parent, values, canonical) or ORPHAN_NUMBER

    return _Reading(columns, tuple(columns.index(name) for name in owner), route_of, row, tuple(targets))


def _read(session: Session, member: Member, reading: _Reading, heap: Callable[[Space], _Heap]) -> int:
    names = sql.SQL(", ").join([sql.Identifier(name) for name in reading.columns])
    query = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT").format(names, identifier(member.name))
    rows = 0
    try:
        with session.cursor().copy(query) as copy:
            for data in copy:
                rows += 1
                fields = bytes(data)[:-1].split(b"\t")
                values = [None if field == NULL else unescape(field) for field in fields]
                for space, id_, route in _entries(reading, values):
                    heap(space).add(id_, route)
    except psycopg.Error as error:
        raise explain(error, f"read whose the rows of {member.name} are") from error
    return rows


def _entries(reading: _Reading, values: Sequence[bytes | None]) -> Iterator[tuple[Space, bytes, Route]]:
    route = reading.route_of([values[position] for position in reading.owner])
    listed = []
    for target in reading.targets:
        id_ = id_of(target.space, [values[position] for position in target.positions], target.canonical)
        if target.listed:
            listed.append(id_ or _NO_ID)
        if id_ is not None and not target.is_row:
            yield target.space, id_, route
    if reading.row is not None:
        space, positions = reading.row
        id_ = id_of(space, [values[position] for position in positions])
        if id_ is not None:
            yield space, id_, aliased(route, listed) if listed else route


class _Heap:
    """The entries of one space, given in any order, taken out in the order of ids."""

    def __init__(self, space: Space, directory: Path) -> None:
        self.space = space
        self._directory = directory
        self._held: list[Entry] = []
        self._files: list[BinaryIO] = []

    def __enter__(self) -> _Heap:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def add(self, id_: bytes, route: Route) -> None:
        self._held.append((id_, route))
        if len(self._held) >= _HELD_MAX:
            self._spill()

    def parts(self) -> Iterator[list[Entry]]:
        if not self._files:
            yield sorted(self._held, key=_by_id)
            return
        self._spill()
        for file in self._files:
            file.seek(0)
            yield sorted(_decoded(file.read()), key=_by_id)

    def _spill(self) -> None:
        if not self._files:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files = [tempfile.TemporaryFile(dir=self._directory) for _ in range(_FILES)]  # noqa: SIM115
        buffers = [bytearray() for _ in range(_FILES)]
        for id_, route in self._held:
            kept = b"" if isinstance(route, int) else route
            number = route if isinstance(route, int) else 0
            buffers[id_[2] >> 2] += id_ + number.to_bytes(8, "big") + len(kept).to_bytes(2, "big") + kept
        for file, buffer in zip(self._files, buffers, strict=True):
            file.write(buffer)
        self._held = []


def _by_id(entry: Entry) -> bytes:
    return entry[0]


def _decoded(data: bytes) -> Iterable[Entry]:
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 24 : at + 26], "big")
        kept = data[at + 26 : at + 26 + length]
        yield data[at : at + 16], kept or int.from_bytes(data[at + 16 : at + 24], "big")
        at += 26 + length
