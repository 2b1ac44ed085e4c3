"""A table's classification as outlast.toml words it: `owned by account_id`, `owned through item_id`, `shared` …

Only the words: which of them fit a schema is decided in ownership.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from outlast.core.errors import UsageError
from outlast.core.table import OwnershipKind, TableName

FORMS = '"owned by COLUMN", "owned through COLUMN[, COLUMN]", "shared", "ignored"'


@dataclass(frozen=True, slots=True)
class Classification:
    """One entry of outlast.toml.

    OWNED without `through`: `columns` is the one column that holds the tenant's key. With `through`: `columns` are
    those of the foreign key to the parent whose tenant is this row's; `to` names the parent where they alone do not, or
    where the database has no such foreign key. `reason` says why it was proposed and is no part of the entry.
    """

    kind: OwnershipKind
    columns: tuple[str, ...] = ()
    through: bool = False
    to: TableName | None = None
    reason: str = ""

    @classmethod
    def parse(cls, table: str, text: str) -> Self:
        """Read an entry. Raises UsageError that names the table."""
        words = text.strip()
        if words in ("shared", "ignored", "undecided"):
            return cls(OwnershipKind(words), reason="as outlast.toml says")
        match = _OWNED.fullmatch(words)
        if match is None:
            raise UsageError(
                f"outlast.toml: table {table} is {text!r}, which is no classification", hint=f"Write {FORMS}."
            )
        through = match["how"] == "through"
        columns = tuple(_unquoted(part) for part in re.findall(_NAME, match["columns"]))
        if not through and len(columns) != 1:
            raise UsageError(
                f'outlast.toml: table {table}: "owned by" takes one column',
                hint="It is the one that holds the tenant's key.",
            )
        to = None
        if match["to"]:
            if not through:
                raise UsageError(
                    f'outlast.toml: table {table}: "to" stands only after "owned through"', hint=f"Write {FORMS}."
                )
            try:
                to = TableName.parse(match["to"].strip())
            except ValueError as error:
                raise UsageError(
                    f"outlast.toml: table {table}: {match['to']!r} is no table name", hint="Write schema.table."
                ) from error
        return cls(OwnershipKind.OWNED, columns, through, to, "as outlast.toml says")

    def __str__(self) -> str:
        if self.kind is not OwnershipKind.OWNED:
            return self.kind.value
        columns = ", ".join(_quoted(column) for column in self.columns)
        to = f" to {_quoted(self.to.schema)}.{_quoted(self.to.name)}" if self.to else ""
        return f"owned {'through' if self.through else 'by'} {columns}{to}"


_NAME = r'"(?:[^"]|"")+"|[^\s,"]+'
_OWNED = re.compile(
    rf"owned\s+(?P<how>by|through)\s+(?P<columns>(?:{_NAME})(?:\s*,\s*(?:{_NAME}))*)(?:\s+to\s+(?P<to>.+))?",
    re.DOTALL,
)


def _quoted(name: str) -> str:
    plain = re.fullmatch(r'[^\s,."]+', name) is not None
    return name if plain else '"' + name.replace('"', '""') + '"'


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
