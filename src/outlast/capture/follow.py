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
from outlast.capture.beginning import Beginning, is_passing
from outlast.capture.checkpoint import DOUBTS, doubts_from_json, doubts_to_json
from outlast.capture.epoch import Begun, standing
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
from outlast.capture.sealing import Sealing
from outlast.capture.watching import Watch
from outlast.capture.writing import BACK_OFF_S, Writing
from outlast.core.errors import OutlastError, Refused
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.sources.postgres.following_health import verify
from outlast.sources.postgres.schema_events import ChangeKind
from outlast.sources.postgres.slot import slot_health
from outlast.sources.postgres.stream import ChangeStream
from outlast.sources.postgres.transactions import Assembler, Transaction, time_of
from outlast.sources.postgres.walsender import SlotLostError
from outlast.state.local import WriterLock
from outlast.vault.log import SegmentWriter

RECEIVE_S = 0.25
LANDING_S = 0.02  # while a segment is on its way: it is confirmed as soon as it has landed
VERIFY_S = 60.0
IDLE_SEGMENT_S = 60.0
UNSAVED_MAX = 150_000
LARGE_CHANGES = 20_000


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
        self._sealing = Sealing()
        self._flusher: Flusher | None = None
        self._verified_at = 0.0
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
            stack.callback(self._sealing.close)
            stack.callback(self._give_up)
            self._numbers = Numbering(self._map, place.state.host_key, place.keys, place.source)
            self._beginning = Beginning(
                place, self._options, self._map, self._numbers, self.watch, self._watcher, self.stop
            )
            begun, self._standing = self._beginning.first()
            self._map.warm()
            self._result = FollowResult(begun.checkpoint.epoch, begun.checkpoint.position)
            self._open(begun)
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
                    if not is_passing(error):
                        raise
                    self._cut(error)
            self._finish()
        return self._result

    # Beginning ---------------------------------------------------------------------------------------------------

    def _open(self, begun: Begun) -> None:
        """Everything that holds for one epoch."""
        place = self._place
        with self._asking.session.transaction():
            tables = begun.tables or look(self._asking.session, place.database.settings, self._names)
        self._frames = Frames(self._numbers, tables.plan.edges)
        if begun.tables is None:
            self._frames.doubtful.update(doubts_from_json(self._map.note(DOUBTS)))
        self._frames.interrupted = begun.interrupted
        flusher = self._flusher = Flusher(
            place.store,
            SegmentWriter(place.store, place.keys, place.source, self._sealing),
            self._frames,
            self._map,
            self._numbers,
            begun.checkpoint,
            begun.end,
            begun.in_vault,
            self._standing,
        )
        self._writing = Writing(flusher, self._frames, self._options, self.watch, self._result, self._asking, self.stop)
        self._schema = SchemaWatch(self._map, tables, self._frames, begun.checkpoint.position)
        flusher.more_notes = self._notes
        self._position = begun.checkpoint.position
        self._routed = self._position.value
        self._as_of = datetime.now(UTC)
        self._use(tables)
        if begun.tables is None:
            self._schema.other_ways(tables, max(begun.checkpoint.position, begun.in_vault), self._asking.position())
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
        self._give_up()
        self._mended = None
        begun, self._standing = self._beginning.anew(reason)
        self._result.epoch = begun.checkpoint.epoch
        self._open(begun)

    def _give_up(self) -> None:
        """Let no segment be on its way any more."""
        if self._flusher is not None:
            self._flusher.close()

    # The loop ----------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        """One session of the stream, until it is cut, or we stop."""
        writing = self._writing
        with (
            ChangeStream(
                self._options.stream, self._names.slot, self._names.publications, writing.checkpoint
            ) as stream,
            Assembler(self._place.state.directory, self._guard) as assembler,
        ):
            self._check_history(stream)
            self.watch.connected()
            self._cuts = 0
            while not self.stop.is_set():
                delivered = assembler.feed(stream.receive(LANDING_S if writing.underway else RECEIVE_S))
                for transaction, blocks in batches(self._router, delivered):
                    self._transaction(transaction, blocks, stream)
                if stream.server_time is not None and stream.server_end.value <= assembler.position:
                    self._as_of, self._as_of_us = stream.server_time, None
                    self._guard.caught_up()
                self._position = max(self._position, Lsn(assembler.position))
                self._between(stream)
                if self._done():
                    return
            self._flush_all(stream)

    def _check_history(self, stream: ChangeStream) -> None:
        assert self._flusher is not None
        checkpoint = self._flusher.checkpoint
        found = stream.identity
        if (found.system, found.timeline) != (checkpoint.system, checkpoint.timeline):
            what = "another cluster" if found.system != checkpoint.system else f"on timeline {found.timeline}"
            raise Refused(f"the source is {what} now", code="other-history")

    def _transaction(self, transaction: Transaction, blocks: Iterable[list[Prepared]], stream: ChangeStream) -> None:
        self._guard.at(transaction, stream.server_time)
        writing, flusher = self._writing, self._flusher
        assert flusher is not None
        if transaction.end_lsn <= max(self._routed, writing.checkpoint.value):
            self._guard.saw(transaction, [])
            transaction.discard()
            return
        silent = transaction.end_lsn <= flusher.in_vault.value
        large = transaction.change_count > LARGE_CHANGES
        if large and self._frames.size_bytes:
            self._flush(stream)
        frames, router = self._frames, self._router
        frames.begin(transaction, silent=silent)
        if not writing.pending:
            writing.routed(transaction.time)
        for message in transaction.messages:
            for change in self._schema.heard(message, transaction):
                if change.kind is ChangeKind.DROPPED and change.table is not None:
                    self._guard.dropped(change.table, transaction)
        memory, did = self._options.memory_bytes, list[Did]()
        for prepared in blocks:
            router.route(prepared)
            if frames.size_bytes > memory or self._map.unsaved > UNSAVED_MAX:
                did += frames.end(last=False)
                if silent:
                    writing.land(stream, hold=True)
                    self._map.spill()
                else:
                    self._flush(stream, partial=True)
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
        now, writing = time.monotonic(), self._writing
        writing.poll(stream)
        self.watch.lag(stream.server_end, self._position, writing.checkpoint, writing.oldest)
        idle = now - writing.flushed_at >= IDLE_SEGMENT_S and not self._frames.doubtful and not writing.underway
        hurry = self._target is not None and self._position >= self._target
        if hurry and (writing.pending or writing.underway):
            self._flush_all(stream)
        elif writing.due(now) or idle or self._schema.urgent:
            self._flush(stream)
        elif not (writing.pending or writing.underway) and (
            hurry or now - writing.settled_at >= self._options.flush_interval_s
        ):
            writing.settle(stream, self._position)
        self.watch.figures.incident_tenants = self._guard.tick()
        if now - self._verified_at >= VERIFY_S:
            self._verified_at = now
            self._verify()
        self._gone(self._schema.passed(self._position))
        self._mend(stream)

    def _done(self) -> bool:
        """Whether all that was to be done is done: the log is drained, and nothing in it is in doubt."""
        drained = self._target is not None and self._writing.checkpoint >= self._target
        return drained and not (self._frames.doubtful and self._mending.hopeful)

    # Flushing ----------------------------------------------------------------------------------------------------

    def _flush(self, stream: ChangeStream | None, *, partial: bool = False) -> bool:
        """Send what was routed on its way into the vault; False where that is away, and there is room to read on."""
        as_of = self._as_of if self._as_of_us is None else time_of(self._as_of_us)
        if not self._writing.flush(stream, self._position, as_of, partial=partial):
            return False
        self._schema.urgent = False
        return True

    def _flush_all(self, stream: ChangeStream | None) -> None:
        """All that was routed is in the vault afterwards, and counts, unless that is away: what it lacks is kept."""
        writing = self._writing
        if (not writing.pending or self._flush(stream)) and writing.underway:
            writing.land(stream)

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
            assert self._flusher is not None
            self._flusher.standing = standing(self._place)
        except (psycopg.Error, OutlastError) as error:
            self._asking.close()
            self.watch.trouble(error.message if isinstance(error, OutlastError) else "the catalog cannot be read")
            return
        self.watch.verified(notices, health)
        self._gone(self._schema.looked(tables, position, noticed))

    def _gone(self, tables: Iterable[TableName]) -> None:
        for table in tables:
            self._guard.dropped(table)

    def _mend(self, stream: ChangeStream) -> None:
        """Close gaps: read the tables again that something is not known of."""
        frames, mending = self._frames, self._mending
        self._mended = mending.done() or self._mended
        if self._mended is not None:
            self.watch.mended(self._mended)
            for table, since in list(frames.doubtful.items()):
                if self._mended.covers(max(since, frames.anew.get(table, since)), self._position):
                    frames.mended(table)
            if not frames.doubtful:
                self._flush(stream)  # the log is to reach the backup: exact moments stand on it
            result = self._mended.result
            if not frames.doubtful or result is None or self._position >= result.moment.high:
                self._mended = None  # what it did not mend came up after it began
        if not frames.doubtful:
            self.watch.calm_doubts()
            return
        self.watch.doubts(frames.doubtful)
        unseen = mending.unseen(frames.doubtful)
        if unseen and self._writing.underway:
            self._writing.land(stream)  # or what it makes count would come over what is read anew
        if unseen and not self._writing.underway:
            with mending.look_again(self._place, self._names, unseen) as again:
                again.doubts.update(self._schema.other_ways(again.tables, min(unseen.values()), again.until))
                # First, since a crash after it leaves a map that is ahead of the checkpoint.
                self._map.keep({DOUBTS: doubts_to_json(frames.doubtful)})
                again.seed(self._map, self._numbers, self._place.state.directory)
                self._schema.use(again.tables, again.only)
                frames.read_anew(again.doubts, again.until)
                self._schema.urgent = True
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
        self._flush_all(None)

    def _finish(self) -> None:
        self._flush_all(None)
        self._result.position = self._writing.checkpoint
        self._result.base_run = self.watch.figures.base_run
        self._result.alarms = self.watch.alarms
