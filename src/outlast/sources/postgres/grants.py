"""Least privilege as SQL: one role a job, so that what takes backups cannot write, and what restores is not the owner.

The text is for a person to read and run as the tables' owner or a superuser, more than once if tables have come since.
Tables are named one by one, as they are classified; partitions are found where the SQL runs, for there may be
thousands and new ones every day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from outlast.core.table import Table, TableName
from outlast.sources.postgres.halt import functions
from outlast.sources.postgres.schema import Catalog

BACKUP, FOLLOW, RESTORE, HALT = "outlast_backup", "outlast_follow", "outlast_restore", "outlast_halt"
ROLES = (BACKUP, FOLLOW, RESTORE, HALT)


def print_grants(catalog: Catalog, halted: Sequence[str] = ()) -> str:
    """The SQL for the four roles. `halted` names the application's roles that outlast_halt may shut out."""
    parts = [_HEADER, _backup(catalog), _follow(catalog), _restore(catalog), _halt(halted)]
    return "\n".join(parts)


_HEADER = """\
-- Outlast: one role a job, each with the least it needs. Read it, then run it in this database as the tables' owner
-- or a superuser. It may be run again after tables were added. No role has a password yet: give each one with
-- \\password ROLE in psql, and only to the machine that does that job.
"""


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)


def _name(name: TableName) -> str:
    return sql.Identifier(name.schema, name.name).as_string(None)


def _column(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _block(body: str) -> str:
    """An anonymous block, quoted as a literal, so that no name in it can end it."""
    return f"DO {_literal(body)};"


def _role(role: str, catalog: Catalog) -> list[str]:
    create = (
        f"BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {_literal(role)}) "
        f"THEN CREATE ROLE {role} LOGIN; END IF; END"
    )
    return [_block(create), f"GRANT CONNECT ON DATABASE {_column(catalog.database)} TO {role};"]


def _schemas(names: Iterable[TableName], role: str) -> list[str]:
    return [f"GRANT USAGE ON SCHEMA {_column(schema)} TO {role};" for schema in sorted({name.schema for name in names})]


def _on_tables(privileges: str, tables: Iterable[Table], role: str) -> list[str]:
    return [f"GRANT {privileges} ON TABLE {_name(table.name)} TO {role};" for table in tables]


def _sequences(catalog: Catalog) -> list[TableName]:
    return sorted({use.sequence for use in catalog.sequences})


def _protected(catalog: Catalog) -> list[Table]:
    return sorted([*catalog.owned, *catalog.shared], key=lambda table: table.name)


def _row_security(tables: Iterable[Table], role: str) -> str:
    """BYPASSRLS only where a policy would hide rows: it is a power over the whole database, and not all may give it."""
    names = ", ".join(_literal(_name(table.name)) for table in tables)
    return _block(
        "BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relrowsecurity "
        f"AND c.oid = ANY (ARRAY[{names}]::pg_catalog.regclass[]::pg_catalog.oid[])) "
        f"THEN ALTER ROLE {role} BYPASSRLS; END IF; END"
    )


def _reading(catalog: Catalog, role: str) -> list[str]:
    """What reads everything and writes nothing: tables, sequences, and the partitions for pg_dump."""
    tables = _protected(catalog)
    sequences = _sequences(catalog)
    return [
        *_role(role, catalog),
        f"ALTER ROLE {role} SET default_transaction_read_only = on;",
        *_schemas([*(table.name for table in tables), *sequences], role),
        *_on_tables("SELECT", tables, role),
        *(f"GRANT SELECT ON SEQUENCE {_name(sequence)} TO {role};" for sequence in sequences),
        *(_partitions(table, role) for table in tables if table.partitioned),
        _row_security(tables, role),
    ]


def _backup(catalog: Catalog) -> str:
    tables = _protected(catalog)
    lines = ["-- Back up: reads every table that is owned or shared, and writes nothing.", *_reading(catalog, BACKUP)]
    lines += [
        "-- A table that is added later stops the backup until it is in outlast.toml and granted here. To grant",
        "-- reading in advance, run this for each role that makes tables:",
        *(
            f"--   ALTER DEFAULT PRIVILEGES FOR ROLE … IN SCHEMA {_column(schema)} GRANT SELECT ON TABLES TO {BACKUP};"
            for schema in sorted({table.name.schema for table in tables})
        ),
        "-- On a standby, the timeline is seen only with: GRANT pg_read_all_stats TO outlast_backup;",
        "",
    ]
    return "\n".join(lines)


def _partitions(table: Table, role: str) -> str:
    """pg_dump locks each partition, and partitions come every day: those that exist, and by default those to come."""
    root = _literal(_name(table.name))
    return _block(_PARTITIONS.replace("<root>", root).replace("<role>", role))


_PARTITIONS = """\
DECLARE part pg_catalog.regclass; parent pg_catalog.pg_class;
BEGIN
    FOR part IN SELECT relid FROM pg_catalog.pg_partition_tree(<root>) LOOP
        EXECUTE pg_catalog.format('GRANT SELECT ON TABLE %s TO <role>', part);
    END LOOP;
    SELECT * INTO parent FROM pg_catalog.pg_class WHERE oid = <root>::pg_catalog.regclass;
    EXECUTE pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %s GRANT SELECT ON TABLES TO <role>',
                              pg_catalog.pg_get_userbyid(parent.relowner),
                              parent.relnamespace::pg_catalog.regnamespace);
END"""


def _follow(catalog: Catalog) -> str:
    lines = [
        "-- Follow: what backing up may (a baseline is a backup), and the log through a replication slot of its own.",
        "-- The publications are made by the tables' owner (`outlast follow --setup`, as setup_url says).",
        "-- REPLICATION sees the changes of every table of the server: give this role to that machine alone.",
        *_reading(catalog, FOLLOW),
        _block(_REPLICATION.replace("<role>", FOLLOW)),
        "",
    ]
    return "\n".join(lines)


# Amazon RDS has a role in place of the attribute; elsewhere a superuser gives it, or the service's own administrator.
_REPLICATION = """\
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_replication') THEN
        GRANT rds_replication TO <role>;
    ELSE
        ALTER ROLE <role> REPLICATION;
    END IF;
END"""


def _restore(catalog: Catalog) -> str:
    owned = sorted(catalog.owned, key=lambda table: table.name)
    shared = sorted(catalog.shared, key=lambda table: table.name)
    sequences = _sequences(catalog)
    lines = [
        "-- Restore: writes the tables that tenants own. Shared rows are only read and locked (FOR KEY SHARE), for",
        "-- which PostgreSQL asks for UPDATE on one column at least: the key, which foreign keys hold in place.",
        *_role(RESTORE, catalog),
        f"GRANT TEMPORARY ON DATABASE {_column(catalog.database)} TO {RESTORE};",
        *_schemas([*(table.name for table in (*owned, *shared)), *sequences], RESTORE),
        *_on_tables("SELECT, INSERT, UPDATE, DELETE", owned, RESTORE),
    ]
    for table in shared:
        lock = f"UPDATE ({', '.join(_column(name) for name in table.key)})" if table.key else "UPDATE"
        lines.append(f"GRANT SELECT, {lock} ON TABLE {_name(table.name)} TO {RESTORE};")
    lines += [f"GRANT SELECT, USAGE, UPDATE ON SEQUENCE {_name(sequence)} TO {RESTORE};" for sequence in sequences]
    lines += [
        _row_security([*owned, *shared], RESTORE),
        *_putting_back_shared(catalog),
        "-- Optional, superuser only: lets a restore put rows back without the users' triggers firing, where sound.",
        f"--   GRANT SET ON PARAMETER session_replication_role TO {RESTORE};",
        "",
    ]
    return "\n".join(lines)


def _putting_back_shared(catalog: Catalog) -> list[str]:
    """Not granted as a rule: what takes tenants' rows in hand every day must not add to what all tenants share."""
    tables = [_name(name) for name in sorted(_pointed_at(catalog))]
    if not tables:
        return []
    return [
        "-- Optional, for `restore --with-shared` only: puts back shared rows that are gone and that tenants' rows",
        "-- point at. Grant it on the table that the refusal names, for the time of that restore, then take it away:",
        *(f"--   GRANT INSERT ON TABLE {table} TO {RESTORE};" for table in tables),
        *(f"--   REVOKE INSERT ON TABLE {table} FROM {RESTORE};" for table in tables),
    ]


def _pointed_at(catalog: Catalog) -> set[TableName]:
    """Shared tables that owned ones point at, and those that these point at in turn."""
    shared = {table.name for table in catalog.shared}
    found: set[TableName] = set()
    fresh = {table.name for table in catalog.owned}
    while fresh:
        fresh = {key.references for key in catalog.foreign_keys if key.table in fresh and key.references in shared}
        fresh -= found
        found |= fresh
    return found


def _halt(halted: Sequence[str]) -> str:
    """Functions with their definer's rights: NOLOGIN and CREATEROLE by themselves would be powers over every role."""
    create = (
        f"BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {_literal(HALT)}) "
        f"THEN CREATE ROLE {HALT} LOGIN; END IF; END"
    )
    calls = ("halt_roles()", "halt_shut_out(name, text)", "halt_let_in(name)", "halt_end(text[])")
    return "\n".join(
        [
            "-- Halt: may do one thing, shut out the roles that halt_roles() names, and let them in again.",
            "-- Run this part as a superuser, or as a role that may ALTER those roles and has pg_signal_backend and",
            "-- pg_read_all_stats: the functions act with that role's rights.",
            *([] if halted else ["-- Name the roles between the brackets of ARRAY[]; as it stands it halts nobody."]),
            _block(create),
            "CREATE SCHEMA IF NOT EXISTS outlast;",
            functions("outlast", halted, definer=True),
            *(f"REVOKE ALL ON FUNCTION outlast.{call} FROM PUBLIC;" for call in calls),
            f"GRANT USAGE ON SCHEMA outlast TO {HALT};",
            *(f"GRANT EXECUTE ON FUNCTION outlast.{call} TO {HALT};" for call in calls),
            "",
        ]
    )
