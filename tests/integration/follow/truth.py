"""Two states of the same database held against each other: what the server says it is, and what the vault gives.

The server is its own model. `owners` says in SQL, without any code of Outlast's, whose a row `t` of each table is: an
expression that gives the tenant's key, NULL for an orphan; None for a shared table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from outlast.core.errors import NotFoundError
from outlast.core.moment import Lsn
from outlast.core.tenant import ORPHAN, SCHEMA, SHARED
from outlast.restore.history import At, all_entries, find_entry, past_at, resolve
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

    def state(self) -> State:
        found: State = {}
        with connect(Target(self.url), role="test") as connection:
            connection.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for table, owner in self.owners.items():
                columns = connection.execute(
                    b"SELECT string_agg('t.' || quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE"
                    b" attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
                    [table],
                ).fetchone()
                if columns is None or columns[0] is None:
                    continue
                query = f"COPY (SELECT {owner or 'NULL'}, {columns[0]} FROM {table} t) TO STDOUT"
                with connection.cursor().copy(query.encode()) as copy:
                    for line in copy:
                        tenant, _, row = bytes(line).rstrip(b"\n").partition(b"\t")
                        key = SHARED if owner is None else ORPHAN if tenant == b"\\N" else tenant.decode()
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


def _entries(vault: Vault, source: str, moment: At) -> list[TenantEntry]:
    entries = {entry.tenant.key: entry for entry in all_entries(vault, source, moment)}
    for reserved in (SHARED, ORPHAN):
        with suppress(NotFoundError):
            entries.setdefault(reserved, find_entry(vault, source, reserved, moment))
    entries.pop(SCHEMA, None)
    return list(entries.values())


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
