"""The guarded run of a rehearsed script on production: one transaction that commits only if it did what was rehearsed.

In this order: the rehearsed rows under lock, each as it was; the script, with all that it deferred; the proof
(proving.py); the before-image and the run's record, durable in the vault; COMMIT. Whatever is not as rehearsed rolls
everything back. Who may run what, and that a receipt works once, is decided by whoever calls (cli/run.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from outlast.core.effect import Effect
from outlast.core.errors import Refused, TransientError
from outlast.core.table import TableName
from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal import state
from outlast.rehearsal.finding import number_text
from outlast.rehearsal.imaging import changes_by_tenant, fill
from outlast.rehearsal.observed import Doubt, RowCounters
from outlast.rehearsal.performing import Settings, perform
from outlast.rehearsal.proving import Clock, Outcome, Proof, counter_differences, net_counters
from outlast.rehearsal.reach import Reachable, outside_calls
from outlast.rehearsal.receipt import KeyedTable, Receipt, schema_digest
from outlast.rehearsal.script import Script
from outlast.rehearsal.taking import Difference, NotAsRehearsedError, Taken, check_emptied, take
from outlast.rehearsal.trial import counted
from outlast.restore.sessions import roll_back
from outlast.restore.undo import Place, UndoKeeper
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.keyed import count_rows, lock_tables, number
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement
from outlast.sources.postgres.write_counters import Counters, read_counters

_HINT = "Rehearse it again: production, or the script's way through it, is not what the copy was."


@dataclass(frozen=True, slots=True)
class Part:
    """What one transaction runs: all of a receipt, or some of its tenants (`tenants`; None: all)."""

    receipt: Receipt
    script: Script
    tenants: tuple[TenantKey, ...] | None = None

    @property
    def tables(self) -> tuple[KeyedTable, ...]:
        if self.tenants is None:
            return self.receipt.tables
        chosen = set(self.tenants)
        cut = (replace(one, rows=tuple(row for row in one.rows if row.tenant in chosen)) for one in self.receipt.tables)
        return tuple(one for one in cut if one.rows)

    @property
    def effect(self) -> Effect:
        if self.tenants is None:
            return self.receipt.effect
        chosen = set(self.tenants)
        return Effect({key: count for key, count in self.receipt.effect.counts.items() if key[0] in chosen})

    @property
    def slack(self) -> frozenset[str]:
        """Tables of which the server counted other than their rows tell: counters alone prove nothing there."""
        net = {one.table: net_counters(one) for one in self.receipt.tables}
        counters = self.receipt.counters
        return frozenset(
            name
            for name in net.keys() | counters.keys()
            if net.get(name, RowCounters()) != counters.get(name, RowCounters()) and name not in self.receipt.emptied
        )

    @property
    def counters(self) -> Mapping[str, RowCounters]:
        """What the server is to count; of some tenants only, what their rows come to."""
        if self.tenants is None:
            return self.receipt.counters
        return {one.table: net_counters(one) for one in self.tables}


@dataclass(frozen=True, slots=True)
class About:
    """A transaction that is about to commit: what its record in the vault says of it."""

    xid: str
    database: str
    effect: Effect
    kept: str | None  # the before-image's name; None where there is none


@dataclass(frozen=True, slots=True)
class Ran:
    """What was committed."""

    xid: str
    effect: Effect
    tenants: tuple[TenantKey, ...]
    kept: str | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass
class Runner:
    """Runs parts on one session, which is in autocommit mode. `record` keeps the run, durably, before COMMIT.

    `places` gives the tenants' places in the vault, of those that have one. `undo_required`: refuse what could not be
    taken back; where that was waived, what can be is kept all the same.
    """

    connection: Session
    read_catalog: Callable[[Session], Catalog]
    keeper: UndoKeeper | None  # None: for `look`
    places: Callable[[Iterable[TenantKey]], Mapping[TenantKey, tuple[Tenant, Place]]]
    record: Callable[[About], None]
    settings: Settings = field(default_factory=Settings)
    undo_required: bool = True
    attempts: int = 3
    say: Callable[[str], None] = lambda _: None
    pause: Callable[[float], None] = time.sleep

    def run(self, part: Part) -> Ran:
        """Run one part; where another transaction was in the way, again. Raises what kept it from being committed."""
        for attempt in range(1, self.attempts + 1):
            try:
                return self._once(part)
            except TransientError as error:
                if attempt == self.attempts or not _in_the_way(error):
                    raise
                self.say(f"Another transaction was in the way; once more ({attempt + 1} of {self.attempts}) …")
                self.pause(0.2 * attempt)
            finally:
                roll_back(self.connection)
        raise AssertionError("unreachable")

    def look(self, part: Part) -> None:
        """Whether production is still as rehearsed: takes no lock and changes nothing. Raises as `run` would."""
        try:
            work = _Work(self, part)
            work.begin(write=False)
            work.take(lock=False)
        finally:
            roll_back(self.connection)

    def _once(self, part: Part) -> Ran:
        started = time.monotonic()
        work = _Work(self, part)
        work.begin()
        taken = work.take()
        work.perform()
        outcomes = work.prove(taken)
        kept = self._keep(work, outcomes)
        self.record(About(work.xid, work.database, part.effect, kept))
        self._commit(work.xid)
        tenants = part.effect.tenants if part.tenants is None else part.tenants
        return Ran(work.xid, part.effect, tenants, kept, time.monotonic() - started, tuple(work.notes))

    def _keep(self, work: _Work, outcomes: Sequence[Outcome]) -> str | None:
        """The before-image of everything, durable: nothing is committed before what undoes it is safe."""
        if self.keeper is None:
            return None
        kept = {table.name for table in (*work.catalog.owned, *work.catalog.shared)}
        changed = changes_by_tenant([one for one in outcomes if one.taken.table.name in kept])
        places = self.places(changed)
        images = []
        for tenant, tables in sorted(changed.items()):
            if tenant not in places:
                self._without_undo(f"rows of tenant {tenant}, which is not in the vault yet")
                continue
            whose, place = places[tenant]
            image = self.keeper.images(whose, place)
            for one in tables:
                fill(image, one)
            images.append(image)
        return self.keeper.write(images, work.xid, work.database)

    def _without_undo(self, what: str) -> None:
        if self.undo_required:
            raise Refused(
                f"cannot run it: {what} could not be put back",
                hint="Back up first and rehearse again, or let the intent say: undo waived by=NAME reason=TEXT",
                code="no-undo",
            )
        self.say(f"Not kept for undo, which was waived: {what}.")

    def _commit(self, xid: str) -> None:
        try:
            self.connection.execute(b"COMMIT")
        except psycopg.Error as error:
            if not self.connection.closed:
                raise explain(error, "commit") from error
            told = f"the connection was lost during COMMIT of transaction {xid}; whether it was done, the server knows"
            hint = f"Ask it: SELECT pg_xact_status('{xid}'). Running it again does so, too, and does nothing twice."
            raise TransientError(told, hint=hint, code="commit-unknown") from error


def _in_the_way(error: TransientError) -> bool:
    cause = error.__cause__
    return isinstance(cause, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)


@dataclass
class _Work:
    """One transaction."""

    runner: Runner
    part: Part
    xid: str = ""
    database: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def connection(self) -> Session:
        return self.runner.connection

    def begin(self, *, write: bool = True) -> None:
        connection, receipt = self.connection, self.part.receipt
        limit_s = self.runner.settings.lock_timeout_s
        mode = b"READ WRITE" if write else b"READ ONLY"
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ " + mode)
        self._see()
        if limit_s is not None:
            limit = sql.Literal(f"{limit_s * 1000:.0f}ms")
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(limit))
        if write:
            lock_tables(connection, [TableName.parse(name) for name in sorted(receipt.emptied)])
            self.xid = number(connection)
        self.catalog = self.runner.read_catalog(connection)
        self.database = f"{self.catalog.system_identifier}/{self.catalog.database_oid}"
        self._check()
        self.clock = self._clock()
        self.counters = self._counters()
        if write:
            self.before = state.read_state(connection, large_objects=False)
            self.objects = state.object_writes(connection)

    def _check(self) -> None:
        receipt = self.part.receipt
        row = self.connection.execute(b"SELECT current_user::text").fetchone()
        assert row is not None
        if row[0] != receipt.role:
            raise Refused(
                f"cannot run it as {row[0]!r}: it was rehearsed as {receipt.role!r}",
                hint="Set script_url in outlast.toml to that role, or rehearse as this one: --role",
                code="role",
            )
        if schema_digest(self.catalog) != receipt.schema:
            raise Refused(
                "cannot run it: the schema is not the one that it was rehearsed on",
                hint="Back up, so that the vault has the schema of now, and rehearse again.",
                code="stale",
            )
        self._check_reach()

    def _check_reach(self) -> None:
        """Refuse a script that can come to a call outside the transaction: nothing could take that back."""
        receipt = self.part.receipt
        if Doubt.ATTEMPT.value in receipt.accepted:
            return
        touched = {one.table for one in receipt.tables} | set(receipt.counters)
        reachable = [Reachable(*row) for row in self.connection.execute(statement("run_functions"))]
        text = " ".join(one.text for one in self.part.script.statements)
        if found := outside_calls(text, reachable, touched):
            raise Refused(
                f"cannot run it guarded: it can come to a call outside the transaction ({found[0]})",
                hint=f"Take that out; or, where it is known to do no harm, let the intent say: accept {Doubt.ATTEMPT}",
                code="outside-call",
            )

    def _clock(self) -> Clock:
        row = self.connection.execute(b"SELECT pg_catalog.now()").fetchone()
        assert row is not None
        shift = row[0].astimezone(UTC) - self.part.receipt.began.astimezone(UTC)
        return Clock(shift.days * 86_400_000_000 + shift.seconds * 1_000_000 + shift.microseconds)

    def _counters(self) -> Counters:
        found = read_counters(self.connection)
        if found is None:
            raise Refused(
                "cannot run it guarded: the server does not count rows (track_counts is off)",
                hint="ALTER SYSTEM SET track_counts = on, and reload; VACUUM needs it as well.",
                code="track-counts",
            )
        return found

    def _see(self) -> None:
        """Rows as row-level security shows them to the role: one that was rehearsed and is hidden counts as missing."""
        self.connection.execute(b"SET LOCAL row_security = on")

    def take(self, *, lock: bool = True) -> list[Taken]:
        check_emptied(self.connection, self.part.receipt.emptied)
        taken = take(self.connection, self.catalog, self.part.tables, lock=lock)
        self._check_undo(taken)
        if not lock:
            return taken
        rows = sum(len(one.rows) for one in taken)
        self.runner.say(f"{number_text(rows, 'row')} taken, each as it was rehearsed.")
        self.slack = self.part.slack
        tables = {str(table.name): table for table in self.catalog.tables}
        self.counted = {
            name: count_rows(self.connection, tables[name].name, only=tables[name].only)
            for name in sorted(self.slack)
            if name in tables
        }
        return taken

    def _check_undo(self, taken: Sequence[Taken]) -> None:
        if not self.runner.undo_required:
            return
        kept = {table.name for table in (*self.catalog.owned, *self.catalog.shared)}
        lost = sorted(str(one.table.name) for one in taken if one.table.name not in kept)
        if lost:
            raise Refused(
                f"cannot run it: rows of {lost[0]} could not be put back, since that table is not in the vault",
                hint="Classify it in outlast.toml, or let the intent say: undo waived by=NAME reason=TEXT",
                code="no-undo",
            )

    def perform(self) -> None:
        started = datetime.now(UTC)
        limits = Settings(self.runner.settings.lock_timeout_s, self.runner.settings.statement_timeout_s)
        perform(self.connection, self.part.script, limits)
        took = datetime.now(UTC) - started
        self.clock = replace(self.clock, tolerance_us=self.clock.tolerance_us + int(took.total_seconds() * 1_000_000))

    def prove(self, taken: Sequence[Taken]) -> list[Outcome]:
        """Raises NotAsRehearsedError with all that differs."""
        if not self.slack:  # with slack every row has to be seen: where some are hidden, the server says so
            self._see()
        accepts = self.part.receipt.accepted
        proof = Proof(self.connection, self.catalog, self.clock, accepts, self.counted)
        if number(self.connection) != self.xid:
            proof.differences.append(Difference("the script ended the transaction that it was to run in"))
        self._count(proof)
        after = self._catalog(proof)
        there = {name for kind, name in after.objects if kind == "table"}
        slack = frozenset(name for name in self.slack if name in there)
        # Of a table that was dropped nothing can be looked at: that it went, the catalog says
        taken = [one for one in taken if one.keyed.table in there]
        outcomes = [proof.table(one, slack=one.keyed.table in slack) for one in taken]
        untold = [
            self.catalog.table(TableName.parse(name)) for name in sorted(slack - {one.keyed.table for one in taken})
        ]
        for table in untold:
            if table is not None:
                empty = Taken(table, KeyedTable(str(table.name), table.key, table.column_names, ()))
                proof.table(empty, slack=True)
        if proof.differences:
            raise NotAsRehearsedError.of(proof.differences, "the script did not do what was rehearsed", _HINT)
        return outcomes

    def _count(self, proof: Proof) -> None:
        now = read_counters(self.connection)
        if now is None:
            proof.differences.append(Difference("the script turned the server's row counters off"))
            return
        done = counted(self.counters, now) or {}
        free = self.slack if self.part.tenants is not None else frozenset()
        proof.differences += counter_differences(self.part.counters, done, free)

    def _catalog(self, proof: Proof) -> state.State:
        receipt = self.part.receipt
        after = state.read_state(self.connection, large_objects=False)
        changes = state.schema_changes(self.before, after, (), {})
        seen = {(one.alteration.value, one.kind, one.name) for one in changes}
        for alteration, kind, name in sorted(seen - set(receipt.alterations)):
            proof.differences.append(Difference(f"{kind} {name} {alteration}, which was not rehearsed", name))
        for alteration, kind, name in sorted(set(receipt.alterations) - seen):
            if not (alteration == "dropped" and (kind, name) in after.objects):  # dropped and made again
                proof.differences.append(Difference(f"{kind} {name} was to be {alteration}, and is not", name))
        rewritten = set(state.rewritten(self.before, after))
        for name in sorted(rewritten ^ set(receipt.rewritten)):
            how = "was written anew or emptied, and not" if name in rewritten else "was not written anew or emptied, as"
            proof.differences.append(Difference(f"{name} {how} in the rehearsal", name))
        proof.differences += self._sequences(after)
        if Doubt.OBJECTS.value not in receipt.accepted and state.object_writes(self.connection) != self.objects:
            proof.differences.append(Difference("large objects were written, which was not rehearsed"))
        return after

    def _sequences(self, after: state.State) -> Iterator[Difference]:
        """Those that go back unrehearsed. What is drawn meanwhile, by anybody, goes forward."""
        receipt = self.part.receipt
        free = {name for _, _, name in receipt.alterations}
        free |= {str(use.sequence) for use in self.catalog.sequences if str(use.table) in receipt.emptied}
        for move in state.sequence_moves(self.before, after):
            if move.back and move.name not in free:
                told = f"sequence {move.name} went back from {move.before} to {move.after}, which was not rehearsed"
                name = sql.Literal(sql.Identifier(*move.name.split(".", 1)).as_string(None)).as_string(None)
                yield Difference(told, move.name, mend=f"SELECT setval({name}, {move.before});")
