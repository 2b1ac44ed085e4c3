"""What the catalog says, as pure values: tables with their owners, and everything a restore must respect.

`catalog.py` reads these from a server; nothing here talks to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from outlast.core.table import OwnershipKind, Table, TableName
from outlast.sources.source import Notice as Notice


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key between two roots (a partition's own copy of its root's key is not listed)."""

    name: str
    table: TableName
    columns: tuple[str, ...]
    references: TableName
    referenced_columns: tuple[str, ...]
    deferrable: bool = False
    initially_deferred: bool = False
    validated: bool = True
    enforced: bool = True  # False only on PostgreSQL 18: NOT ENFORCED
    match_full: bool = False
    on_delete: str = "a"  # pg_constraint.confdeltype: a no action, r restrict, c cascade, n set null, d set default
    nullable: bool = False  # any of `columns` may be NULL
    indexed: bool = False  # an index of the referencing table starts with `columns`
    operators: tuple[str, ...] = ()  # `schema.operator` by which each pair of columns is equal
    period: bool = False  # PostgreSQL 18: the last column is a PERIOD, matched by overlap and not by equality


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index or an exclusion constraint's index. `expressions` are SQL over the table's unqualified columns."""

    name: str
    table: TableName
    expressions: tuple[str, ...]  # pg_get_indexdef(oid, n): quoted column names or expressions
    columns: tuple[str, ...] | None  # plain column names where every expression is one, else None
    predicate: str | None = None
    primary: bool = False
    nulls_not_distinct: bool = False
    deferrable: bool = False
    exclusion: bool = False
    constraint: str | None = None


@dataclass(frozen=True, slots=True)
class SequenceUse:
    """A sequence that feeds a column (serial, identity, or a default that calls nextval)."""

    sequence: TableName
    table: TableName
    column: str
    increment: int = 1


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user trigger. `enabled` is pg_trigger.tgenabled: O origin, A always, R replica, D disabled."""

    name: str
    table: TableName
    enabled: str
    event: str  # e.g. "BEFORE INSERT OR UPDATE FOR EACH ROW"


@dataclass(frozen=True, slots=True)
class Catalog:
    """A database's catalog at one snapshot. `tables` holds every ordinary, partitioned and inherited table."""

    database: str
    database_oid: int
    server_version: int  # server_version_num
    system_identifier: str
    timeline: int
    encoding: str
    tenant_table: TableName
    tenant_key: str  # the tenant table's key column
    tenant_key_type: str
    tenant_label: str | None
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()
    unique_indexes: tuple[UniqueIndex, ...] = ()
    sequences: tuple[SequenceUse, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    leading_columns: tuple[tuple[TableName, str], ...] = ()  # first columns of whole B-tree indexes
    notices: tuple[Notice, ...] = field(default=())

    def table(self, name: TableName) -> Table | None:
        return next((table for table in self.tables if table.name == name), None)

    @property
    def owned(self) -> tuple[Table, ...]:
        return tuple(table for table in self.tables if table.ownership.kind is OwnershipKind.OWNED)

    @property
    def shared(self) -> tuple[Table, ...]:
        return tuple(table for table in self.tables if table.ownership.kind is OwnershipKind.SHARED)
