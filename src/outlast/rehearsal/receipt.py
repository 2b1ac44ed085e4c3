"""A receipt: what one rehearsal allows to be run once, bound to the script, its arguments, and what it did. Pure.

It has the keys of all rows that the script touched, with digests of what they were and became, so that `run` can hold
production's rows against them. It has no row: of values only moments are kept as such, since a script that writes the
time of day writes another one on production.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from outlast.core.effect import Effect, Operation
from outlast.core.errors import CorruptionError, Refused
from outlast.core.intent import Intent
from outlast.core.plan import new_plan_id, shape_hash
from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal.naming import meant
from outlast.rehearsal.observed import Alteration, Observed, RowCounters, row_digest
from outlast.rehearsal.script import Script
from outlast.sources.postgres.schema import Catalog

FORMAT = 1


def schema_digest(catalog: Catalog) -> str:
    """What a receipt binds of the schema: every table's columns, types, key and owner, and every foreign key."""
    tables = sorted((str(table.name), table.shape, table.ownership.kind.value) for table in catalog.tables)
    keys = sorted(
        (str(key.table), key.name, key.columns, str(key.references), key.referenced_columns, key.on_delete)
        for key in catalog.foreign_keys
    )
    return shape_hash([tables, keys])


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a row as the script left it: a digest of its COPY field, and, where it is a moment, that moment in
    microseconds since 1970 (as the server wrote it, whatever its time zone)."""

    column: int
    digest: bytes
    moment_us: int | None = None

    @classmethod
    def of(cls, column: int, value: bytes) -> Self:
        return cls(column, row_digest(value), moment_of(value))


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """One row that the script touches. `before` None: it is inserted; `after` False: it is gone afterwards."""

    tenant: TenantKey
    key: bytes
    before: bytes | None
    after: bool
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyedTable:
    """The rows of one table. `columns` are those that digests cover, in their order."""

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[KeyedRow, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was rehearsed. `script` is the digest of its text and arguments; `by` whoever rehearsed it.

    `began` is the copy's own time when the script's transaction began: what is written as time is told by it.
    """

    id: str
    source: str
    name: str
    script: str
    arguments: tuple[tuple[str, str], ...]
    role: str
    schema: str
    moment: str
    as_of: datetime
    created: datetime
    expires: datetime
    began: datetime
    by: str
    effect: Effect
    tables: tuple[KeyedTable, ...]
    counters: Mapping[str, RowCounters]
    tenants: Mapping[TenantKey, Tenant] = field(default_factory=dict)
    alterations: tuple[tuple[str, str, str], ...] = ()  # alteration, kind, name
    rewritten: tuple[str, ...] = ()
    emptied: Mapping[str, int] = field(default_factory=dict)  # rows of tables that are truncated or dropped
    canary: tuple[TenantKey, ...] = ()
    unguarded: tuple[str, ...] = ()
    intent: tuple[str, ...] = ()
    undo_waived_by: str | None = None
    accepted: tuple[str, ...] = ()
    server: str = ""

    @classmethod
    def of(
        cls,
        observed: Observed,
        script: Script,
        intent: Intent,
        *,
        source: str,
        schema: str,
        by: str,
        now: datetime,
        expires: datetime,
    ) -> Self:
        """The receipt of a rehearsal that was within its intent. Raises Refused where its keys are not all known."""
        if observed.counters is None and not script.unguarded:
            raise Refused(
                "a command cannot be run guarded: it has no receipt",
                hint="Run it as it is; what it will do was shown. A .sql file can be run guarded.",
            )
        _check_shapes(observed)
        where = observed.circumstances
        waived = intent.undo_waived
        return cls(
            new_plan_id(now),
            source,
            script.name,
            script.digest,
            script.arguments,
            where.role,
            schema,
            where.moment,
            where.as_of,
            now,
            expires,
            observed.began or now,
            by,
            observed.effect,
            tuple(_keyed(table) for table in observed.touched),
            observed.counters or {},
            {key: observed.tenants.get(key, Tenant(key)) for key in observed.effect.tenants},
            tuple((change.alteration.value, change.kind, change.name) for change in observed.schema),
            observed.rewritten,
            _emptied(observed),
            _canaries(observed, intent),
            tuple(one.text for one in script.unguarded),
            intent.lines(),
            None if waived is None else waived.by,
            tuple(intent.accepts),
            where.server,
        )

    def expired(self, now: datetime) -> bool:
        return now >= self.expires

    def to_content(self) -> dict[str, Any]:
        """As JSON's own values; bytes are kept as Latin-1 text, which is one character a byte."""
        return {
            "format": FORMAT,
            "id": self.id,
            "source": self.source,
            "name": self.name,
            "script": self.script,
            "arguments": [list(pair) for pair in self.arguments],
            "role": self.role,
            "schema": self.schema,
            "moment": self.moment,
            "as_of": self.as_of.isoformat(),
            "created": self.created.isoformat(),
            "expires": self.expires.isoformat(),
            "began": self.began.isoformat(),
            "by": self.by,
            "effect": self.effect.to_record(),
            "tables": [_table_content(table) for table in self.tables],
            "counters": {name: [one.inserted, one.updated, one.deleted] for name, one in self.counters.items()},
            "tenants": [[one.key, one.label] for one in self.tenants.values()],
            "alterations": [list(one) for one in self.alterations],
            "rewritten": list(self.rewritten),
            "emptied": dict(self.emptied),
            "canary": list(self.canary),
            "unguarded": list(self.unguarded),
            "intent": list(self.intent),
            "undo_waived_by": self.undo_waived_by,
            "accepted": list(self.accepted),
            "server": self.server,
        }

    @classmethod
    def from_content(cls, data: Mapping[str, Any]) -> Self:
        """The inverse. Raises CorruptionError, or Refused for one that another version of Outlast made."""
        try:
            if data["format"] != FORMAT:
                raise Refused("the receipt was made by another version of Outlast", hint="Rehearse the script again.")
            return cls(
                data["id"],
                data["source"],
                data["name"],
                data["script"],
                tuple((name, value) for name, value in data["arguments"]),
                data["role"],
                data["schema"],
                data["moment"],
                datetime.fromisoformat(data["as_of"]),
                datetime.fromisoformat(data["created"]),
                datetime.fromisoformat(data["expires"]),
                datetime.fromisoformat(data["began"]),
                data["by"],
                Effect.from_record(data["effect"]),
                tuple(_table_of(table) for table in data["tables"]),
                {name: RowCounters(*numbers) for name, numbers in data["counters"].items()},
                {TenantKey(key): Tenant(TenantKey(key), label) for key, label in data["tenants"]},
                tuple((alteration, kind, name) for alteration, kind, name in data["alterations"]),
                tuple(data["rewritten"]),
                dict(data["emptied"]),
                tuple(TenantKey(key) for key in data["canary"]),
                tuple(data["unguarded"]),
                tuple(data["intent"]),
                data["undo_waived_by"],
                tuple(data["accepted"]),
                data["server"],
            )
        except (KeyError, ValueError, TypeError) as error:
            raise CorruptionError("the receipt cannot be read: it is none", code="receipt") from error


def _check_shapes(observed: Observed) -> None:
    """Rows and columns of one table cannot both change: rows are held against each other by their columns."""
    altered = {one.name.rpartition(".")[0] for one in observed.schema if one.kind == "column"}
    both = sorted(table.table for table in observed.touched if table.table in altered)
    if both:
        raise Refused(
            f"cannot be run guarded: it changes both the columns and the rows of {both[0]}",
            hint="Make two scripts of it: one for the schema, one for the rows.",
            code="columns-and-rows",
        )


def _emptied(observed: Observed) -> Mapping[str, int]:
    """Tables of which everything goes, with the rows that they had: nothing locks these row by row."""
    rows = {one.table: sum(one.rows.values()) for one in observed.truncated}
    for (_, table, operation), count in observed.effect.counts.items():
        if table in rows and operation is Operation.HARD_DELETE:  # before the rest went
            rows[table] += count.rows
    for change in observed.schema:
        if change.alteration is Alteration.DROPPED and change.kind == "table":
            rows[change.name] = sum(change.rows.values())
    return rows


def _canaries(observed: Observed, intent: Intent) -> tuple[TenantKey, ...]:
    canaries = meant(observed, intent.canary).tenants
    return tuple(key for key in observed.effect.tenants if key in canaries)


def _keyed(table: Any) -> KeyedTable:
    rows = tuple(
        KeyedRow(
            row.tenant,
            row.key,
            row.before,
            row.after is not None,
            tuple(Field.of(column, value) for column, value in row.changed),
        )
        for row in table.rows
    )
    return KeyedTable(table.table, table.key, table.columns, rows)


def _table_content(table: KeyedTable) -> list[Any]:
    rows = [
        [
            row.tenant,
            row.key.decode("latin-1"),
            None if row.before is None else row.before.decode("latin-1"),
            row.after,
            [[one.column, one.digest.decode("latin-1"), one.moment_us] for one in row.fields],
        ]
        for row in table.rows
    ]
    return [table.table, list(table.key), list(table.columns), rows]


def _table_of(data: Any) -> KeyedTable:
    name, key, columns, rows = data
    return KeyedTable(
        name,
        tuple(key),
        tuple(columns),
        tuple(
            KeyedRow(
                TenantKey(tenant),
                key_text.encode("latin-1"),
                None if before is None else before.encode("latin-1"),
                after,
                tuple(Field(column, digest.encode("latin-1"), moment) for column, digest, moment in fields),
            )
            for tenant, key_text, before, after, fields in rows
        ),
    )


_MOMENT = re.compile(rb"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[+-]\d\d(?::?\d\d)?)?)?")


def moment_of(value: bytes) -> int | None:
    """A COPY field as a moment in microseconds, where it is a date or a timestamp in ISO's form; else None."""
    if not _MOMENT.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value.decode("ascii"))
    except ValueError:
        return None
    since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
