"""Bringing a kept copy to a later moment, by what changed in the vault since: rows only, by the chunks that differ.

A tenant that has neither a new head nor an entry in the log since is not looked at. Of the others the two states are
compared by their hashes, and only chunks that are not the same are read. Where the schema changed, or a table without a
key did, the copy is built anew: that is told by None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from outlast.core.errors import OutlastError
from outlast.core.row import key_of
from outlast.core.table import TableName
from outlast.core.tenant import SCHEMA, TenantKey
from outlast.rehearsal.copy import CopyFacts, chosen_entries, heads_of, open_superuser, set_sequences
from outlast.rehearsal.copy_data import copy_rows, past_of_entry, pin
from outlast.restore.difference import Layout
from outlast.restore.history import Past, PastTable
from outlast.restore.moments import At, resolve
from outlast.sources.postgres.query import identifier
from outlast.vault.reader import TenantEntry, Vault

_BYTES_MAX = 256 * 1024 * 1024
"""More than this is not brought forward: building anew is not slower then."""


@dataclass
class _Work:
    """Rows to be taken away, by key, and to be put in, by table."""

    layout: Layout
    gone: list[bytes] = field(default_factory=list)
    new: list[bytes] = field(default_factory=list)


@dataclass
class Changes:
    """All that is between two moments, for every tenant of the copy."""

    tables: dict[TableName, _Work] = field(default_factory=dict)
    counts: dict[tuple[TenantKey, str], int] = field(default_factory=dict)
    size_bytes: int = 0


def changes_since(vault: Vault, source: str, facts: CopyFacts, at: At) -> Changes | None:
    """What changed since the copy's moment. None where the copy must be built anew."""
    try:
        before = resolve(vault, source, facts.moment, None)
        if _schema_changed(vault, source, facts, before, at):
            return None
        return _changes(vault, source, facts, before, at)
    except OutlastError:
        return None  # that moment is gone, or inexact by now


def _schema_changed(vault: Vault, source: str, facts: CopyFacts, before: At, at: At) -> bool:
    heads = heads_of(entry for entry in vault.entries(source, at.run.run) if entry.tenant.key == SCHEMA)
    if any(facts.heads.get(prefix) != head for prefix, head in heads.items()):
        return True
    if at.epoch is None or at.position is None:
        return False
    begin = before.position or before.moment.low
    return any(
        change.end > begin for details in at.timeline.epochs.notable(at.epoch, at.position) for change in details.schema
    )


def _changes(vault: Vault, source: str, facts: CopyFacts, before: At, at: At) -> Changes | None:
    old = {entry.prefix: entry for entry in chosen_entries(vault, source, before, facts.only)}
    new = {entry.prefix: entry for entry in chosen_entries(vault, source, at, facts.only)}
    logged = set(_logged(before, at))
    heads = heads_of(new.values())
    found = Changes(counts=dict(facts.rows))
    for prefix in old.keys() | new.keys():
        if prefix in old and prefix in new and prefix not in logged and facts.heads.get(prefix) == heads.get(prefix):
            continue
        was = _tables(vault, before, old.get(prefix))
        now = _tables(vault, at, new.get(prefix))
        tenant = (new.get(prefix) or old[prefix]).tenant.key
        for name in was.keys() | now.keys():
            if not _compare(found, name, was.get(name), now.get(name)):
                return None
            rows = now[name][1].rows if name in now else 0
            found.counts[tenant, str(name)] = rows
        if found.size_bytes > _BYTES_MAX:
            return None
    return found


def _logged(before: At, at: At) -> Iterator[str]:
    """Tenants that the log names between the two moments."""
    for one in (before, at):
        if one.epoch is None:
            continue
        low = min(before.position or before.moment.low, at.position or at.moment.low)
        high = max(before.position or before.moment.high, at.position or at.moment.high)
        for header in one.epoch.headers:
            if header.position >= low and header.start <= high:
                yield from header.frames
                if header.folded is not None:
                    for transaction in one.timeline.epochs.details(header).transactions:
                        yield from transaction.effect


def _tables(vault: Vault, at: At, entry: TenantEntry | None) -> Mapping[TableName, tuple[Past, PastTable]]:
    if entry is None:
        return {}
    past = past_of_entry(vault, at, entry)
    return {name: (past, table) for name, table in past.tables.items() if table.pieces}


def _compare(
    found: Changes, name: TableName, was: tuple[Past, PastTable] | None, now: tuple[Past, PastTable] | None
) -> bool:
    """Note the rows of one table that differ. False where they cannot be told by a key."""
    old_pieces = [] if was is None else [piece.digest for piece in was[1].pieces]
    new_pieces = [] if now is None else [piece.digest for piece in now[1].pieces]
    if old_pieces == new_pieces:
        return True
    layout = (now or was)[1].layout  # type: ignore[index]
    if not layout.key or (was is not None and now is not None and was[1].layout != now[1].layout):
        return False
    old_rows = _rows(was, Counter(new_pieces))
    new_rows = _rows(now, Counter(old_pieces))
    gone, new = old_rows - new_rows, new_rows - old_rows
    work = found.tables.setdefault(name, _Work(layout))
    key = key_of(tuple(layout.columns.index(column) for column in layout.key))
    work.gone += [key(row) for row in gone]
    work.new += sorted(new)
    found.size_bytes += sum(map(len, gone)) + sum(map(len, new))
    return True


def _rows(side: tuple[Past, PastTable] | None, others: Counter[bytes]) -> set[bytes]:
    """The rows of the chunks that the other side does not have."""
    if side is None:
        return set()
    past, table = side
    numbers = []
    for number, piece in enumerate(table.pieces):
        if others[piece.digest] > 0:
            others[piece.digest] -= 1
        else:
            numbers.append(number)
    return {line for block in past.read(table, numbers) for line in block.splitlines(keepends=True)}


def bring_forward(url: str, facts: CopyFacts, changes: Changes, at: At, entries: list[TenantEntry]) -> CopyFacts:
    """Write the changes into the running copy: all that is gone first, then all that is new."""
    with closing(open_superuser(url)) as connection:
        pin(connection)
        with connection.transaction():
            for name, work in changes.tables.items():
                if work.gone:
                    _take_away(connection, name, work)
            for name, work in changes.tables.items():
                if work.new:
                    copy_rows(connection, name, work.layout.columns, work.new)
        set_sequences(connection)
    rows = {place: number for place, number in changes.counts.items() if number}
    return replace(
        facts,
        moment=at.text,
        as_of=at.moment.time,
        run=at.run.run,
        tenants={entry.tenant.key: entry.tenant for entry in entries},
        rows=rows,
        heads={**facts.heads, **heads_of(entries)},
    )


def _take_away(connection: psycopg.Connection[Any], name: TableName, work: _Work) -> None:
    columns = [sql.Identifier(column) for column in work.layout.key]
    listed = sql.SQL(", ").join(columns)
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE outlast_gone ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(
            listed, identifier(name)
        )
    )
    with connection.cursor().copy(sql.SQL("COPY pg_temp.outlast_gone ({}) FROM STDIN").format(listed)) as copy:
        copy.write(b"".join(key + b"\n" for key in work.gone))
    matches = sql.SQL(" AND ").join([sql.SQL("t.{} = g.{}").format(column, column) for column in columns])
    connection.execute(sql.SQL("SET LOCAL search_path = pg_catalog"))
    connection.execute(
        sql.SQL("DELETE FROM {} AS t USING pg_temp.outlast_gone AS g WHERE {}").format(identifier(name), matches)
    )
    connection.execute("DROP TABLE pg_temp.outlast_gone")
