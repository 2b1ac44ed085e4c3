"""How a follower begins: the log that the vault has is taken up, or another epoch is begun, patiently.

What an epoch needs is epoch.py's; here is who decides which of the two it is, what is refused before anything is made,
and how often it is tried again while the source or the vault is away.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from threading import Event as Flag

from outlast.capture.backup import Place, Watcher
from outlast.capture.epoch import Begun, begin, reader_of, standing, take_up, why_not
from outlast.capture.flushing import Standing
from outlast.capture.follow_options import FollowOptions
from outlast.capture.numbering import Numbering
from outlast.capture.route_map import RouteMap
from outlast.capture.routes import Tables
from outlast.capture.watching import Watch
from outlast.capture.writing import BACK_OFF_S
from outlast.core.errors import OutlastError, Refused, SourceError, TransientError
from outlast.sources.postgres.following_facts import Publication, read_publications
from outlast.sources.postgres.following_refusals import of_another_vault
from outlast.sources.postgres.session import connect


class Beginning:
    """Begins one source's log, at first and after each gap."""

    def __init__(
        self,
        place: Place,
        options: FollowOptions,
        map_: RouteMap,
        numbers: Numbering,
        watch: Watch,
        watcher: Watcher,
        stop: Flag,
    ) -> None:
        self._place = place
        self._options = options
        self._map = map_
        self._numbers = numbers
        self._watch = watch
        self._watcher = watcher
        self._stop = stop

    def first(self) -> tuple[Begun, Standing]:
        """Where following goes on, and what the vault says of keys and marks.

        Raises Refused where following is not set up, or something has to be decided first.
        """
        return self._patiently(None)

    def anew(self, reason: str) -> tuple[Begun, Standing]:
        """Another epoch. Source and vault were there before: what does not answer now is waited for."""
        return self._patiently(reason)

    def _patiently(self, reason: str | None) -> tuple[Begun, Standing]:
        for pause_s in BACK_OFF_S:
            try:
                return self._begun(reason)
            except OutlastError as error:
                passing = isinstance(error, TransientError) or (reason is not None and is_passing(error))
                if self._options.until_current or not passing:
                    raise
                if not self._stop.is_set():
                    self._watch.trouble(error.message)
                if self._stop.wait(pause_s):
                    raise
        return self._begun(reason)

    def _begun(self, reason: str | None) -> tuple[Begun, Standing]:
        place, names = self._place, self._options.following.names
        newest = reader_of(place).newest(place.source)
        self._look()
        reason = reason or why_not(place, names, self._map, newest)
        stands = standing(place)
        if reason is None and newest is not None:
            return take_up(place, self._map, self._numbers, newest), stands
        assert reason is not None
        if newest is not None:
            self._watch.alarm("epoch", f"a new log begins with a new base: {reason}")
        begun = begin(
            place,
            self._options.stream,
            names,
            self._map,
            self._numbers,
            newest,
            reason,
            jobs=self._options.jobs,
            watcher=self._watcher,
            check=self._slot_stands,
            told=lambda text: self._watch.alarm("waits", text),
            stopped=self._stop.is_set,
        )
        return begun, stands

    def _look(self) -> None:
        """Before anything is made or dropped."""
        with closing(connect(self._options.stream, role="follow", autocommit=True)) as session:
            found = read_publications(session, self._options.following.names)
            self._require_set_up({one.name: one for one in found})

    def _slot_stands(self, tables: Tables) -> None:
        """Once more, as the slot's snapshot sees it: it may have waited for minutes."""
        self._watch.calm("waits")
        self._require_set_up(tables.facts.publications)

    def _require_set_up(self, there: Mapping[str, Publication]) -> None:
        """Raises Refused where setup has not been here, or was for another vault."""
        following, source = self._options.following, self._place.source
        names = following.names
        missing = [name for name in names.publications if name not in there]
        if missing:
            raise Refused(
                f"cannot follow {source}: the publication {missing[0]} does not exist",
                hint="Make what following needs in the source: outlast follow --setup",
                code="not-set-up",
            )
        for refusal in of_another_vault(there, names, following.vault):
            raise Refused(f"cannot follow {source}: {refusal.message}", hint=refusal.hint, code=refusal.code)


def is_passing(error: OutlastError) -> bool:
    """Whether the source may come back by itself: the stream was cut, or nothing answers there (it restarts)."""
    return isinstance(error, TransientError) or (isinstance(error, SourceError) and error.code == "source")
