"""A way: how the tuples of one relation, as the stream describes it now, give the ids and owners of its rows.

Made once for each Relation; every position is looked up here and never for a change. Reads only the fields that it
needs, and nothing behind the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct

from outlast.capture.route_ids import Route, Space
from outlast.capture.route_map import RouteMap
from outlast.capture.route_plan import Canonical, RoutePlan, TablePlan
from outlast.core.change import Field, Relation, Unchanged
from outlast.core.entries import LoggedTable
from outlast.core.soft_delete import SoftDeleteMarkers
from outlast.core.table import TableName

_TEXT, _NULL = b"tn"
_LENGTH = Struct(">I").unpack_from
Take = Callable[[bytes, int], list[Field]]
"""(tuple, where it begins: 0, or 1 behind an old tuple's letter) -> the fields at some positions."""


@dataclass(frozen=True, slots=True)
class Target:
    """A space by which others point at a table's rows. `derived`: an old tuple tells it. `lasting`: see Referenced."""

    space: Space
    take: Take
    canonical: tuple[Canonical | None, ...] | None
    derived: bool
    lasting: bool
    is_row: bool  # the row's own id is this one

    def id_of(self, values: Sequence[Field]) -> bytes | None:
        """None where a value is NULL: nothing can point at such a row."""
        return id_of(self.space, values, self.canonical)


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """How one relation's changes are routed.

    `carried`: whatever tells a row's key tells its owner too. `row_space`: where a row's route is kept, None where the
    stream always carries it. `parent` is the space that `owner` points into; None: `owner` is the tenant's key.
    """

    logged: LoggedTable
    root: str
    shared: bool
    owner: Take
    parent: Space | None
    parent_canonical: tuple[Canonical | None, ...] | None
    carried: bool
    row_space: Space | None
    row: Take
    pick: Take  # the row's fields, if its route is kept, then the owner's
    row_fields: int
    targets: tuple[Target, ...]
    label: Take | None
    spaces: tuple[Space, ...]  # all that TRUNCATE empties
    keyed: bool  # an old tuple holds the table's key
    rooted: bool  # the server holds every row to a tenant of the tenant table
    steady: bool  # an UPDATE that sends no old tuple changes none of the row's ids
    markers: SoftDeleteMarkers | None
    simple: bool  # an UPDATE without an old tuple, of a row whose route stays, is that and no more
    owners: dict[bytes, Route] = field(default_factory=dict, repr=False)
    """Routes that owners are, by their one column's value: some of those that were asked for."""

    def owner_unsent(self, new: bytes) -> bool:
        """Whether the server left out the owner, because it is as it was."""
        return any(isinstance(value, Unchanged) for value in self.owner(new, 0))


def id_of(space: Space, values: Sequence[Field], canonical: Sequence[Canonical | None] | None = None) -> bytes | None:
    """The id that the values have, None where one is NULL or was not sent."""
    if canonical is None and len(values) == 1:
        value = values[0]
        return space.id_of_one(value) if type(value) is bytes else None
    known: list[bytes] = []
    for value in values:
        if not isinstance(value, bytes):
            return None
        known.append(value)
    if canonical is not None:
        known = [value if form is None else form(value) for form, value in zip(canonical, known, strict=True)]
    return space.id_of(known)


def row_space_of(map_: RouteMap, table: TableName, columns: Sequence[str]) -> Space:
    return map_.space(str(table), ("row", *columns))


def target_space_of(map_: RouteMap, table: TableName, columns: Sequence[str]) -> Space:
    return map_.space(str(table), ("to", *columns))


def way_of(relation: Relation, plan: RoutePlan, table: TablePlan, map_: RouteMap, logged: LoggedTable) -> Way:
    """Raises KeyError where the relation lacks a column that its owner is found by."""
    names = {name: position for position, (name, _) in enumerate(relation.columns)}
    root = table.table.name
    identity = tuple(relation.columns[position][0] for position in relation.identity_columns)
    full = relation.identity == "f"
    owner = owner_columns(table)

    def told(columns: Sequence[str]) -> bool:
        return full or (bool(identity) and set(columns) <= set(identity))

    keeps_row = needs_row_route(table, identity, full=full)
    row_space = None
    targets = []
    for referenced in table.referenced:
        space = target_space_of(map_, root, referenced.columns)
        is_row = keeps_row and is_row_target(referenced.columns, identity, exact=referenced.exact)
        if is_row:
            row_space = space
        positions = [names[column] for column in referenced.columns]
        canonical = None if referenced.exact else referenced.canonical
        targets.append(
            Target(space, taking(positions), canonical, told(referenced.columns), referenced.lasting, is_row)
        )
    if keeps_row and row_space is None:
        row_space = row_space_of(map_, root, sorted(identity))
    ordered = sorted(identity)
    steady = not full and all(target.derived for target in targets)
    markers = SoftDeleteMarkers.of(relation)
    pointer = table.pointer
    return Way(
        logged=logged,
        root=str(root),
        shared=not owner,
        owner=taking([names[column] for column in owner]),
        parent=None if pointer is None else target_space_of(map_, pointer.to, pointer.referenced.columns),
        parent_canonical=None if pointer is None or pointer.referenced.exact else pointer.referenced.canonical,
        carried=told(owner) if owner else True,
        row_space=row_space,
        row=taking([names[column] for column in ordered]),
        pick=taking([names[column] for column in [*(ordered if row_space is not None else ()), *owner]]),
        row_fields=len(ordered) if row_space is not None else 0,
        targets=tuple(targets),
        label=None if table.label_column is None else taking([names[table.label_column]]),
        spaces=tuple([target.space for target in targets] + ([row_space] if row_space is not None else [])),
        keyed=full or (bool(table.table.key) and told(table.table.key)),
        rooted=table.rooted,
        steady=steady,
        markers=markers,
        simple=row_space is not None and steady and markers is None and table.label_column is None,
    )


def owner_columns(table: TablePlan) -> tuple[str, ...]:
    """By which columns a row finds its owner; none where it is shared."""
    if table.tenant_column is not None:
        return (table.tenant_column,)
    return table.pointer.columns if table.pointer is not None else ()


def needs_row_route(table: TablePlan, identity: Sequence[str], *, full: bool) -> bool:
    """Whether the route of each row has to be kept: its identity does not tell its owner, or its other ids."""
    if full or not identity or not owner_columns(table):
        return False
    columns = [owner_columns(table), *(one.columns for one in table.referenced)]
    return not all(set(one) <= set(identity) for one in columns)


def is_row_target(columns: Sequence[str], identity: Sequence[str], *, exact: bool) -> bool:
    """Whether the id by which others point at a row is the row's own as well."""
    return exact and list(columns) == sorted(identity)


def taking(positions: Sequence[int]) -> Take:
    """A function that takes the fields at these positions out of a tuple."""
    if len(positions) == 1:
        return _taking_one(positions[0])
    if tuple(positions) == (0, 1):
        return _take_two
    count = max(positions, default=-1) + 1
    order = tuple(positions)

    def take(data: bytes, start: int) -> list[Field]:
        at = start + 2
        found: list[Field] = []
        for _ in range(count):
            kind = data[at]
            if kind == _TEXT:
                end = at + 5 + _LENGTH(data, at + 1)[0]
                found.append(data[at + 5 : end])
                at = end
            else:
                found.append(None if kind == _NULL else _UNCHANGED)
                at += 1
        return [found[position] for position in order]

    return take


def _take_two(data: bytes, start: int) -> list[Field]:
    """Of the first two fields: a key, and whose the row is, in most tables."""
    first: Field
    at = start + 2
    kind = data[at]
    if kind == _TEXT:
        begin = at + 5
        at = begin + _LENGTH(data, at + 1)[0]
        first = data[begin:at]
    else:
        first = None if kind == _NULL else _UNCHANGED
        at += 1
    kind = data[at]
    if kind == _TEXT:
        return [first, data[at + 5 : at + 5 + _LENGTH(data, at + 1)[0]]]
    return [first, None if kind == _NULL else _UNCHANGED]


def _taking_one(position: int) -> Take:
    def take(data: bytes, start: int) -> list[Field]:
        at = start + 2
        for _ in range(position):
            at += 5 + _LENGTH(data, at + 1)[0] if data[at] == _TEXT else 1
        kind = data[at]
        if kind == _TEXT:
            return [data[at + 5 : at + 5 + _LENGTH(data, at + 1)[0]]]
        return [None if kind == _NULL else _UNCHANGED]

    return take


_UNCHANGED = Unchanged()
