"""What reaches out of a database, made harmless in a copy: dblink, foreign servers. Attempts stand in the server's log.

Subscriptions are never made (copy_schema.py), and a scheduler's worker does not run, since nothing is preloaded. Where
the system gives the server a place of its own (isolation.py), nothing is reached by any other way either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from outlast.rehearsal.observed import Attempt

NOWHERE = "/outlast/nothing-is-reached-from-a-rehearsal"
"""The host of every foreign server of a copy."""

_MARK = "outlast attempt: "
_DBLINK = ("dblink", "dblink_connect", "dblink_connect_u", "dblink_exec", "dblink_open", "dblink_send_query")
_FOREIGN = re.compile(r'ERROR:  could not connect to server "([^"]*)"')
_PROGRAM = re.compile(r'ERROR:  program "([^"]*)" failed')
_ATTEMPT = re.compile(re.escape(_MARK) + r"([a-z-]+) (.*)")


def disarm(connection: psycopg.Connection[Any]) -> list[str]:
    """Disarm what is there; returns what that was, in words."""
    done = []
    functions = connection.execute(
        "SELECT p.oid::regprocedure::text, n.nspname, p.proname, pg_get_function_identity_arguments(p.oid),"
        " pg_get_function_result(p.oid) FROM pg_catalog.pg_proc AS p"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace"
        " JOIN pg_catalog.pg_depend AS d"
        " ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'"
        " JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'dblink' WHERE p.proname = ANY (%s)",
        [list(_DBLINK)],
    ).fetchall()
    for _, schema, name, arguments, result in functions:
        body = f"BEGIN RAISE LOG '{_MARK}dblink {name}'; RAISE EXCEPTION 'dblink is disarmed in a rehearsal'; END"
        connection.execute(
            sql.SQL("CREATE OR REPLACE FUNCTION {}({}) RETURNS {} LANGUAGE plpgsql AS {}").format(
                sql.Identifier(schema, name), sql.SQL(arguments), sql.SQL(result), sql.Literal(body)
            )
        )
    if functions:
        done.append("dblink is disarmed")
    servers = connection.execute(
        "SELECT s.srvname, s.srvoptions::text LIKE '%host=%' FROM pg_catalog.pg_foreign_server AS s"
        " JOIN pg_catalog.pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw"
        " WHERE w.fdwname IN ('postgres_fdw', 'dblink_fdw')"
    ).fetchall()
    for name, has_host in servers:
        connection.execute(
            sql.SQL("ALTER SERVER {} OPTIONS ({} host {})").format(
                sql.Identifier(name), sql.SQL("SET" if has_host else "ADD"), sql.Literal(NOWHERE)
            )
        )
        done.append(f"foreign server {name} is disarmed")
    return done


def attempts(log: Iterable[str]) -> tuple[Attempt, ...]:
    """What the script tried to reach, as the server's log tells it."""
    found: dict[Attempt, None] = {}
    for line in log:
        for pattern, kind in ((_FOREIGN, "foreign-server"), (_PROGRAM, "program")):
            if match := pattern.search(line):
                found[Attempt(kind, match[1])] = None
        if match := _ATTEMPT.search(line):
            found[Attempt(match[1], match[2])] = None
    return tuple(found)
