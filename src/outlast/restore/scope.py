"""What a restore looks at: the live catalog, what it says about writing, the tables asked for, and the recipe."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from outlast.core.errors import UsageError
from outlast.core.recipe import Mode, Recipe
from outlast.core.table import Table, TableName
from outlast.core.tenant import SHARED, TenantKey
from outlast.restore.history import Past, PastTable
from outlast.restore.reversal import Reversal, ReversedTable
from outlast.restore.shared_rows import SharedRows
from outlast.restore.wishes import Keep
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.write_facts import WriteFacts

_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_TIMES = ("date", "timestamp", "time")


@dataclass(frozen=True, slots=True)
class Scope:
    """Computed once a restore. `shared` gives the stored state of the shared tables, for --with-shared."""

    catalog: Catalog
    facts: WriteFacts
    tables: tuple[Table, ...]
    chosen: frozenset[TableName] | None = None  # --table; None: all
    recipe: Recipe = field(default_factory=Recipe)
    shared: Callable[[], Past] | None = None
    shared_rows: SharedRows | None = None  # held against the moment, for warnings
    shared_tables: tuple[Table, ...] = ()  # of an undo: a guarded run may have changed those, too

    def tables_of(self, tenants: Collection[TenantKey]) -> tuple[Table, ...]:
        """The tables in which these tenants can have rows: `@shared` in those that are shared, all others in theirs."""
        if SHARED not in tenants:
            return self.tables
        return self.shared_tables if len(tenants) == 1 else (*self.tables, *self.shared_tables)

    @property
    def whole(self) -> bool:
        return self.chosen is None and not self.recipe.where

    @property
    def mode(self) -> Mode:
        return self.recipe.mode

    def stored(self, past: Past) -> dict[TableName, PastTable]:
        """The tenant's stored tables that this restore is about."""
        return {name: table for name, table in past.tables.items() if self.chosen is None or name in self.chosen}

    def reversed(self, reversal: Reversal) -> Mapping[TableName, ReversedTable]:
        return {name: table for name, table in reversal.tables.items() if self.chosen is None or name in self.chosen}

    def wanted(self, past: Past | Reversal) -> Mapping[TableName, PastTable | ReversedTable]:
        return self.stored(past) if isinstance(past, Past) else self.reversed(past)

    def keep(self, table: Table) -> tuple[Keep, ...]:
        """The columns of a table of which the larger value stays."""
        found = []
        for position, column in enumerate(table.columns):
            if any(_names(one, table.name, column.name) for one in self.recipe.keep):
                found.append(Keep(position, number=column.type.partition("(")[0] in _NUMBERS))
        return tuple(found)


def check_keep(recipe: Recipe, tables: tuple[Table, ...]) -> None:
    """Raise UsageError for a --keep that names no column, or one that has no larger value."""
    for one in recipe.keep:
        columns = [
            (table, column)
            for table in tables
            for column in table.columns
            if _names(one, table.name, column.name) and column.name not in table.key
        ]
        if not columns:
            raise UsageError(f"--keep {one}: no table of a tenant has such a column (outside its key)")
        for table, column in columns:
            if not column.type.startswith((*_NUMBERS, *_TIMES)):
                raise UsageError(
                    f"--keep {one}: column {column.name!r} of {table.name} is of type {column.type}",
                    hint="The larger of two values is known for numbers, dates and times.",
                )


def _names(text: str, table: TableName, column: str) -> bool:
    return text in (column, f"{table.name}.{column}", f"{table}.{column}")
