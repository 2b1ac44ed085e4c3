"""The event triggers that write schema changes into the log: their SQL, and what of it is missing. Pure.

They stand in a schema of their own, `outlast`, and are shared by everybody who follows this database. Whatever happens
inside them, the application's DDL goes on: each has a handler for every error, and takes no lock on any table.
"""

from __future__ import annotations

import json
import re
from functools import cache

from psycopg import sql

from outlast.sources.postgres.following_facts import MARK, EventFacts, FollowingFacts
from outlast.sources.postgres.following_plan import Step
from outlast.sources.postgres.statements import statement

SCHEMA = "outlast"
MARKED = json.dumps({"outlast": 1})

_TAGS = (
    "CREATE TABLE",
    "CREATE TABLE AS",
    "SELECT INTO",
    "ALTER TABLE",
    "CREATE INDEX",
    "CREATE FOREIGN TABLE",
    "ALTER FOREIGN TABLE",
    "IMPORT FOREIGN SCHEMA",
    "CREATE SCHEMA",
    "ALTER SCHEMA",
    "CREATE EXTENSION",
    "ALTER EXTENSION",
    "ALTER TYPE",
    "ALTER DOMAIN",
    "CREATE PUBLICATION",
    "ALTER PUBLICATION",
)

_TRIGGERS = {
    "outlast_schema_changed": ("schema_changed", "ddl_command_end", _TAGS),
    "outlast_schema_dropped": ("schema_dropped", "sql_drop", ()),
    "outlast_schema_rewritten": ("schema_rewritten", "table_rewrite", ()),
}
_GUARD = "schema_guard"
FUNCTIONS = (*(function for function, _, _ in _TRIGGERS.values()), _GUARD)

# On these the text of a column's missing value depends, as a row's does (session.py).
_PINNED = (
    "search_path = pg_catalog, pg_temp",
    "DateStyle = 'ISO, YMD'",
    "IntervalStyle = postgres",
    "TimeZone = 'UTC'",
    "bytea_output = hex",
    "extra_float_digits = 3",
    "lc_monetary = 'C'",
    "jit = off",  # it would take longer than all the rest
    "lock_timeout = '100ms'",  # the guard alters publications; nobody's DDL may wait for that
)

_MISSED = """BEGIN
        PERFORM pg_catalog.pg_logical_emit_message(true, 'outlast.schema', pg_catalog.convert_to(
            pg_catalog.json_build_object('event', 'missed', 'command', tg_tag, 'because', sqlstate)::text, 'UTF8')),
            <filler>;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'outlast: a schema change (%) could not be written to the log: %', tg_tag, sqlstate;
    END;"""

# A message counts as standing where its record *ends*, a row's change where its record begins. Ours come from a
# subtransaction (the handler makes one), whose records the server merges with the others by that position: without a
# record in between, the change that follows a message would be told before it.
_FILLER = "pg_catalog.pg_logical_emit_message(true, 'outlast.filler', ''::text)"


def plain(name: str) -> str:
    """A named statement's text without its heading."""
    text = statement(name).decode()
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("--"))


def shape_query(touched: str) -> str:
    """A query that gives (oid, shape) for the relations that the query `touched` gives."""
    return plain("schema_shape").replace("<touched>", touched)


@cache
def _body(function: str) -> str:
    text = plain(function.replace("schema_", "schema_trigger_"))
    text = text.replace("<missed>", _MISSED).replace("<filler>", _FILLER)
    return re.sub(r"<shape: ([^>]*)>", lambda match: shape_query(match[1]), text)


def _function(function: str, returns: str = "event_trigger") -> tuple[str, ...]:
    return (
        f"CREATE OR REPLACE FUNCTION {SCHEMA}.{function}() RETURNS {returns} LANGUAGE plpgsql SECURITY DEFINER "
        + " ".join(f"SET {setting}" for setting in _PINNED)
        + f" AS {sql.Literal(_body(function)).as_string(None)}",
        f"REVOKE ALL ON FUNCTION {SCHEMA}.{function}() FROM PUBLIC",
    )


def _create(trigger: str) -> tuple[str, ...]:
    function, event, tags = _TRIGGERS[trigger]
    when = f" WHEN TAG IN ({', '.join(sql.Literal(tag).as_string(None) for tag in tags)})" if tags else ""
    return (
        *_function(function),
        f"DROP EVENT TRIGGER IF EXISTS {trigger}",
        f"CREATE EVENT TRIGGER {trigger} ON {event}{when} EXECUTE FUNCTION {SCHEMA}.{function}()",
        f"ALTER EVENT TRIGGER {trigger} ENABLE ALWAYS",
    )


def missing(events: EventFacts) -> list[str]:
    """The triggers that are not there as this version of Outlast makes them."""
    return [
        trigger
        for trigger, (function, _, tags) in _TRIGGERS.items()
        if events.functions.get(function) != _body(function)
        or events.functions.get(_GUARD) != _body(_GUARD)
        or trigger not in events.triggers
        or events.triggers[trigger] != ("A", ",".join(tags))
    ]


def plan(facts: FollowingFacts) -> tuple[tuple[Step, ...], str | None]:
    """The step that makes what is missing, if this role may, and otherwise what to say."""
    events, server = facts.events, facts.server
    wanted = missing(events)
    if not wanted:
        return (), None if server.event_triggers else _OFF
    if not server.has_plpgsql:
        return (), f"there is no language plpgsql, so no event trigger: {DEGRADED}"
    if events.schema_oid and not (events.may_use_schema or events.owner_trusted):
        return (), f"the schema {SCHEMA} belongs to {events.schema_owner}, so no event trigger goes there: {DEGRADED}"
    statements: list[str] = []
    if not events.schema_oid:
        statements += [f"CREATE SCHEMA {SCHEMA}", f"COMMENT ON SCHEMA {SCHEMA} IS {_quoted(MARKED)}"]
    if events.functions.get(_GUARD) != _body(_GUARD):
        statements += _function(_GUARD, "void")
    for trigger in wanted:
        statements += _create(trigger)
    step = Step(
        "schema events",
        f"make the event triggers {', '.join(wanted)}: every change of a table's definition is written into the log",
        tuple(statements),
        "none on any table",
        f"a millisecond or two for each DDL command, never its failure. {'' if server.superuser else _TRIED}"
        f"Without them {DEGRADED}",
        optional=True,
    )
    return (step,), None


DEGRADED = (
    "schema changes are found by looking at the catalog once a minute: moments around one are inexact and refused, "
    "and a DROP is seen after it"
)
# No right says so beforehand: services that have no superuser let a role of theirs make event triggers.
_TRIED = "Only a superuser may make event triggers, or whom a managed service lets: it is tried. "
_OFF = f"event_triggers is off on this server: {DEGRADED}"


def removal(events: EventFacts) -> tuple[str, ...]:
    """What takes them away again; the schema goes with them if setup made it and nothing else is in it."""
    statements = [f"DROP EVENT TRIGGER IF EXISTS {name}" for name in _TRIGGERS if name in events.triggers]
    statements += [f"DROP FUNCTION IF EXISTS {SCHEMA}.{name}()" for name in FUNCTIONS if name in events.functions]
    alone = set(events.functions) <= set(FUNCTIONS) and not events.has_more
    if events.schema_oid and events.comment.startswith(MARK) and alone:
        statements.append(f"DROP SCHEMA {SCHEMA}")
    return tuple(statements)


def _quoted(text: str) -> str:
    return sql.Literal(text).as_string(None)
