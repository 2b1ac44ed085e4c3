"""In which statements a plan is written, so that every foreign key and unique value is free when it is needed. Pure.

A step is one statement. Deletes always fire triggers and foreign keys: without them a row that another session is
adding below a deleted parent would be left an orphan. Inserts and updates are quiet where that is sound.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from outlast.core.table import TableName
from outlast.sources.postgres.schema import ForeignKey, UniqueIndex
from outlast.sources.postgres.write_order import write_order
from outlast.sources.postgres.write_stage import DELETE, INSERT, PARKED, REPLACE, UPDATE

TAKE_OUT = "x"  # the first half of a replacement


@dataclass(frozen=True, slots=True)
class Step:
    """One statement: (operation, table) in the order in which they are carried out."""

    parts: tuple[tuple[str, TableName], ...]
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What is staged: operations by table, and the columns that updates change."""

    operations: Mapping[TableName, Set[str]]
    touched: Mapping[TableName, Set[str]]

    def with_any(self, *operations: str) -> list[TableName]:
        return [table for table, found in self.operations.items() if found & set(operations)]


def schedule(
    load: Load, foreign_keys: Sequence[ForeignKey], indexes: Sequence[UniqueIndex], loud: Collection[TableName]
) -> list[Step]:
    """The steps, in order.

    Ordinarily children are deleted before parents, then each table is updated and filled, parents first. Where an
    update takes a row away from a parent that is deleted, deletes come last. Where that is not possible either, or a
    value that foreign keys point at changes, everything is one statement: its keys are checked when it ends.
    """
    if _rekeyed(load, foreign_keys) or (_released(load, foreign_keys) and _reused(load, indexes)):
        return [_everything(load, foreign_keys)]
    deletes = [
        Step(tuple((DELETE, table) for table in group))
        for group in reversed(write_order(load.with_any(DELETE), foreign_keys))
    ]
    writes = [
        Step(_parts(group, load), quiet=not any(table in loud for table in group))
        for group in write_order(load.with_any(INSERT, UPDATE, REPLACE, PARKED), foreign_keys)
    ]
    return writes + deletes if _released(load, foreign_keys) else deletes + writes


def _parts(group: Sequence[TableName], load: Load) -> tuple[tuple[str, TableName], ...]:
    """What leaves a value comes before what takes one."""
    order = ((TAKE_OUT, {REPLACE}), (UPDATE, {UPDATE, PARKED}), (INSERT, {INSERT, REPLACE}))
    return tuple((part, table) for part, operations in order for table in group if load.operations[table] & operations)


def _everything(load: Load, foreign_keys: Sequence[ForeignKey]) -> Step:
    order = [table for group in write_order(load.operations.keys(), foreign_keys) for table in group]
    deletes = tuple((DELETE, table) for table in reversed(order) if DELETE in load.operations[table])
    return Step(deletes + _parts(order, load))


def _rekeyed(load: Load, foreign_keys: Sequence[ForeignKey]) -> bool:
    """Whether an update changes a value that a foreign key points at."""
    return any(
        key.enforced and load.touched.get(key.references, frozenset()) & set(key.referenced_columns)
        for key in foreign_keys
    )


def _released(load: Load, foreign_keys: Sequence[ForeignKey]) -> bool:
    """Whether an update may take a row away from a parent that is deleted."""
    return any(
        key.enforced
        and DELETE in load.operations.get(key.references, frozenset())
        and load.touched.get(key.table, frozenset()) & set(key.columns)
        for key in foreign_keys
    )


def _reused(load: Load, indexes: Sequence[UniqueIndex]) -> bool:
    """Whether a deleted row may hold a unique value that a written one needs."""
    return any(
        not index.primary
        and not index.deferrable
        and DELETE in load.operations.get(index.table, frozenset())
        and len(load.operations[index.table]) > 1
        for index in indexes
    )
