"""Fills any schema with tenants' rows, from what the catalog says of it: an application's own code is not needed.

Every table gets rows, parents first, each row pointing only at rows of its own tenant or at rows that no tenant has.
What belongs to whom is remembered here, key by key, so that a test can destroy a tenant without asking Outlast.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

_COLUMNS = """
SELECT a.attrelid::regclass::text, a.attname, format_type(a.atttypid, NULL), a.atttypmod, a.attnotnull,
       a.attidentity <> '' OR a.attgenerated <> '', coalesce(t.typcategory::text, '')
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY 1, a.attnum
"""

_FOREIGN_KEYS = """
SELECT k.conrelid::regclass::text, a.attname, k.confrelid::regclass::text, b.attname
FROM pg_constraint AS k
JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
JOIN pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace AND cardinality(k.conkey) = 1
"""

_PRIMARY_KEYS = """
SELECT k.conrelid::regclass::text, a.attname
FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
WHERE k.contype = 'p' AND k.connamespace = 'public'::regnamespace
"""


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    length: int  # of varchar(n), else 0
    required: bool
    given: bool  # the server makes it


@dataclass
class Filler:
    """Fills the database that `connection` is in. `tenant_table` has one row a tenant."""

    connection: psycopg.Connection
    tenant_table: str
    seed: int
    rows: dict[str, list[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(list))  # tenant: (table, key)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._number = 0
        self._columns: dict[str, list[_Column]] = defaultdict(list)
        for table, name, kind, modifier, required, given, _ in self.connection.execute(_COLUMNS).fetchall():
            length = modifier - 4 if kind.startswith("character") and modifier > 0 else 0
            self._columns[table].append(_Column(name, kind, length, required, given))
        self._references: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        for table, column, to, to_column in self.connection.execute(_FOREIGN_KEYS).fetchall():
            self._references[table][column] = (to, to_column)
        self._keys: dict[str, str] = dict(self.connection.execute(_PRIMARY_KEYS).fetchall())
        # Rows that can be pointed at: by table, then by tenant ("" for what no tenant has).
        self._known: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self._owned = self._reached_from(tenant_table := self.tenant_table) | {tenant_table}

    def fill(self, tenants: Sequence[str], rows: Sequence[int], *, keep: Sequence[str] = ()) -> None:
        """Rows for each tenant, about so many a table, and a few in tables that no tenant owns, except `keep`."""
        order = self._ordered()
        for table in order:
            if table not in self._owned:
                self._learn(table)
                if table not in keep and not self._known[table][""]:
                    self._insert_some(table, "", 3)
        for tenant, count in zip(tenants, rows, strict=True):
            self._insert(self.tenant_table, tenant, {"slug": tenant, "name": f"Name of {tenant}"})
            for table in order:
                if table in self._owned and table != self.tenant_table:
                    self._insert_some(table, tenant, count)

    def destroy(self, tenant: str) -> int:
        """Delete for good all that was inserted for a tenant; returns how many rows."""
        by_table: dict[str, list[Any]] = defaultdict(list)
        for table, key in self.rows[tenant]:
            by_table[table].append(key)
        deleted = 0
        self.connection.execute("SET LOCAL session_replication_role = replica")
        for table, keys in by_table.items():
            statement = sql.SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(
                _table(table), sql.Identifier(self._keys[table])
            )
            deleted += self.connection.execute(statement, [keys]).rowcount
        self.connection.commit()
        return deleted

    @property
    def filled(self) -> set[str]:
        """The tables that hold rows of a tenant."""
        return {table for rows in self.rows.values() for table, _ in rows}

    def _reached_from(self, root: str) -> set[str]:
        reached: set[str] = set()
        new = {root}
        while new:
            new = {
                table
                for table, references in self._references.items()
                if table not in reached and {to for to, _ in references.values()} & (reached | new)
            }
            reached |= new
        return reached

    def _ordered(self) -> list[str]:
        """Parents first; where required references go in a circle, in any order."""
        order: list[str] = []
        left = sorted(self._keys)
        while left:
            ready = [table for table in left if not self._waits(table, left)] or left[:1]
            order += ready
            left = [table for table in left if table not in ready]
        return order

    def _waits(self, table: str, left: Sequence[str]) -> bool:
        return any(to in left and to != table for to, _ in self._references[table].values())

    def _learn(self, table: str) -> None:
        for (key,) in self.connection.execute(
            sql.SQL("SELECT {} FROM {}").format(sql.Identifier(self._keys[table]), _table(table))
        ).fetchall():
            self._known[table][""].append(key)

    def _insert_some(self, table: str, tenant: str, count: int) -> None:
        for _ in range(count):
            values = self._pointers(table, tenant)
            if values is None:
                return
            # A pair of keys may be there already (a link between two rows): then this row is left out.
            try:
                with self.connection.transaction():
                    self._insert(table, tenant, values)
            except psycopg.errors.UniqueViolation:
                continue

    def _pointers(self, table: str, tenant: str) -> dict[str, Any] | None:
        """What the foreign keys point at, or None where a required one has nothing to point at."""
        values: dict[str, Any] = {}
        required = {column.name for column in self._columns[table] if column.required}
        for column, (to, _) in self._references[table].items():
            if to in self._owned and not tenant:
                values[column] = None
                continue
            choices = self._known[to][tenant] if to in self._owned else self._known[to][""]
            if not choices and column in required:
                return None
            values[column] = self._chance.choice(choices) if choices else None
        return values

    def _insert(self, table: str, tenant: str, values: dict[str, Any]) -> None:
        self._number += 1
        for column in self._columns[table]:
            if not column.given and column.name not in values:
                values[column.name] = self._value(table, column)
        names = sql.SQL(", ").join(map(sql.Identifier, values))
        places = sql.SQL(", ").join(sql.Placeholder() * len(values))
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING {}").format(
            _table(table), names, places, sql.Identifier(self._keys[table])
        )
        row = self.connection.execute(statement, list(values.values())).fetchone()
        assert row is not None
        self._known[table][tenant].append(row[0])
        if tenant:
            self.rows[tenant].append((table, row[0]))

    def _value(self, table: str, column: _Column) -> Any:
        number = self._number
        if column.name == self._keys[table] and column.type in ("bigint", "integer"):
            return number
        match column.type:
            case "boolean":
                return number % 2 == 0
            case "smallint" | "integer" | "bigint":
                return number % 30000
            case "numeric":
                return f"{number % 1000}.{number % 100:02}"
            case "double precision":
                return number / 7
            case "date":
                return f"20{number % 90 + 10}-02-28"
            case "time without time zone":
                return f"{number % 24:02}:00"
            case "timestamp with time zone":
                return f"20{number % 90 + 10}-02-28 12:00:00.{number % 1000:03}+02"
            case "uuid":
                return f"00000000-0000-4000-8000-{number:012}"
            case "jsonb" | "json":
                return json.dumps({"number": number, "text": "\\N\t"})
            case "inet":
                return f"10.{number % 250}.{number // 250 % 250}.7"
            case "bytea":
                return number.to_bytes(8, "big")
            case "interval":
                return f"{number} seconds"
        text = f"{number:x} {column.name} \\N\tÄ"
        return text[: column.length] if column.length else text


def _table(name: str) -> sql.SQL:
    return sql.SQL(name)  # regclass has quoted it


def contents(url: str) -> dict[str, str]:
    """Every table of the database by its rows' count and hash: what must be the same before and after."""
    found: dict[str, str] = {}
    with psycopg.connect(url) as connection:
        # The session of a command that has just ended may still be dropping its temporary tables
        tables = connection.execute(
            "SELECT DISTINCT relid::regclass::text FROM pg_stat_user_tables WHERE schemaname NOT LIKE 'pg\\_temp\\_%'"
        ).fetchall()
        for (table,) in tables:
            query = sql.SQL(
                "SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '')"
                " FROM {} AS t"
            )
            row = connection.execute(query.format(_table(table))).fetchone()
            assert row is not None
            found[table] = row[0]
    return found
