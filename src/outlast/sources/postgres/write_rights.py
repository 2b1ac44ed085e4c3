"""What the role lacks for what it is asked to write beyond the tables that tenants own, and the SQL that gives it."""

from __future__ import annotations

import psycopg
from psycopg import sql

from outlast.core.errors import Refused
from outlast.core.table import Table
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement


def require_insert(connection: Session, table: Table) -> None:
    """Raise Refused where the session's role may not put rows into a shared table, with the GRANT that it needs."""
    wanted = {"table": table.oid, "columns": list(table.column_names)}
    try:
        row = connection.execute(statement("write_insert_right"), wanted).fetchone()
    except psycopg.Error as error:
        raise explain(error, f"ask what this role may do to table {table.name}") from error
    assert row is not None
    role, granted = row
    if granted:
        return
    grant = sql.SQL("GRANT INSERT ON TABLE {} TO {};").format(identifier(table.name), sql.Identifier(role))
    raise Refused(
        f"cannot put back shared rows of {table.name}: role {role} may not INSERT into it",
        hint=f"As the table's owner: {grant.as_string(connection)} Then again, and REVOKE it when all are back."
        " `outlast init --print-grants` has this for every shared table that may need it.",
        code="privilege",
    )
