"""Two states of the same database held against each other: what the server says it is, and what the vault gives.

The server is its own model. `owners` says in SQL, without any code of Outlast's, whose a row `t` of each table is: an
expression that gives the tenant's key, NULL for an orphan; None for a shared table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from outlast.core.errors import NotFoundError
from outlast.core.moment import Lsn
from outlast.core.row import NULL, unescape
from outlast.core.tenant import ORPHAN, SCHEMA, SHARED
from outlast.restore.history import At, find_entry, past_at, resolve
from outlast.sources.postgres.session import Target, connect
from outlast.vault.reader import TenantEntry, Vault

State = dict[str, dict[str, list[bytes]]]
"""Rows by tenant and table, sorted; what is empty is absent."""


@dataclass
class Truth:
    """What a database holds, asked of the server."""

    url: str
    owners: Mapping[str, str | None]
    moments: list[tuple[Lsn, State]] = field(default_factory=list)
    titles: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Where a table's printed name is no SQL: its quoted name, and the FROM clause that calls its rows `t`."""

    def state(self) -> State:
        found: State = {}
        with connect(Target(self.url), role="test") as connection:
            connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for table, owner in self.owners.items():
                title, source = self.titles.get(table, (table, f"{table} AS t"))
                columns = connection.execute(
                    b"SELECT string_agg('t.' || quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE"
                    b" attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
                    [title],
                ).fetchone()
                if columns is None or columns[0] is None:
                    continue
                query = f"COPY (SELECT {owner or 'NULL'}, {columns[0]} FROM {source}) TO STDOUT"
                with connection.cursor().copy(query.encode()) as copy:
                    for line in copy:
                        tenant, _, row = bytes(line).rstrip(b"\n").partition(b"\t")
                        key = SHARED if owner is None else ORPHAN if tenant == NULL else unescape(tenant).decode()
                        found.setdefault(key, {}).setdefault(table, []).append(row)
        return {tenant: {table: sorted(rows) for table, rows in tables.items()} for tenant, tables in found.items()}

    def note(self) -> Lsn:
        """Remember what is there now, and where in the log that is. Nothing may be committing meanwhile."""
        state = self.state()
        with connect(Target(self.url), role="test", autocommit=True) as connection:
            row = connection.execute(b"SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        lsn = Lsn.parse(str(row[0]))
        self.moments.append((lsn, state))
        return lsn


def stored(vault: Vault, at: str, tenants: Collection[str] | None = None, source: str = "main") -> State:
    """What the vault gives of tenants (None: of every one) at a moment, the reserved ones included."""
    found: State = {}
    moment = resolve(vault, source, at)
    for entry in _entries(vault, source, moment):
        if tenants is not None and entry.tenant.key not in tenants:
            continue
        past = past_at(vault, source, entry, moment)
        tables = {
            str(name): sorted(line for block in past.read(table) for line in block.splitlines())
            for name, table in past.tables.items()
        }
        tables = {name: rows for name, rows in tables.items() if rows}
        if tables:
            found[past.tenant.key] = tables
    return found


def compared(vault: Vault, truth: Truth, labels: Sequence[str] = (), ignore: Collection[str] = ()) -> None:
    """Hold every noted moment against the vault: tenants that are not as they were before it; at the last, all."""
    before: State = {}
    for number, (lsn, expected) in enumerate(truth.moments):
        last = number == len(truth.moments) - 1
        tenants = {key for key in expected.keys() | before.keys() if expected.get(key) != before.get(key)}
        found = stored(vault, str(lsn), None if last else tenants)
        found = {
            key: kept for key, held in found.items() if (kept := {name: held[name] for name in held.keys() - {*ignore}})
        }
        wrong = differences({key: expected[key] for key in expected if last or key in tenants}, found)
        told = labels[number] if number < len(labels) else f"moment {number}"
        assert not wrong, f"after {told!r} ({lsn}): {wrong}"
        before = expected


def _entries(vault: Vault, source: str, moment: At) -> list[TenantEntry]:
    """Every tenant that the vault knows at a moment, whether a run has it or only the log."""
    names = {entry.tenant.key for entry in vault.entries(source, moment.run.run)} - {SCHEMA}
    if moment.epoch is not None and moment.position is not None:
        names |= {tenant.key for tenant in moment.timeline.tenants(moment.epoch, moment.position).values()}
    found = []
    for name in sorted(names | {SHARED, ORPHAN}):
        with suppress(NotFoundError):  # a segment names tenants that come later in it
            found.append(find_entry(vault, source, name, moment))
    return found


def differences(expected: State, found: State) -> list[str]:
    lines = []
    for tenant in sorted(expected.keys() | found.keys()):
        ours, theirs = expected.get(tenant, {}), found.get(tenant, {})
        for table in sorted(ours.keys() | theirs.keys()):
            missing = [row for row in ours.get(table, []) if row not in theirs.get(table, [])]
            extra = [row for row in theirs.get(table, []) if row not in ours.get(table, [])]
            if ours.get(table, []) != theirs.get(table, []):
                lines.append(f"{tenant} {table}: the vault lacks {missing[:3]}, has {extra[:3]}")
    return lines
