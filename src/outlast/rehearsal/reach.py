"""What a script can reach by its functions: whether any of them acts outside the transaction. Pure.

A function that opens a connection of its own (dblink) does what no counter, no lock and no ROLLBACK of ours knows. On a
copy such calls are disarmed and reported; on production nothing can hold them, so a script that can come to one is not
run. Names are looked for as words: too much is found rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

UNTRUSTED = "untrusted_language"
"""Stands in the body of a function whose language may do anything (sql/run_functions.sql)."""

_CALLS = (
    r"dblink\w*|pg_background_launch|http_get|http_post|pg_read_file|pg_read_binary_file|lo_import|lo_export"
    r"|pg_file_\w+|pg_terminate_backend|pg_cancel_backend|pg_reload_conf|pg_rotate_logfile|pg_switch_wal|pg_promote"
    r"|pg_wal_replay_\w+|pg_(?:create|copy|drop)_\w*replication_slot|pg_replication_\w+|pg_stat_reset\w*"
)
OUTSIDE = re.compile(
    rf"\b({_CALLS}|{UNTRUSTED}|copy(?=\b[^;]*?\b(?:to|from)\s+(?:program\b|')))(?:\b|(?<=copy))", re.IGNORECASE
)
"""Calls that act outside the transaction, by their names, and COPY with a program or a file of the server."""

_WORD = re.compile(r"\w+")


def outside_calls(text: str, fired: Iterable[str], functions: Mapping[str, str]) -> tuple[str, ...]:
    """How a script comes to calls outside: `function → dblink_exec`. `functions` are all bodies of the database by
    lower-case name; `fired` names those that run without being called: triggers', defaults', policies' and so on."""
    found = []
    seen: set[str] = set()
    waiting = sorted({word.lower() for word in _WORD.findall(text)} & functions.keys() | set(fired))
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        body = functions[name]
        if match := OUTSIDE.search(body):
            found.append(f"{name} → {match[1]}")
        waiting += [word for word in {one.lower() for one in _WORD.findall(body)} if word in functions]
    return tuple(sorted(found))
