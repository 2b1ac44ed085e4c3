"""Following: one long-running process that takes every committed change from the slot into the tenants' own logs.

Owns the loop and its order: receive, assemble, route, flush, confirm; and what is done when the stream, the vault or
the schema is not as it should be. How each step works is its own module's. Everything here runs in one thread, except a
backup that closes a gap (mending.py) and those who only look (watching.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from threading import Event as Flag
from typing import Any

import psycopg

from outlast.capture.asking import Asking
from outlast.capture.backup import Place, Silent, Watcher
from outlast.capture.batches import batches
from outlast.capture.checkpoint import DOUBTS, doubts_from_json, doubts_to_json
from outlast.capture.epoch import Begun, begin, reader_of, standing, take_up, why_not
from outlast.capture.flushing import Flusher
from outlast.capture.follow_options import FollowOptions, FollowResult
from outlast.capture.frames import Did, Frames
from outlast.capture.garbage import rare_collections
from outlast.capture.guarding import Guard
from outlast.capture.mending import Mended, Mending
from outlast.capture.numbering import Numbering
from outlast.capture.route_map import RouteMap
from outlast.capture.routes import Tables, look
from outlast.capture.routing import Prepared, Router
from outlast.capture.schema_watch import SchemaWatch
from outlast.capture.watching import Watch
from outlast.core.errors import OutlastError, Refused, SourceError, TransientError, VaultError
from outlast.core.moment import Lsn
from outlast.sources.postgres.following_health import verify
from outlast.sources.postgres.schema_events import ChangeKind
from outlast.sources.postgres.slot import slot_health
from outlast.sources.postgres.stream import ChangeStream
from outlast.sources.postgres.transactions import Assembler, Transaction, time_of
from outlast.sources.postgres.walsender import SlotLostError
from outlast.state.local import WriterLock
from outlast.vault.log import SegmentWriter

RECEIVE_S = 0.25
VERIFY_S = 60.0
IDLE_SEGMENT_S = 60.0
UNSAVED_MAX = 150_000
LARGE_CHANGES = 20_000
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Follower:
    """One source, followed. `stop` may be set from a signal handler: what was received is flushed first."""

    def __init__(
        self,
        place: Place,
        options: FollowOptions,
        *,
        guard: Guard | None = None,
        watcher: Watcher | None = None,
        stop: Flag | None = None,
        watch: Watch | None = None,
        open_place: Callable[[], Place] | None = None,
    ) -> None:
        self.stop = stop or Flag()
        self.watch = watch or Watch(place.source)
        self._place = place
        self._options = options
        self._names = options.following.names
        self._guard = guard or Guard()
        self._watcher = watcher or Silent()
        self._mending = Mending(open_place)
        self._asking = Asking(place.database.target)
        self._oldest: float | None = None  # when the first change that is not flushed was routed
        self._oldest_commit: datetime | None = None
        self._flushed_at = self._verified_at = self._settled_at = 0.0
        self._target: Lsn | None = None
        self._position = Lsn(0)
        self._routed = 0  # the end of the last transaction that was routed: a session after a cut begins before it
        self._mended: Mended | None = None
        self._cuts = 0
        self._as_of = datetime.now(UTC)
        self._as_of_us: int | None = None  # of the last transaction, where that is later

    def run(self) -> FollowResult:
        """Follow until stopped, or until everything that was committed by now is in the vault (`until_current`).

        Raises Refused where another follows this source, or where something has to be decided first.
        """
        place = self._place
        directory = place.state.directory
        with WriterLock(directory, f"{place.source}.follow"), ExitStack() as stack:
            self._map = RouteMap(directory / f"{place.source}.routes.sqlite", place.state.host_key)
            stack.callback(self._map.close)
            stack.enter_context(rare_collections())
            stack.callback(self._mending.close)
            stack.callback(self._asking.close)
            self._numbers = Numbering(self._map, place.state.host_key, place.keys, place.source)
            self._open(self._patiently(self._begun))
            self._map.warm()
            self._result = FollowResult(self._flusher.checkpoint.epoch, self._position)
            while not self.stop.is_set() and not self._done():
                try:
                    self._stream()
                except SlotLostError as error:
                    self._begin_anew(error.message)
                except Refused as error:
                    if error.code != "other-history":
                        raise
                    self._begin_anew(error.message)
                except OutlastError as error:
                    if not _is_passing(error):
                        raise
                    self._cut(error)
            self._finish()
        return self._result

    # Beginning ---------------------------------------------------------------------------------------------------

    def _patiently(self, call: Callable[[], Begun], *, again: bool = False) -> Begun:
        """Try again where the source or the vault only passes through a fault. `again`: they were there before."""
        for pause_s in BACK_OFF_S:
            try:
                return call()
            except OutlastError as error:
                if self._options.until_current or not (
                    isinstance(error, TransientError) or (again and _is_passing(error))
                ):
                    raise
                self.watch.trouble(error.message)
                if self.stop.wait(pause_s):
                    raise
        return call()

    def _begun(self, reason: str | None = None) -> Begun:
        place = self._place
        newest = reader_of(place).newest(place.source)
        reason = reason or why_not(place, self._names, self._map, newest)
        self._standing = standing(place)
        if reason is None and newest is not None:
            return take_up(place, self._map, self._numbers, newest)
        assert reason is not None
        if newest is not None:
            self.watch.alarm("epoch", f"a new log begins with a new base: {reason}")
        return begin(
            place,
            self._options.stream,
            self._names,
            self._map,
            self._numbers,
            newest,
            reason,
            jobs=self._options.jobs,
            watcher=self._watcher,
            check=self._check_published,
        )

    def _check_published(self, tables: Tables) -> None:
        missing = [name for name in self._names.publications if name not in tables.facts.publications]
        if missing:
            raise Refused(
                f"cannot follow {self._place.source}: the publication {missing[0]} does not exist",
                hint="Make what following needs in the source: outlast follow --setup",
                code="not-set-up",
            )

    def _open(self, begun: Begun) -> None:
        """Everything that holds for one epoch."""
        place = self._place
        with self._asking.session.transaction():
            tables = begun.tables or look(self._asking.session, place.database.settings, self._names)
        self._frames = Frames(self._numbers, tables.plan.edges)
        if begun.tables is None:
            self._frames.contents.partial.extend(tables.partial)
            self._frames.doubtful.update(doubts_from_json(self._map.note(DOUBTS)))
        self._frames.interrupted = begun.interrupted
        self._flusher = Flusher(
            place.store,
            SegmentWriter(place.store, place.keys, place.source),
            self._frames,
            self._map,
            self._numbers,
            begun.checkpoint,
            begun.end,
            begun.in_vault,
            self._standing,
        )
        self._schema = SchemaWatch(self._map, tables, self._frames, begun.checkpoint.position)
        self._flusher.more_notes = self._notes
        self._position = begun.checkpoint.position
        self._routed = self._position.value
        self._flushed_at = self._settled_at = time.monotonic()
        self._as_of = datetime.now(UTC)
        self._use(tables)
        if begun.run is not None:
            self.watch.based(begun.run)
        if self._options.until_current:
            self._target = self._asking.position()
            self._asking.force()

    def _notes(self) -> dict[str, Mapping[str, Any]]:
        """What is kept with every checkpoint, for the next start."""
        return {**self._schema.notes(), DOUBTS: doubts_to_json(self._frames.doubtful)}

    def _use(self, tables: Tables) -> None:
        self._tables = tables
        self._frames.edges = tables.plan.edges
        self._router = Router(tables.plan, tables.leaves, self._map, self._numbers, self._frames)
        self._guard.use(self._router, self._numbers)

    def _begin_anew(self, reason: str) -> None:
        """The old log ends here: what is in memory was never confirmed and is in the new base."""
        self.watch.alarm("gap", f"the change stream has a gap: {reason}")
        self._asking.close()
        self._mending.forget()
        self._frames.take()
        self._oldest = self._mended = None
        self._open(self._patiently(lambda: self._begun(reason), again=True))
        self._result.epoch = self._flusher.checkpoint.epoch

    # The loop ----------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        """One session of the stream, until it is cut, or we stop."""
        checkpoint = self._flusher.checkpoint
        with (
            ChangeStream(
                self._options.stream, self._names.slot, self._names.publications, checkpoint.position
            ) as stream,
            Assembler(self._place.state.directory, self._guard) as assembler,
        ):
            self._check_history(stream)
            self.watch.connected()
            self._cuts = 0
            while not self.stop.is_set():
                delivered = assembler.feed(stream.receive(RECEIVE_S))
                for transaction, blocks in batches(self._router, delivered):
                    self._transaction(transaction, blocks, stream)
                if stream.server_time is not None and stream.server_end.value <= assembler.position:
                    self._as_of, self._as_of_us = stream.server_time, None
                    self._guard.caught_up()
                self._position = max(self._position, Lsn(assembler.position))
                self._between(stream)
                if self._done():
                    return
            if self._oldest is not None or self._flusher.waiting:
                self._flush(stream)

    def _check_history(self, stream: ChangeStream) -> None:
        checkpoint = self._flusher.checkpoint
        found = stream.identity
        if (found.system, found.timeline) != (checkpoint.system, checkpoint.timeline):
            what = "another cluster" if found.system != checkpoint.system else f"on timeline {found.timeline}"
            raise Refused(f"the source is {what} now", code="other-history")

    def _transaction(self, transaction: Transaction, blocks: Iterable[list[Prepared]], stream: ChangeStream) -> None:
        self._guard.at(transaction, stream.server_time)
        if transaction.end_lsn <= max(self._routed, self._flusher.checkpoint.position.value):
            self._guard.saw(transaction, [])
            transaction.discard()
            return
        silent = transaction.end_lsn <= self._flusher.in_vault.value
        large = transaction.change_count > LARGE_CHANGES
        if large and self._frames.size_bytes:
            self._flush(stream)
        frames, router = self._frames, self._router
        frames.begin(transaction, silent=silent)
        if self._oldest is None:
            self._oldest, self._oldest_commit = time.monotonic(), transaction.time
        for message in transaction.messages:
            for change in self._schema.heard(message, transaction):
                if change.kind is ChangeKind.DROPPED and change.table is not None:
                    self._guard.dropped(change.table, transaction)
        memory, did = self._options.memory_bytes, list[Did]()
        for prepared in blocks:
            router.route(prepared)
            if frames.size_bytes > memory or self._map.unsaved > UNSAVED_MAX:
                did += frames.end(last=False)
                self._flush(stream, partial=True) if not silent else self._map.spill()
        router.end()
        did += frames.end()
        self._routed = transaction.end_lsn
        self._position = Lsn(transaction.end_lsn)
        self._as_of_us = transaction.time_us
        self._guard.saw(transaction, did)
        self.watch.routed(transaction.change_count, transaction.time_us)
        if frames.size_bytes > memory or self._map.unsaved > UNSAVED_MAX or large:
            self._flush(stream)

    def _between(self, stream: ChangeStream) -> None:
        """What is due, between two batches of the stream."""
        now = time.monotonic()
        self.watch.lag(stream.server_end, self._position, self._flusher.checkpoint.position, self._oldest_commit)
        waits = self._oldest is not None and now - self._oldest >= self._options.flush_interval_s
        idle = now - self._flushed_at >= IDLE_SEGMENT_S and not self._frames.doubtful
        hurry = self._target is not None and self._position >= self._target
        if waits or idle or self._flusher.waiting or self._schema.urgent or (hurry and self._oldest is not None):
            self._flush(stream)
        elif self._oldest is None and (hurry or now - self._settled_at >= self._options.flush_interval_s):
            self._settle(stream, now)
        self.watch.figures.incident_tenants = self._guard.tick()
        if now - self._verified_at >= VERIFY_S:
            self._verified_at = now
            self._verify()
        self._mend()

    def _settle(self, stream: ChangeStream, now: float) -> None:
        """Nothing waits: what the server has read since is of no concern to us, and it need not keep it."""
        if self._position > self._flusher.checkpoint.position:
            self._settled_at = now
            self._flusher.settle(self._position)
            stream.confirm(self._position)

    def _done(self) -> bool:
        """Whether all that was to be done is done: the log is drained, and nothing in it is in doubt."""
        drained = self._target is not None and self._flusher.checkpoint.position >= self._target
        return drained and not (self._frames.doubtful and self._mending.hopeful)

    # Flushing ----------------------------------------------------------------------------------------------------

    def _flush(self, stream: ChangeStream | None, *, partial: bool = False) -> None:
        """Into the vault, then on this host, then to the slot. While the vault is away the stream is held up.

        Raises VaultError where it is not to be waited for: what memory holds is then given up, never confirmed.
        """
        for attempt in range(1_000_000):
            try:
                as_of = self._as_of if self._as_of_us is None else time_of(self._as_of_us)
                flushed = self._flusher.flush(self._position, as_of, self._asking.sequences(), partial=partial)
            except (TransientError, VaultError) as error:
                if not self._keep_trying(error, attempt):
                    raise VaultError(error.message, hint=error.hint, code=error.code) from error
                if not partial and self._frames.size_bytes < self._options.buffer_bytes and not self.stop.is_set():
                    return  # the stream is read on, and the next flush begins with what waits
                continue
            break
        self.watch.calm("vault")
        if self._frames.doubtful:
            self.watch.doubts(self._frames.doubtful)  # who sees the position move must see what is in doubt there
        self.watch.flushed(flushed)
        self._result.segments += 1
        self._result.transactions += flushed.transactions
        self._result.changes += flushed.changes
        self._flushed_at = self._settled_at = time.monotonic()
        self._schema.urgent = False
        if not partial:
            self._oldest = self._oldest_commit = None
            self._result.position = flushed.position
            if stream is not None:
                stream.confirm(self._flusher.checkpoint.position)

    def _keep_trying(self, error: OutlastError, attempt: int) -> bool:
        """Whether to go on after a fault of the vault. Not where it is no passing one, or we were told to stop."""
        self.watch.alarm("vault", f"the vault cannot be written: {error.message}")
        if self._options.until_current or not (isinstance(error, TransientError) or error.code in _MAY_PASS):
            return False
        stopped = self.stop.wait(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
        return not stopped or attempt < 2

    # Looking after things ----------------------------------------------------------------------------------------

    def _verify(self) -> None:
        """Once a minute: is everything as following needs it, and what do the vault and the catalog say."""
        position = self._position
        try:
            session = self._asking.session
            with session.transaction():
                tables = look(session, self._place.database.settings, self._names)
                notices = verify(session, tables.catalog, self._options.following)
                health = slot_health(session, self._names.slot)
            noticed = self._asking.position()
            self._flusher.standing = standing(self._place)
        except (psycopg.Error, OutlastError) as error:
            self._asking.close()
            self.watch.trouble(error.message if isinstance(error, OutlastError) else "the catalog cannot be read")
            return
        self.watch.verified(notices, health)
        for dropped in self._schema.looked(tables, position, noticed):
            self._guard.dropped(dropped)

    def _mend(self) -> None:
        """Close gaps: read the tables again that something is not known of."""
        frames, mending = self._frames, self._mending
        self._mended = mending.done() or self._mended
        if self._mended is not None:
            self.watch.mended(self._mended)
            for table, since in list(frames.doubtful.items()):
                if self._mended.covers(since, self._position):
                    del frames.doubtful[table]
            result = self._mended.result
            if not frames.doubtful or result is None or self._position >= result.moment.high:
                self._mended = None  # what it did not mend came up after it began
        if not frames.doubtful:
            self.watch.calm_doubts()
            return
        self.watch.doubts(frames.doubtful)
        if unseen := mending.unseen(frames.doubtful):
            # First, since a crash after it leaves a map that is ahead of the checkpoint.
            self._map.keep({DOUBTS: doubts_to_json(frames.doubtful)})
            with mending.look_again(self._place, self._names, unseen) as again:
                again.seed(self._map, self._numbers, self._place.state.directory)
                self._schema.use(again.tables, again.only)
                frames.read_anew(unseen, again.until)
                self._schema.urgent = True
                lacks = set(again.tables.partial) - set(self._tables.partial)
                frames.contents.partial.extend(sorted(lacks))
                self._use(again.tables)
        if not mending.busy and self._mended is None:
            mending.start(self._options.jobs)

    def _cut(self, error: OutlastError) -> None:
        """The stream was cut. Nothing is lost: what was not flushed is sent again."""
        self.watch.disconnected(error.message)
        self._cuts += 1
        self._rewind()
        if self._options.until_current and self._cuts > 3:
            raise error
        self.stop.wait(BACK_OFF_S[min(self._cuts - 1, len(BACK_OFF_S) - 1)])

    def _rewind(self) -> None:
        """Before a new session: what was routed is flushed, so that the map and the log stand at the same place."""
        if self._oldest is not None or self._flusher.waiting:
            self._flush(None)

    def _finish(self) -> None:
        if self._oldest is not None or self._flusher.waiting:
            self._flush(None)
        self._result.position = self._flusher.checkpoint.position
        self._result.base_run = self.watch.figures.base_run
        self._result.alarms = self.watch.alarms


def _is_passing(error: OutlastError) -> bool:
    """Whether the source may come back by itself: the stream was cut, or nothing answers there (it restarts)."""
    return isinstance(error, TransientError) or (isinstance(error, SourceError) and error.code == "source")


_MAY_PASS = frozenset({"vault", "access-denied", "no-vault"})
"""Faults of the vault that a person can set right while we wait."""
