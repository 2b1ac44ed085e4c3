"""Messages that anybody can write are read without harm, and what is tracked survives being written down."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.table import TableName
from outlast.sources.postgres.schema_events import (
    ColumnShape,
    EventKind,
    SchemaEvent,
    Shapes,
    TableShape,
    changes_of,
    element,
    literal,
    parse,
)

names = st.text(min_size=1, max_size=8)
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**40,
    1.5,
    float("inf"),
    "",
    "public",
    "r",
    [],
    [1],
    [None],
    [[1]],
    {},
    {"oid": 1, "schema": "public", "name": "root"},
    [{"number": 1, "name": "id", "type": "integer"}],
    [{"number": "x"}],
    [{"number": 1, "name": "id", "missing": "not an array"}],
)
values = st.sampled_from(ODD)
FIELDS = ("oid", "schema", "name", "kind", "persistence", "identity", "root", "leaves", "columns", "key")
tables = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, values)) | st.fixed_dictionaries(
    {"oid": st.integers(1, 9), "schema": names, "name": names, "kind": names, "persistence": names, "identity": names},
    optional=dict.fromkeys(("root", "leaves", "columns", "key"), values),
)
messages = st.fixed_dictionaries(
    {"command": st.sampled_from(["ALTER TABLE", "ALTER TYPE", 7])},
    optional={"event": st.sampled_from([*EventKind, "other", 3]), "because": values, "table": tables | values},
)
columns = st.builds(
    ColumnShape,
    number=st.integers(1, 1600),
    name=names | st.none(),
    type=names,
    not_null=st.booleans(),
    default=st.booleans(),
    generated=st.sampled_from(["", "s", "v"]),
    missing=st.none() | st.text(),
)
shapes = st.builds(
    TableShape,
    oid=st.integers(1, 9),
    name=st.builds(TableName, names, names),
    kind=st.sampled_from("rp"),
    persistence=st.sampled_from("pu"),
    identity=st.sampled_from("dfin"),
    root_oid=st.none(),
    root=st.none(),
    leaves=st.lists(st.integers(10, 19), max_size=3, unique=True).map(tuple),
    columns=st.lists(columns, max_size=4, unique_by=lambda column: column.number).map(tuple),
    key=st.lists(st.integers(1, 9), max_size=2).map(tuple),
)


@given(st.binary() | messages.map(lambda message: json.dumps(message).encode()))
def test_no_message_is_too_odd_to_be_read(content: bytes) -> None:
    """Whatever it says, it is an event, and applying it does no worse than to doubt."""
    event = parse(content)
    shapes = Shapes({})
    for change in shapes.apply(event):
        assert change.kind is not None
    assert Shapes.from_bytes(shapes.to_bytes()).known == shapes.known


@given(st.text())
def test_a_missing_value_is_read_as_it_was_written(text: str) -> None:
    """An array's text of one element, with every quote and backslash."""
    assert element(literal(text)) == text


@given(shapes, shapes)
def test_what_changed_between_two_shapes_is_told_unless_nothing_did(before: TableShape, now: TableShape) -> None:
    """A table that looks otherwise is never taken for unchanged, as far as it concerns the rows."""
    changes = changes_of(before, SchemaEvent(EventKind.TABLE, "ALTER TABLE", now.oid, now.name, now))
    concerns = [
        (one.name, one.identity, one.persistence, set(one.leaves), one.key, _live(one)) for one in (before, now)
    ]
    assert bool(changes) == (concerns[0] != concerns[1])
    assert Shapes.from_bytes(Shapes({now.oid: now}).to_bytes()).known == {now.oid: now}


def _live(shape: TableShape) -> set[tuple[object, ...]]:
    return {(column.number, column.name, column.type, column.generated) for column in shape.live}
