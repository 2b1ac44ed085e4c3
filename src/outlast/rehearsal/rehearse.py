"""One rehearsal from the vault to the verdict: a copy, a trial on it, what was seen, and what that is worth.

Production is not touched, and not even asked. The copy is gone when this returns, however it returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from outlast.capture.garbage import rare_collections
from outlast.core.intent import Intent
from outlast.rehearsal.copy import Copy, age_s
from outlast.rehearsal.observe import Observation
from outlast.rehearsal.observed import Circumstances, Doubt, Inconclusive, Observed
from outlast.rehearsal.script import Script
from outlast.rehearsal.trial import (
    CommandPerformance,
    Performance,
    ScriptPerformance,
    check_role,
    role_settings,
)
from outlast.rehearsal.verdict import Verdict, judge
from outlast.sources.postgres.catalog import OwnershipSettings
from outlast.sources.postgres.isolation import may_hide
from outlast.sources.postgres.schema import Catalog

Say = Callable[[str], None]


class Supplying(Protocol):
    """Gives fresh copies: from the vault (supply.py), or clones (clone.py). `seconds` is filled as that takes time."""

    seconds: dict[str, float]
    log_all: bool

    def say(self, text: str, /) -> None: ...

    def copy(self) -> AbstractContextManager[tuple[Copy, Path]]: ...


@dataclass(frozen=True)
class Request:
    """What is to be rehearsed, on what and as whom. Either `script` or `command`."""

    source: str
    settings: OwnershipSettings
    role: str
    script: Script | None = None
    command: tuple[str, ...] = ()
    intent: Intent | None = None
    twice: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """What came of it. `seconds` by step."""

    observed: Observed
    verdict: Verdict
    catalog: Catalog  # the copy's, before the script
    again: Observed | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def rehearse(supply: Supplying, request: Request) -> Rehearsal:
    """Rehearse once, or twice on two fresh copies. Raises what building the copy raises."""
    seconds: dict[str, float] = {}
    observed, catalog = _once(supply, request, seconds)
    again = None
    if request.twice:
        again, _ = _once(supply, request, {})
        observed = replace(observed, inconclusive=(*observed.inconclusive, *differences(observed, again)))
    refusals = request.script.refusals if request.script is not None else ()
    if request.script is not None:
        observed = replace(observed, unguarded=tuple(one.kind for one in request.script.unguarded))
    return Rehearsal(observed, judge(observed, request.intent, refusals=refusals), catalog, again, seconds)


def _once(supply: Supplying, request: Request, seconds: dict[str, float]) -> tuple[Observed, Catalog]:
    started = time.monotonic()
    supply.seconds, supply.log_all = seconds, request.script is None
    with supply.copy() as (copy, folder):
        return _watched(copy, request, folder, started, seconds, supply.say)


def _watched(
    copy: Copy, request: Request, folder: Path, started: float, seconds: dict[str, float], say: Say
) -> tuple[Observed, Catalog]:
    with Observation(copy, request.settings, folder, _needs_aside(request), seconds) as observation:
        check_role(observation.watch, request.role)
        url = copy.url_of(request.role)
        circumstances = Circumstances(
            request.source,
            copy.facts.moment,
            copy.facts.as_of,
            age_s(copy.facts),
            copy.kind,
            _version(copy),
            request.role,
            role_settings(url),
            request.command,
            copy.facts.only,
            copy.isolated and may_hide(),
            copy.cached,
        )
        seconds["before the script"] = time.monotonic() - started
        say(f"Running it as {request.role} …")
        with rare_collections():
            observed = observation.run(_performance(request, isolated=copy.isolated), url, circumstances)
        return observed, observation.catalog


_WRITES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "SET"})


def _needs_aside(request: Request) -> bool:
    """Whether the script may do more than write rows, as far as its statements tell."""
    return request.script is None or not {one.kind for one in request.script.statements} <= _WRITES


def _performance(request: Request, *, isolated: bool) -> Performance:
    if request.script is not None:
        return ScriptPerformance(request.script)
    return CommandPerformance(request.command, isolated)


def _version(copy: Copy) -> str:
    import psycopg

    with psycopg.connect(copy.url) as connection:
        major, minor = divmod(connection.info.server_version, 10000)
    return f"PostgreSQL {major}.{minor}"


def differences(first: Observed, second: Observed) -> Sequence[Inconclusive]:
    """Where two runs on equal copies did not do the same: what is not repeatable on a copy is not on production."""
    found = []
    one, two = first.effect.counts, second.effect.counts
    for tenant, table, operation in sorted(one.keys() | two.keys()):
        place = (tenant, table, operation)
        was = one[place].rows if place in one else 0
        now = two[place].rows if place in two else 0
        if was != now:
            what = f"{table} {operation.value} of tenant {tenant}: {was:,} rows, then {now:,}"
            found.append(Inconclusive(Doubt.REPEAT, what))
    keys = [{table.table: [row.key for row in table.rows] for table in seen.touched} for seen in (first, second)]
    for table in sorted(keys[0].keys() & keys[1].keys()):
        if not found and keys[0][table] != keys[1][table]:
            found.append(Inconclusive(Doubt.REPEAT, f"{table}: other rows the second time"))
    if first.schema != second.schema:
        found.append(Inconclusive(Doubt.REPEAT, "the schema: other changes the second time"))
    return found
