"""The tenant table, the other tables and the foreign keys between them: what ownership is derived from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outlast.core.table import Column, TableName
from outlast.sources.postgres.schema import ForeignKey


@dataclass(frozen=True, slots=True)
class Subject:
    """A table as ownership sees it: all its columns (generated ones too), and whose it is."""

    name: TableName
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...] = ()
    only: bool = False
    extension: str | None = None
    extension_config: bool = False
    uniques: tuple[tuple[str, ...], ...] = ()  # columns of whole unique indexes, the primary key's too


@dataclass(frozen=True, slots=True)
class Graph:
    """The tenant table and everything that may lead to it.

    `exact` is False where two different texts of the tenant key can be equal (citext, numeric, a collation that
    ignores case): then a tenant's name is read from the tenant table, never from the column that points at it.
    """

    tenant_table: TableName
    tenant_key: str
    tenant_key_type: str
    subjects: Mapping[TableName, Subject]
    foreign_keys: tuple[ForeignKey, ...]
    exact: bool = True
    outgoing: Mapping[TableName, tuple[ForeignKey, ...]] = field(init=False)
    referenced: frozenset[TableName] = field(init=False)
    bound: frozenset[tuple[TableName, str]] = field(init=False)  # columns of any foreign key, to their own table too

    def __post_init__(self) -> None:
        outgoing: dict[TableName, list[ForeignKey]] = {}
        for key in self.foreign_keys:
            both_known = key.table in self.subjects and key.references in self.subjects
            # A reference to itself is no path: it ends where it began. A PERIOD is matched by overlap, not equality.
            if both_known and key.table != key.references and not key.period:
                outgoing.setdefault(key.table, []).append(key)
        object.__setattr__(self, "outgoing", {table: tuple(keys) for table, keys in outgoing.items()})
        referenced = frozenset(key.references for keys in outgoing.values() for key in keys)
        object.__setattr__(self, "referenced", referenced)
        bound = frozenset((key.table, column) for key in self.foreign_keys for column in key.columns)
        object.__setattr__(self, "bound", bound)

    def keys_of(self, table: TableName) -> tuple[ForeignKey, ...]:
        return self.outgoing.get(table, ())
