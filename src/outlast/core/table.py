"""A table: its columns, its key, and the ownership path by which a row finds its tenant."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Self

from outlast.core.row import KeyKind


class OwnershipKind(StrEnum):
    OWNED = "owned"
    SHARED = "shared"
    IGNORED = "ignored"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A schema-qualified name, unquoted, as the catalog has it."""

    schema: str
    name: str

    def __str__(self) -> str:
        """`schema.table`; a part that holds a dot or a quote is double-quoted, so that the text is unambiguous."""
        return f"{_quoted(self.schema)}.{_quoted(self.name)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`; a bare name is taken to be in `public`. Raises ValueError where it is neither."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise ValueError(f"not a table name: {text!r}")
        schema, name = match["schema"], match["name"]
        return cls("public" if schema is None else _unquoted(schema), _unquoted(name))


_PART = r'"(?:[^"]|"")+"|[^."]+'
_NAME = re.compile(rf"(?:(?P<schema>{_PART})\.)?(?P<name>{_PART})")


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


@dataclass(frozen=True, slots=True)
class Column:
    """One stored column. Generated columns are not listed: they are computed again on restore."""

    name: str
    type: str  # format_type(), e.g. "numeric(12,2)"
    not_null: bool = False
    identity: str = ""  # "" | "a" (ALWAYS) | "d" (BY DEFAULT)


@dataclass(frozen=True, slots=True)
class Step:
    """One hop of an ownership path: `columns` of this table reference `to_columns` of `to`.

    `only` is set where `to` is an inheritance parent: a foreign key never points at its children. A foreign key's own
    operators are needed where equal is not the same text (citext).
    """

    columns: tuple[str, ...]
    to: TableName
    to_columns: tuple[str, ...]
    only: bool = False
    operators: tuple[str, ...] = ()  # `schema.operator` by which each pair is equal; none: pg_catalog's =


@dataclass(frozen=True, slots=True)
class Ownership:
    """How a row finds its tenant. For OWNED: follow `path`, then read `tenant_column` of the table it ends at.

    An empty path means that `tenant_column` stands on the table itself. `reason` says why, or, for UNDECIDED, what a
    person has to decide and what to write in outlast.toml.
    """

    kind: OwnershipKind
    path: tuple[Step, ...] = ()
    tenant_column: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as Outlast reads and writes it.

    `columns` are the stored ones, in catalog order; a row has exactly these fields. `key` names the columns that
    identify a row (primary key, else a unique index of NOT NULL columns); empty means that the whole row does, as a
    multiset. `key_kinds` has one entry per key column. `only` is set where ONLY must be written (an inheritance
    parent); a partitioned table is read and written through its root.
    """

    name: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    key_kinds: tuple[KeyKind, ...]
    ownership: Ownership
    oid: int = 0
    only: bool = False
    partitioned: bool = False
    signature: str = ""  # changes whenever the same row version could read differently (see catalog.py)
    size_bytes: int = 0  # on disk, partitions included: an estimate, for planning work only
    column_names: tuple[str, ...] = field(init=False, repr=False, compare=False)  # asked for many times a tenant

    def __post_init__(self) -> None:
        object.__setattr__(self, "column_names", tuple(column.name for column in self.columns))

    @property
    def key_positions(self) -> tuple[int, ...]:
        names = self.column_names
        return tuple(names.index(column) for column in self.key)

    @property
    def shape(self) -> str:
        """A hash of what a stored row's fields mean: names and types of the columns, and the key."""
        return _shape(self.columns, self.key)


@lru_cache(1024)
def _shape(columns: tuple[Column, ...], key: tuple[str, ...]) -> str:
    # Asked for once a tenant and table.
    described = [[[column.name, column.type] for column in columns], list(key)]
    return hashlib.sha256(json.dumps(described, ensure_ascii=True).encode()).hexdigest()[:16]
