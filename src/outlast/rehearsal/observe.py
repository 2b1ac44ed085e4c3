"""Observing a script on a copy: all it does, read from the copy's log by the decoder that `follow` uses, and beside it
what no decoding can see.

The log is read while the script runs. Its effect is complete when a marker that is written after the script's end has
come out of the log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from outlast.capture.routes import Tables, look
from outlast.capture.routing import Router
from outlast.core.effect import Effect
from outlast.core.errors import OutlastError, SourceError
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal import state
from outlast.rehearsal.cascades import Cascades
from outlast.rehearsal.copy import Copy
from outlast.rehearsal.disarming import attempts, scheduled
from outlast.rehearsal.instruments import END, SLOT, computed_columns, read_tables, read_watch, tampered
from outlast.rehearsal.observed import (
    Alteration,
    Attempt,
    Circumstances,
    Doubt,
    Inconclusive,
    Observed,
    SchemaChange,
)
from outlast.rehearsal.reach import Reachable, outside_calls
from outlast.rehearsal.reading import Reader
from outlast.rehearsal.routes import ROUTES, Routes, set_aside
from outlast.rehearsal.said import Said, statements_in
from outlast.rehearsal.tally import Dropped, Tally
from outlast.rehearsal.trial import Performance, Trial
from outlast.sources.postgres.catalog import OwnershipSettings
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Target, connect
from outlast.sources.postgres.slot import drop_slot
from outlast.sources.postgres.slot_making import create_slot
from outlast.sources.postgres.statements import statement


@dataclass
class Observation:
    """One copy, ready to be watched. Open with `with`; `run` once. `aside`: see routes.py."""

    copy: Copy
    settings: OwnershipSettings
    folder: Path
    aside: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    _closing: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Observation:
        started = time.monotonic()
        with self._closing as stack:
            target = Target(self.copy.url)
            self.watch = stack.enter_context(closing(_session(self.copy.url)))
            self._before = state.read_state(self.watch)
            self._watch = read_watch(self.watch)
            self._reachable = [Reachable(*row) for row in self.watch.execute(statement("run_functions"))]
            with closing(connect(target, role="rehearse", autocommit=True)) as session, session.transaction():
                self._tables = look(session, self.settings, Names(SLOT))
            if self.aside:
                set_aside(self.watch, self._tables.plan)
            asking = stack.enter_context(closing(connect(target, role="rehearse")))
            with create_slot(target, SLOT) as slot:
                asking.isolation_level = None if self.aside else psycopg.IsolationLevel.REPEATABLE_READ
                if not self.aside:
                    asking.execute(f"SET TRANSACTION SNAPSHOT '{slot.snapshot}'".encode())
            stack.callback(_drop, target)
            key = secrets.token_bytes(32)
            opened = stack.enter_context(ExitStack())

            def fresh() -> Tally:
                """A tally that has counted nothing, and routes of before the script."""
                opened.close()
                for left in self.folder.glob(f"{ROUTES}*"):
                    left.unlink()
                self._routes = opened.enter_context(
                    Routes.opened(self.folder, self._tables.plan, asking, aside=self.aside, key=key)
                )
                return self._tally()

            self._reader = Reader(target, slot.consistent, fresh, self.folder)
            self._closing = stack.pop_all()
        self.seconds["prepare"] = time.monotonic() - started
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.stop()
        self._closing.close()

    @property
    def catalog(self) -> Catalog:
        """The copy's, before the script."""
        return self._tables.catalog

    def _tally(self) -> Tally:
        tables, map_, numbers = self._tables, self._routes, self._routes.numbers
        return Tally(
            lambda sink: Router(tables.plan, tables.leaves, map_, numbers, sink),
            tables.leaves,
            {table.name: table for table in tables.catalog.tables},
            self._roots(tables),
            computed_columns(self.watch),
            Cascades(tables.catalog.foreign_keys),
            numbers,
        )

    def _roots(self, tables: Tables) -> Mapping[int, TableName]:
        found = {table.oid: table.name for table in read_tables(self.watch)}
        return found | {member.oid: tables.root_of(member) for member in tables.facts.members}

    def run(self, performance: Performance, url: str, circumstances: Circumstances) -> Observed:
        """Have it performed as the role whose URL is given, and tell what it did."""
        begun = _position(self.watch)
        self._reader.start()
        trial = performance(url, self.watch)
        written = _position(self.watch).value - begun.value
        ended = time.monotonic()
        _mark(self.copy.url)
        tally = self._reader.finish()
        capture_s = time.monotonic() - ended
        after = state.read_state(self.watch)
        return self._observed(circumstances, trial, tally, after, written, capture_s)

    def _observed(
        self,
        circumstances: Circumstances,
        trial: Trial,
        tally: Tally,
        after: state.State,
        wal_bytes: int,
        capture_s: float,
    ) -> Observed:
        facts, log = self.copy.facts, self._log()
        statements = tuple(statements_in(log)) if circumstances.command else trial.statements
        said = Said.of(statements)
        effect = tally.effect()
        dropped = [_dropped(one) for one in tally.dropped if one.kind in _KINDS]
        schema = state.schema_changes(self._before, after, dropped, facts.rows)
        tried = attempts(log)
        return Observed(
            circumstances=circumstances,
            effect=effect,
            tenants=self._named(effect.tenants),
            formerly=facts.tenants,
            schema=schema,
            inconclusive=tuple(
                sorted({*facts.points, *self._points(tally), *self._outside(statements, effect, schema, tried)})
            ),
            truncated=tally.truncated(),
            rewritten=state.rewritten(self._before, after),
            locks=tuple(sorted(trial.locks)),
            sequences=state.sequence_moves(self._before, after),
            touched=() if tally.overflown else tally.touched(),
            counters=trial.counters,
            began=trial.began,
            transactions=tally.transactions,
            large_objects=state.large_objects_changed(self._before, after),
            notified=tuple(dict.fromkeys([*tally.notified, *said.notified])),
            attempts=(*tried, *scheduled(effect)),
            unguarded=tuple(said.unguarded),
            error=trial.error,
            wal_bytes=wal_bytes,
            script_seconds=trial.seconds,
            capture_seconds=capture_s,
            notes=facts.missing,
        )

    def _points(self, tally: Tally) -> list[Inconclusive]:
        points = [Inconclusive(Doubt.ROUTING, doubt) for doubt in tally.doubts]
        there = {table.oid for table in read_tables(self.watch)}
        points += [
            Inconclusive(Doubt.BLIND, f"the script laid hands on what watches it ({name})")
            for name in tampered(self._watch, read_watch(self.watch), there)
        ]
        points += [Inconclusive(Doubt.BLIND, f"columns of updates of {table}") for table in sorted(tally.blind)]
        if tally.overflown:
            points.append(Inconclusive(Doubt.KEYS, "more rows were touched than a receipt can hold"))
        return points

    def _outside(
        self, statements: Sequence[str], effect: Effect, schema: Sequence[SchemaChange], tried: Sequence[Attempt]
    ) -> Iterator[Inconclusive]:
        """Where the script came to what is outside the copy, or can come to it: none of that was rehearsed."""
        touched = {table for _, table, _ in effect.counts}
        for one in outside_calls(" ".join(statements), self._reachable, touched):
            yield Inconclusive(Doubt.ATTEMPT, one)
        for attempt in tried:
            yield Inconclusive(Doubt.ATTEMPT, f"{attempt.kind} {attempt.what} was tried, and kept from reaching out")
        for change in schema:
            if change.kind == "foreign server" and change.alteration is not Alteration.DROPPED:
                told = f"{change}: what was reached by it, no copy can tell"
                yield Inconclusive(Doubt.ATTEMPT, told)

    def _named(self, tenants: tuple[TenantKey, ...]) -> Mapping[TenantKey, Tenant]:
        """Those that were touched, by the names that they have now: the script may have renamed or made them."""
        known = self.copy.facts.tenants
        return {
            key: Tenant(key, self._routes.numbers.label_of(key) or known.get(key, Tenant(key)).label) for key in tenants
        }

    def _log(self) -> list[str]:
        if self.copy.server is None:
            return []
        return (self.copy.server.folder / "log").read_text(errors="replace").splitlines()


_KINDS = {"table": "table", "table column": "column", "materialized view": "materialized view", "sequence": "sequence"}


def _dropped(one: Dropped) -> SchemaChange:
    return SchemaChange(
        Alteration.DROPPED,
        _KINDS[one.kind],
        one.identity,
        irreversible=one.kind in ("table", "table column", "sequence"),
    )


def _mark(url: str) -> None:
    """Write the marker, and have it on disk: what is not there is not streamed."""
    with closing(_session(url)) as session:
        session.execute("SET synchronous_commit = on")
        session.execute("SELECT pg_catalog.pg_logical_emit_message(true, %s, '')", [END])


def _drop(target: Target) -> None:
    try:
        drop_slot(target, SLOT)
    except OutlastError:
        return  # the copy is going away, and its slot with it


def _position(session: psycopg.Connection[Any]) -> Lsn:
    row = session.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return Lsn.parse(str(row[0]))


def _session(url: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(url, autocommit=True, prepare_threshold=None, application_name="outlast watch")
    except psycopg.Error as error:
        raise SourceError(f"the copy does not answer: {str(error).splitlines()[0]}") from error
