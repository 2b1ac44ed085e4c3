"""What reaches out of a database, made harmless in a copy: dblink, foreign servers, a clone's subscriptions.

In a copy of ours subscriptions are never made (copy_schema.py), and a scheduler's worker does not run, since nothing is
preloaded. Attempts stand in the server's log; what is put into a scheduler's tables stands in the effect. Where the
system gives the server a place of its own (isolation.py), nothing is reached by any other way either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from outlast.core.effect import Effect
from outlast.rehearsal.observed import Attempt

NOWHERE = "/outlast/nothing-is-reached-from-a-rehearsal"
"""The host of every foreign server of a copy."""

_MARK = "outlast attempt: "
_DBLINK = ("dblink", "dblink_connect", "dblink_connect_u", "dblink_exec", "dblink_open", "dblink_send_query")
_FOREIGN = re.compile(r'ERROR:  could not connect to server "([^"]*)"')
_PUBLISHER = re.compile(r'ERROR:  (?:subscription "([^"]*)" )?could not connect to the publisher')
_PROGRAM = re.compile(r'ERROR:  program "([^"]*)" failed')
_JOBS = frozenset({"cron.job", "pgagent.pga_job", "pgagent.pga_jobstep", "pgagent.pga_schedule"})
"""Where schedulers keep their jobs."""
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
    return [*done, *_disarm_servers(connection), *_disarm_subscriptions(connection)]


def _disarm_servers(connection: psycopg.Connection[Any]) -> list[str]:
    """All that says where a server is gives way to one place where nothing is: an address would be taken before it, and
    a service may name one."""
    servers = connection.execute(
        "SELECT s.srvname, ARRAY(SELECT o.option_name FROM pg_catalog.pg_options_to_table(s.srvoptions) AS o)"
        " FROM pg_catalog.pg_foreign_server AS s JOIN pg_catalog.pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw"
        " WHERE w.fdwname IN ('postgres_fdw', 'dblink_fdw')"
    ).fetchall()
    for name, options in servers:
        changes = [sql.SQL("DROP {}").format(sql.Identifier(one)) for one in options if one in ("hostaddr", "service")]
        there = sql.SQL("SET" if "host" in options else "ADD")
        changes.append(sql.SQL("{} host {}").format(there, sql.Literal(NOWHERE)))
        connection.execute(
            sql.SQL("ALTER SERVER {} OPTIONS ({})").format(sql.Identifier(name), sql.SQL(", ").join(changes))
        )
    return [f"foreign server {name} is disarmed" for name, _ in servers]


def _disarm_subscriptions(connection: psycopg.Connection[Any]) -> list[str]:
    """A clone may have some. Without its slot's name one cannot be enabled again, and to drop it asks nobody."""
    names = connection.execute(
        "SELECT s.subname FROM pg_catalog.pg_subscription AS s WHERE s.subdbid = (SELECT d.oid"
        " FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())"
    ).fetchall()
    for (name,) in names:
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(sql.Identifier(name)))
    return [f"subscription {name} is disabled" for (name,) in names]


def attempts(log: Iterable[str]) -> tuple[Attempt, ...]:
    """What the script tried to reach, as the server's log tells it."""
    found: dict[Attempt, None] = {}
    for line in log:
        for pattern, kind in ((_FOREIGN, "foreign-server"), (_PROGRAM, "program")):
            if match := pattern.search(line):
                found[Attempt(kind, match[1])] = None
        if match := _ATTEMPT.search(line):
            found[Attempt(match[1], match[2])] = None
        if match := _PUBLISHER.search(line):
            found[Attempt("subscription", match[1] or "a publisher")] = None
    return tuple(found)


def scheduled(effect: Effect) -> tuple[Attempt, ...]:
    """What the script left for a scheduler to do: that happens later, and no rehearsal shows it."""
    tables = sorted({table for _, table, _ in effect.counts if table in _JOBS})
    return tuple(Attempt("cron", f"{table}: what a scheduler does later is not rehearsed") for table in tables)
