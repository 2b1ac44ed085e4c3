"""The way out: when a segment is due, and what is done while the vault takes it, or does not.

A segment is on its way while the stream is read on; only where memory is full the stream waits for it. What was
routed counts as protected, and is confirmed to the slot, when its segment has landed. How a segment is made and what
counts in which order is flushing.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from itertools import count
from threading import Event as Flag

from outlast.capture.asking import Asking
from outlast.capture.flushing import Flusher
from outlast.capture.follow_options import FollowOptions, FollowResult
from outlast.capture.frames import Frames
from outlast.capture.watching import Watch
from outlast.core.errors import OutlastError, TransientError, VaultError
from outlast.core.moment import Lsn
from outlast.sources.postgres.stream import ChangeStream

BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
HOLD_S = 2.0  # between two tries while the stream is held up, and the tripwire hears nothing
STOPPING_TRIES = 2

_MAY_PASS = frozenset({"vault", "access-denied", "no-vault"})
"""Faults of the vault that a person can set right while we wait."""


class Writing:
    """One epoch's segments, on their way from `frames` to the vault, and from there to the slot."""

    def __init__(
        self,
        flusher: Flusher,
        frames: Frames,
        options: FollowOptions,
        watch: Watch,
        result: FollowResult,
        asking: Asking,
        stop: Flag,
    ) -> None:
        self.flushed_at = self.settled_at = time.monotonic()
        self._flusher = flusher
        self._frames = frames
        self._options = options
        self._watch = watch
        self._result = result
        self._asking = asking
        self._stop = stop
        self._since: float | None = None  # when the first change was routed that is in no segment
        self._oldest: datetime | None = None  # and its commit
        self._sent: datetime | None = None  # the oldest commit in the segment that is on its way
        self._failures = 0
        self._again_at = 0.0  # the vault is away: when it is tried again

    @property
    def checkpoint(self) -> Lsn:
        return self._flusher.checkpoint.position

    @property
    def oldest(self) -> datetime | None:
        """The oldest commit that is not in the vault."""
        return self._sent or self._oldest

    @property
    def pending(self) -> bool:
        """Whether anything was routed that is in no segment yet."""
        return self._since is not None

    @property
    def underway(self) -> bool:
        return self._flusher.waiting

    def due(self, now: float) -> bool:
        """Whether something has waited long enough, and nothing is on its way."""
        if self._flusher.busy or self._resting(now):
            return False
        waited = self._since is not None and now - self._since >= self._options.flush_interval_s
        return waited or self._flusher.waiting

    def routed(self, commit: datetime) -> None:
        """A transaction is being routed."""
        if self._since is None:
            self._since, self._oldest = time.monotonic(), commit

    def flush(self, stream: ChangeStream | None, position: Lsn, as_of: datetime, *, partial: bool = False) -> bool:
        """Send what was routed on its way, after what is on its way already. While the vault is away, and memory has
        room, it stays here: False then.

        Raises VaultError where it is not to be waited for: what memory holds is then given up, never confirmed.
        """

        if not partial and self._resting(time.monotonic()):
            return False

        def begin() -> None:
            self._flusher.begin(position, as_of, self._asking.sequences(), partial=partial)

        if not self._patiently(begin, stream, hold=partial):
            return False
        if not partial:
            self._sent, self._since, self._oldest = self._oldest, None, None
        return self._flusher.busy or self.land(stream)

    def land(self, stream: ChangeStream | None, *, hold: bool = False) -> bool:
        """Wait for what is on its way. `hold`: also where the vault is away, for as long as there is hope."""
        return self._patiently(self._flusher.land, stream, hold=hold)

    def poll(self, stream: ChangeStream) -> None:
        """Take note of what has landed; wait for nothing."""
        if self._flusher.waiting and not self._flusher.busy and not self._resting(time.monotonic()):
            self.land(stream)

    def settle(self, stream: ChangeStream, position: Lsn) -> None:
        """Nothing waits: what the server has read since is of no concern to us, and it need not keep it."""
        if position > self.checkpoint:
            self.settled_at = time.monotonic()
            self._flusher.settle(position)
            stream.confirm(position)

    def _resting(self, now: float) -> bool:
        """Whether the vault is away and not to be asked again yet. The stream, and with it the tripwire, goes on."""
        return now < self._again_at and self._has_room and not self._stop.is_set()

    @property
    def _has_room(self) -> bool:
        return self._frames.size_bytes < self._options.buffer_bytes

    def _patiently(self, call: Callable[[], None], stream: ChangeStream | None, *, hold: bool) -> bool:
        """Whether it was done; False where the vault is away and the stream can be read on meanwhile."""
        for attempt in count():
            try:
                call()
            except (TransientError, VaultError) as error:
                self._landed(stream)
                self._watch.alarm("vault", f"the vault cannot be written: {error.message}")
                if not self._may_pass(error) or (self._stop.is_set() and attempt >= STOPPING_TRIES):
                    raise VaultError(error.message, hint=error.hint, code=error.code) from error
                pause_s = BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
                self._failures += 1
                if not hold and self._has_room and not self._stop.is_set():
                    self._again_at = time.monotonic() + pause_s
                    return False
                self._stop.wait(min(pause_s, HOLD_S))
                continue
            break
        self._failures, self._again_at = 0, 0.0
        self._landed(stream)
        return True

    def _may_pass(self, error: OutlastError) -> bool:
        """Whether waiting may help. Nobody waits where the end was asked for."""
        return not self._options.until_current and (isinstance(error, TransientError) or error.code in _MAY_PASS)

    def _landed(self, stream: ChangeStream | None) -> None:
        """Tell of the segments that are in the vault now."""
        watch, result = self._watch, self._result
        for flushed in self._flusher.take():
            watch.calm("vault")
            if self._frames.doubtful:
                watch.doubts(self._frames.doubtful)  # who sees the position move must see what is in doubt there
            watch.flushed(flushed)
            result.segments += 1
            result.transactions += flushed.transactions
            result.changes += flushed.changes
            self.flushed_at = self.settled_at = time.monotonic()
            if not flushed.partial:
                self._sent = None
                result.position = flushed.position
                if stream is not None:
                    stream.confirm(self.checkpoint)
