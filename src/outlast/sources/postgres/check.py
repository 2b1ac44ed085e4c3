"""What this server and this role cannot do, and which promise that weakens: the facts behind `outlast check`.

Errors are what would stop a backup; a warning says which promise is weaker and why; the rest is information. What the
catalog itself makes necessary to say (unclassified tables, odd storage) is in notices.py and comes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from outlast.core.errors import OutlastError
from outlast.core.table import OwnershipKind, Table, TableName
from outlast.sources.postgres.agreement import CHECK_LIMIT_S, Asker, of_agreement
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.following import FollowingSettings
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.following_health import of_following
from outlast.sources.postgres.pooling import is_pooled
from outlast.sources.postgres.schema import Catalog, Notice
from outlast.sources.postgres.server import find_program
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement

CLOCK_DRIFT_MAX_S = 60.0
NAMED_MAX = 5
"""How many tables a notice names before it says how many more there are."""


@dataclass(frozen=True, slots=True)
class Powers:
    """What the connected role may do with one table."""

    may_use_schema: bool
    may_select: bool
    may_write: bool
    may_lock: bool
    hides_rows: bool


def check(
    connection: Session,
    catalog: Catalog,
    *,
    programs: Path | None = None,
    clock: Callable[[], float] = time.time,
    limit_s: float = CHECK_LIMIT_S,
    following: FollowingSettings | None = None,
) -> tuple[Notice, ...]:
    """Every notice for this database and role, the catalog's own included, errors first. `clock` gives seconds since
    1970; `programs` is a folder with pg_dump; `limit_s` is for comparing the paths of rows, which alone reads tables;
    `following` is what outlast.toml says of following this source. Raises SourceError where nothing can be read."""
    try:
        found = [
            *catalog.notices,
            *_of_privileges(connection, catalog),
            *_of_server(connection, clock),
            *_of_dump(connection, programs),
            *of_agreement(Asker(connection, limit_s), catalog),
            *of_following(connection, catalog, following or FollowingSettings("main", Names.of("main"))),
        ]
    except psycopg.Error as error:
        raise explain(error, "check the server") from error
    found += _of_indexes(catalog)
    found += _of_constraints(catalog)
    found += _of_encoding(catalog)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda notice: order[notice.level]))


def unreadable(connection: Session, tables: Iterable[Table]) -> tuple[TableName, ...]:
    """Those of the tables that the role may not read, and so pg_dump may not dump: what dump_schema must leave out."""
    known = tuple(tables)
    powers = _powers(connection, known)
    return tuple(
        table.name for table in known if not (powers[table.oid].may_select and powers[table.oid].may_use_schema)
    )


def _powers(connection: Session, tables: tuple[Table, ...]) -> Mapping[int, Powers]:
    rows = _ask(connection, "check_tables", {"tables": [table.oid for table in tables]})
    return {row[0]: Powers(*row[1:]) for row in rows}


def _ask(connection: Session, name: str, given: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    return connection.execute(statement(name), given).fetchall()


def _named(names: Iterable[object]) -> str:
    every = [str(name) for name in names]
    more = f" and {len(every) - NAMED_MAX} more" if len(every) > NAMED_MAX else ""
    return ", ".join(every[:NAMED_MAX]) + more


# Privileges ------------------------------------------------------------------------------------------------------


def _of_privileges(connection: Session, catalog: Catalog) -> Iterator[Notice]:
    protected = (*catalog.owned, *catalog.shared)
    powers = _powers(connection, protected)
    for table in protected:
        yield from _of_reading(table, powers[table.oid])
    partitions = _ask(connection, "check_partitions", {"tables": [table.oid for table in protected]})
    by_oid = {table.oid: table.name for table in protected}
    for root, count, example in partitions:
        yield Notice(
            "error",
            "privilege-partition",
            f"this role may not read {count} partitions of {by_oid[root]} by themselves (such as {example}), which "
            "pg_dump needs to dump their definition",
            "Run the SQL of `outlast init --print-grants`, which grants it on every partition and on later ones.",
            by_oid[root],
            "protect",
        )
    yield from _of_sequences(connection, catalog)
    yield from _of_writing(catalog, powers)
    unread = [table for table in catalog.tables if table.ownership.kind is OwnershipKind.IGNORED]
    left_out = [name for name in unreadable(connection, unread) if name not in _extension_tables(unread)]
    if left_out:
        yield Notice(
            "info",
            "definition-missing",
            f"the definition of {_named(left_out)} is not in the vault: the role may not read what is ignored",
            "GRANT SELECT on them if the schema must be whole.",
            promise="protect",
        )


def _extension_tables(tables: Iterable[Table]) -> frozenset[TableName]:
    return frozenset(table.name for table in tables if table.ownership.reason.startswith("belongs to the extension"))


def _of_reading(table: Table, powers: Powers) -> Iterator[Notice]:
    if not (powers.may_use_schema and powers.may_select):
        what = f"SELECT on {table.name}" if powers.may_use_schema else f"USAGE on schema {table.name.schema}"
        yield Notice(
            "error",
            "privilege",
            f"this role may not read {table.name}: it lacks {what}",
            "Run the SQL of `outlast init --print-grants`.",
            table.name,
            "protect",
        )
    elif powers.hides_rows:
        yield Notice(
            "error",
            "row-security",
            f"row-level security on {table.name} would hide rows from this role",
            "ALTER ROLE … BYPASSRLS, or back up as the owner of the table (without FORCE ROW LEVEL SECURITY).",
            table.name,
            "protect",
        )


def _of_sequences(connection: Session, catalog: Catalog) -> Iterator[Notice]:
    used = {use.sequence for use in catalog.sequences}
    hidden = [
        TableName(schema, name)
        for schema, name, may_read, _ in _ask(connection, "check_sequences")
        if not may_read and TableName(schema, name) in used
    ]
    if hidden:
        yield Notice(
            "warning",
            "privilege-sequence",
            f"this role may not read the sequences {_named(sorted(hidden))}",
            "Run the SQL of `outlast init --print-grants`.",
            promise="restore",
        )


def _of_writing(catalog: Catalog, powers: Mapping[int, Powers]) -> Iterator[Notice]:
    """Information only: the role that backs up should not be able to restore."""
    cannot_write = [table.name for table in catalog.owned if not powers[table.oid].may_write]
    cannot_lock = [table.name for table in catalog.shared if not powers[table.oid].may_lock]
    if cannot_write or cannot_lock:
        yield Notice(
            "info",
            "cannot-restore",
            f"this role may not restore: it may not write or lock {_named([*cannot_write, *cannot_lock])}",
            "Restore as outlast_restore of `outlast init --print-grants` (give its URL to the restore).",
            promise="restore",
        )


# Server ----------------------------------------------------------------------------------------------------------


def _of_server(connection: Session, clock: Callable[[], float]) -> Iterator[Notice]:
    before = clock()
    row = _ask(connection, "check_server")[0]
    after = clock()
    fsync, full_page_writes, checksums, snapshot_limit, *rest = row
    in_recovery, feedback, may_replicate, may_temp, superuser, _, server_clock, role = rest
    if fsync == "off" or full_page_writes == "off":
        yield Notice(
            "warning",
            "durability",
            "fsync or full_page_writes is off: a crash of this server may leave damaged rows, which backups then keep",
            "Turn both on.",
            promise="protect",
        )
    if checksums == "off":
        yield Notice(
            "info",
            "no-checksums",
            "data checksums are off: the server does not notice pages that its disk damaged",
            "pg_checksums --enable, with the server stopped.",
            promise="protect",
        )
    if snapshot_limit != "-1":
        yield Notice(
            "warning",
            "snapshot-limit",
            f"old_snapshot_threshold is {snapshot_limit}: a backup that takes longer fails",
            "Set it to -1.",
            promise="protect",
        )
    if in_recovery:
        yield Notice(
            "warning" if feedback == "off" else "info",
            "standby",
            "this server is a standby: a long read may be cancelled for replay, and nothing can be restored into it",
            "Set hot_standby_feedback on, or raise max_standby_streaming_delay; restore into the primary.",
            promise="protect",
        )
    drift_s = max(before - server_clock, server_clock - after, 0.0)
    if drift_s > CLOCK_DRIFT_MAX_S:
        yield Notice(
            "warning",
            "clock",
            f"the server's clock and this machine's differ by {drift_s:.0f} seconds: moments are told by the server's",
            "Let both follow a time server.",
            promise="restore",
        )
    if superuser:
        yield Notice(
            "info",
            "superuser",
            f"the role {role} is a superuser, and a backup needs far less",
            "`outlast init --print-grants` prints a role a job.",
        )
    yield from _of_restore(may_replicate=may_replicate, may_temp=may_temp)
    if is_pooled(connection):
        yield Notice(
            "warning",
            "pooler",
            "a connection pooler or proxy stands in between; it seems to keep sessions whole, as Outlast needs",
            "Give Outlast the server's own address (docs/OPERATIONS.md).",
            promise="protect",
        )


def _of_restore(*, may_replicate: bool, may_temp: bool) -> Iterator[Notice]:
    if not may_temp:
        yield Notice(
            "info",
            "no-temporary",
            "this role may not make temporary tables, which a restore stages its rows in",
            "GRANT TEMPORARY ON DATABASE … to the role that restores.",
            promise="restore",
        )
    if not may_replicate:
        yield Notice(
            "info",
            "no-replication-role",
            "this role may not set session_replication_role: user triggers fire during a restore, which is slower, and "
            "what they change is measured and may refuse it",
            "GRANT SET ON PARAMETER session_replication_role TO the role that restores, where the server allows it.",
            promise="restore",
        )


def _of_dump(connection: Session, programs: Path | None) -> Iterator[Notice]:
    try:
        find_program("pg_dump", connection.info.server_version // 10000, programs)
    except OutlastError as error:
        yield Notice("error", "no-pg-dump", error.message, error.hint, promise="protect")
    for kind, count, example in _ask(connection, "check_beyond"):
        if count:
            what, hint = _BEYOND[kind]
            names = f"{example}{f' and {count - 1} more' if count > 1 else ''}"
            yield Notice("info", f"beyond-{kind}", what.format(names), hint, promise="protect")


_BEYOND = {
    "subscription": ("the connection of subscription {} is not in the vault: only a superuser may read it", None),
    "user-mapping": (
        "the passwords of user mappings ({}) may not be in the vault",
        "Keep them where secrets are kept.",
    ),
    "c-function": ("the library of the C function {} is not in the vault", "Install it where you restore to."),
    "tablespace": ("the tablespace {} must exist where the schema is made again", None),
}


# Schema ----------------------------------------------------------------------------------------------------------


def _of_indexes(catalog: Catalog) -> Iterator[Notice]:
    leading: dict[TableName, set[str]] = {}
    for name, first in catalog.leading_columns:
        leading.setdefault(name, set()).add(first)
    for table in catalog.owned:
        path = table.ownership.path
        column = path[0].columns[0] if path else table.ownership.tenant_column
        wanted = path[0].columns if path else (column,)
        if column is not None and not leading.get(table.name, set()) & set(wanted):
            yield Notice(
                "warning",
                "unindexed-path",
                f"no index of {table.name} starts with {', '.join(str(one) for one in wanted)}, by which its rows find "
                "their tenant: reading one tenant reads the whole table",
                f"CREATE INDEX CONCURRENTLY ON {table.name} ({column}).",
                table.name,
                "restore",
            )
    owned = {table.name for table in catalog.owned}
    slow = sorted(
        {
            f"{key.table} ({', '.join(key.columns)})"
            for key in catalog.foreign_keys
            if not key.indexed and key.references in owned
        }
    )
    if slow:
        yield Notice(
            "info",
            "unindexed-foreign-key",
            f"no index for the foreign keys {_named(slow)}: undo and rewind, which delete rows, read all of them",
            "CREATE INDEX CONCURRENTLY on their columns.",
            promise="restore",
        )


def _of_constraints(catalog: Catalog) -> Iterator[Notice]:
    owned = {table.name for table in catalog.owned}
    always = sorted(
        {str(trigger.table) for trigger in catalog.triggers if trigger.enabled == "A"} & {str(n) for n in owned}
    )
    if always:
        yield Notice(
            "info",
            "always-trigger",
            f"triggers that are ENABLE ALWAYS fire during every restore: on {_named(always)}",
            None,
            promise="restore",
        )


def _of_encoding(catalog: Catalog) -> Iterator[Notice]:
    if catalog.encoding == "SQL_ASCII":
        yield Notice(
            "warning",
            "encoding",
            "the database's encoding is SQL_ASCII: its bytes are kept as they are, whatever text they mean",
            None,
            promise="protect",
        )
    elif catalog.encoding not in _ONE_TO_ONE:
        yield Notice(
            "warning",
            "encoding",
            f"the database's encoding is {catalog.encoding}, whose conversion to UTF-8 and back is not one to one for "
            "every character",
            "`outlast verify --live` and every restore compare what came back; convert the database to UTF8.",
            promise="restore",
        )


# Encodings of one byte a character, each of which has one code point, and UTF8 itself.
_ONE_TO_ONE = frozenset(
    {"UTF8", "KOI8R", "KOI8U"}
    | {f"LATIN{number}" for number in range(1, 11)}
    | {f"ISO_8859_{number}" for number in range(5, 9)}
    | {"WIN866", "WIN874", *(f"WIN{number}" for number in range(1250, 1259))}
)
