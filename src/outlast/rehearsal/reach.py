"""What a script can reach by its functions: whether any of them acts outside the transaction. Pure.

A function that opens a connection of its own (dblink), or a table that is another server's, does what no counter, no
lock and no ROLLBACK of ours knows. On a copy such ways are disarmed and reported; on production nothing can hold them,
so a script that can come to one is not run. Names are looked for as words: too much is found rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

UNTRUSTED = "untrusted_language"
"""Stands in the body of a function whose language may do anything (sql/run_functions.sql)."""

FOREIGN = "foreign_table"
"""Stands for the body of a table that is another server's, or that has one for a partition."""

_CALLS = (
    r"dblink\w*|pg_background_launch|http_get|http_post|pg_read_file|pg_read_binary_file|lo_import|lo_export"
    r"|pg_file_\w+|pg_terminate_backend|pg_cancel_backend|pg_reload_conf|pg_rotate_logfile|pg_switch_wal|pg_promote"
    r"|pg_wal_replay_\w+|pg_(?:create|copy|drop)_\w*replication_slot|pg_replication_\w+|pg_stat_reset\w*"
)
OUTSIDE = re.compile(
    rf"\b({_CALLS}|{UNTRUSTED}|{FOREIGN}|copy(?=\b[^;]*?\b(?:to|from)\s+(?:program\b|')))(?:\b|(?<=copy))",
    re.IGNORECASE,
)
"""Calls that act outside the transaction, by their names, and COPY with a program or a file of the server."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Reachable:
    """A function, view or foreign table that a script may come to, by its lower-case name. `fired_on` are the tables on
    which it is a trigger; `unasked`: a default, a policy or the like calls it."""

    name: str
    body: str
    fired_on: Sequence[str] | None = None
    unasked: bool = False


def outside_calls(text: str, reachable: Iterable[Reachable], touched: Set[str]) -> tuple[str, ...]:
    """How a script comes to calls outside: `function → dblink_exec`. `touched` are the tables that it writes."""
    bodies: dict[str, str] = {}
    waiting = set()
    for one in reachable:
        bodies[one.name] = f"{bodies.get(one.name, '')} {one.body}"
        if one.unasked or not touched.isdisjoint(one.fired_on or ()):
            waiting.add(one.name)
    waiting |= _words(text) & bodies.keys()
    found = []
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        body = bodies[name]
        if match := OUTSIDE.search(body):
            found.append(f"{name} → {match[1]}")
        waiting |= (_words(body) & bodies.keys()) - seen
    return tuple(sorted(found))


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
