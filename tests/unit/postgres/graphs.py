"""Schemas in a line a table, for the tests of ownership."""

from __future__ import annotations

from collections.abc import Mapping

from outlast.core.table import Column, TableName
from outlast.sources.postgres.graph import Graph, Subject
from outlast.sources.postgres.schema import ForeignKey


def name(text: str) -> TableName:
    return TableName.parse(text)


def graph(tables: Mapping[str, str], keys: str = "", *, key_type: str = "bigint", exact: bool = True) -> Graph:
    """A graph in a line a table: columns as `name[:type][?]` (? may be NULL), keys as `table(a,b)->parent(c,d)`.

    The first column is the primary key; several are joined by `+`.
    """
    subjects = {}
    for table, described in tables.items():
        columns: dict[str, Column] = {}
        primary: tuple[str, ...] = ()
        for position, word in enumerate(described.split()):
            for part in word.split("+"):
                bare, _, kind = part.rstrip("?").partition(":")
                columns[bare] = Column(bare, kind or "bigint", not_null=not part.endswith("?"))
            if position == 0:
                primary = tuple(part.partition(":")[0] for part in word.split("+"))
        subjects[name(table)] = Subject(name(table), columns, primary)
    return Graph(name("accounts"), "id", key_type, subjects, tuple(_keys(subjects, keys)), exact)


def _keys(subjects: Mapping[TableName, Subject], text: str) -> list[ForeignKey]:
    keys = []
    for number, word in enumerate(text.split()):
        own, _, parent = word.partition("->")
        table, _, columns = own.rstrip(")").partition("(")
        other, _, referenced = parent.rstrip(")").partition("(")
        own_columns = tuple(columns.split(","))
        nullable = any(not subjects[name(table)].columns[column].not_null for column in own_columns)
        to = tuple(referenced.split(",")) if referenced else subjects[name(other)].primary_key
        keys.append(ForeignKey(f"fk{number}", name(table), own_columns, name(other), to, nullable=nullable))
    return keys
