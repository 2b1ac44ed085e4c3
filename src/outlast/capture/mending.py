"""Mending: tables of which something is not known any more are read again, by an ordinary backup beside the stream.

First their routes are read anew, at a snapshot that is later than what the stream has told; then a thread of its own
runs the backup, while following goes on. A doubt is over when such a backup began after what caused it, and the stream
has come past that backup's snapshot: until then the map is ahead of what is routed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from outlast.capture.backup import BackupOptions, BackupResult, Place, backup
from outlast.capture.numbering import Numbering
from outlast.capture.route_map import RouteMap
from outlast.capture.routes import Tables, look, seed
from outlast.core.errors import BugError, OutlastError
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.snapshot import open_snapshot

RETRY_S = 30.0
_NEVER = Lsn(0)

Doubts = Mapping[TableName | None, Lsn]


@dataclass(frozen=True, slots=True)
class Mended:
    """A backup that ended: well (`result`), or with an error."""

    result: BackupResult | None
    error: OutlastError | None

    def covers(self, since: Lsn, position: Lsn) -> bool:
        return self.result is not None and self.result.moment.low >= since and position >= self.result.moment.high


@dataclass(frozen=True, slots=True)
class Again:
    """Another look at the catalog, at a snapshot that `seed` reads too."""

    session: Session
    tables: Tables
    doubts: dict[TableName | None, Lsn]  # what is read again; None: all
    until: Lsn  # the snapshot saw nothing that is later

    @property
    def only(self) -> frozenset[TableName] | None:
        return None if None in self.doubts else frozenset(table for table in self.doubts if table is not None)

    def seed(self, map_: RouteMap, numbers: Numbering, spool_directory: Path) -> None:
        seed(self.session, self.tables, map_, numbers, spool_directory, self.only)


class Mending:
    """Runs one backup at a time. `open_place` opens a Place of the thread's own: the local state is not shared."""

    def __init__(self, open_place: Callable[[], Place] | None = None) -> None:
        self._open_place = open_place
        self._thread: Thread | None = None
        self._ended: Mended | None = None
        self._seeded: dict[TableName | None, Lsn] = {}
        self._not_before = 0.0
        self._failed = False

    @property
    def busy(self) -> bool:
        return self._thread is not None or time.monotonic() < self._not_before

    @property
    def hopeful(self) -> bool:
        """Whether waiting may help: the last backup did not fail."""
        return not self._failed

    def unseen(self, doubts: Doubts) -> Doubts:
        """The doubts for which the routes were not read again since they came up."""
        return {table: since for table, since in doubts.items() if self._seeded.get(table, _NEVER) < since}

    @contextmanager
    def look_again(self, place: Place, names: Names, doubts: Doubts) -> Iterator[Again]:
        """Another look for the tables in doubt, to which the caller may add."""
        with open_snapshot(place.database.target, "follow") as snapshot:
            tables = look(snapshot.session, place.database.settings, names)
            again = Again(snapshot.session, tables, dict(doubts), snapshot.moment.high)
            yield again
        low = snapshot.moment.low
        self._seeded |= {table: max(low, since) for table, since in again.doubts.items()}

    def start(self, jobs: int) -> None:
        """Begin a backup that reads again whatever changed."""
        if self._open_place is None:
            raise BugError("nobody said how the source is opened for a backup beside the stream")
        self._thread = Thread(target=self._run, args=(self._open_place, jobs), name="outlast mending", daemon=True)
        self._thread.start()

    def forget(self) -> None:
        """Another log begins: what was read for the old one says nothing of it, and positions may be lower."""
        self.close()
        self._thread = self._ended = None
        self._seeded = {}

    def done(self) -> Mended | None:
        """The backup that has ended since this was last asked."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread.join()
        self._thread = None
        ended, self._ended = self._ended, None
        self._failed = ended is None or ended.error is not None
        if self._failed:
            self._not_before = time.monotonic() + RETRY_S
        return ended

    def close(self) -> None:
        """Wait for what runs: an interrupted backup does no harm, but its worker processes would outlive us."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, open_place: Callable[[], Place], jobs: int) -> None:
        try:
            place = open_place()
            try:
                self._ended = Mended(backup(place, BackupOptions(jobs=jobs)), None)
            finally:
                place.state.close()
        except OutlastError as error:
            self._ended = Mended(None, error)
        except Exception as error:  # noqa: BLE001 - a thread's last frame: told by the loop, not to a thread's stderr
            self._ended = Mended(None, BugError(f"the backup beside the stream failed ({type(error).__name__})"))
