"""What paging and the pages look up in the local copy, read once for each state of the copy and kept.

Several threads ask. While the copy cannot be read, what was read last still answers: it is older, and better than none.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from outlast.core.errors import OutlastError
from outlast.oncall import policy
from outlast.oncall.policy import Directory
from outlast.oncall.roster import compared

if TYPE_CHECKING:
    from outlast.library.copy import LocalCopy

log = logging.getLogger("outlast.paging")


class Lookup:
    """`opened` gives the copy, or None while there is none yet."""

    def __init__(self, opened: Callable[[], LocalCopy | None]) -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._state: object = None
        self._directory: Directory | None = None
        self._copied: dict[str, datetime] = {}
        self._differences: dict[str, int] = {}

    def directory(self) -> Directory | None:
        """Everybody and everything, as the newest copy has it; None while there is none."""
        with self._lock:
            try:
                copy = self._opened()
                if copy is not None:
                    self._read(copy)
            except OutlastError as error:
                log.warning("the local copy cannot be read; what was read before still counts: %s", error.message)
            return self._directory

    def differences(self, schedule: str) -> int:
        """In how many places a schedule's rules come to something else than its vendor's timeline, by its key. It is
        counted once for each new copy, beside everything else: 0 until then."""
        return self._differences.get(schedule, 0)

    def copied_at(self, source: str) -> datetime | None:
        """As of when the copy has a source."""
        return self._copied.get(source)

    def _read(self, copy: LocalCopy) -> None:
        sources = tuple(copy.sources())
        if sources == self._state:
            return
        self._directory = policy.read(copy)
        self._copied = {one.source: one.moment for one in sources}
        self._state = sources
        compare = threading.Thread(target=self._compare, args=(self._directory,), name="outlast-compare", daemon=True)
        compare.start()

    def _compare(self, directory: Directory) -> None:
        """The vendors' timelines against their rules, told in the log: a rule that is misread shows while it is only
        read, and not when somebody is not woken up by it."""
        found, unread = compared(directory.roster.schedules)
        self._differences = dict(Counter(one.schedule.key for one in found))
        for key, count in self._differences.items():
            log.warning("schedule %s: its rules and the vendor's timeline differ in %d places", key, count)
        for one, why in unread:
            log.warning("schedule %s cannot be read: %s", one.key, why)
