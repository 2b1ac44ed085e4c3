"""In which order statements are written: what leaves a value or a parent before what takes it."""

from __future__ import annotations

from outlast.core.table import TableName
from outlast.sources.postgres.schema import ForeignKey, UniqueIndex
from outlast.sources.postgres.write_schedule import Load, Step, schedule

PARENT, CHILD, OTHER = (TableName("public", name) for name in ("parent", "child", "other"))
TO_PARENT = ForeignKey("child_parent_fkey", CHILD, ("parent_id",), PARENT, ("id",))
TO_CODE = ForeignKey("child_code_fkey", CHILD, ("code",), PARENT, ("code",))
UNIQUE = UniqueIndex("parent_code", PARENT, ("code",), ("code",))


def told(steps: list[Step]) -> list[str]:
    return [
        ("quiet " if step.quiet else "") + " ".join(f"{part}:{table.name}" for part, table in step.parts)
        for step in steps
    ]


def load(touched: dict[TableName, set[str]] | None = None, **operations: str) -> Load:
    names = {"parent": PARENT, "child": CHILD, "other": OTHER}
    return Load({names[name]: frozenset(several) for name, several in operations.items()}, touched or {})


def test_children_go_first_and_come_last() -> None:
    """Deletes are loud, from the leaves up; writes are quiet, from the root down."""
    steps = schedule(load(parent="diu", child="di"), [TO_PARENT], [], ())
    assert told(steps) == ["d:child", "d:parent", "quiet u:parent i:parent", "quiet i:child"]


def test_a_table_that_has_to_be_loud() -> None:
    """Only that table's statements fire triggers."""
    steps = schedule(load(parent="i", child="i", other="i"), [TO_PARENT], [], {CHILD})
    assert told(steps) == ["quiet i:parent", "i:child", "quiet i:other"]


def test_a_row_leaves_a_parent_that_is_deleted() -> None:
    """Then deletes come last, unless what is deleted holds a value that is needed: then all is one statement."""
    moved = load({CHILD: {"parent_id"}}, parent="d", child="u")
    assert told(schedule(moved, [TO_PARENT], [], ())) == ["quiet u:child", "d:parent"]
    moved = load({CHILD: {"parent_id"}}, parent="di", child="u")
    assert told(schedule(moved, [TO_PARENT], [UNIQUE], ())) == ["d:parent u:child i:parent"]


def test_a_value_that_is_pointed_at_changes() -> None:
    """One statement, loud: foreign keys are checked when it ends."""
    (step,) = schedule(load({PARENT: {"code"}, CHILD: {"code"}}, parent="u", child="u"), [TO_CODE], [UNIQUE], ())
    assert not step.quiet
    assert told([step]) == ["u:parent u:child"]


def test_replaced_rows_are_taken_out_first() -> None:
    """A row that is replaced leaves its values to updates, and takes its own after them."""
    assert told(schedule(load(other="rui"), [], [], ())) == ["quiet x:other u:other i:other"]
