"""One resource, listed from a vendor into the mirror: whole, or by its changes.

Whatever ends it, the mirror holds whole documents, and listing again goes on from the last time that was seen. What is
not listed any more is only forgotten after a second look: pages shift while somebody deletes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from outlast.core.errors import SourceError
from outlast.sources.tools.client import Client, RefusedError
from outlast.sources.tools.connector import Changes, Connector, Document, Resource, at, time_of
from outlast.sources.tools.documents import EXPIRED, Documents
from outlast.sources.tools.mirror import Mirror
from outlast.sources.tools.round import Round

_RESTARTS_MAX = 3
_CONFIRMED_ONE_BY_ONE_MAX = 200
_WINDOW_MIN = timedelta(minutes=1)


class Listing:
    """Lists resources of one site into its mirror."""

    def __init__(
        self, connector: Connector, client: Client, mirror: Mirror, round_: Round, documents: Documents
    ) -> None:
        self._connector = connector
        self._client = client
        self._mirror = mirror
        self._round = round_
        self._documents = documents

    def sweep(self, resource: Resource) -> None:
        """All documents of a resource that has no way to ask for changes, and what of it is gone."""
        self._list_all(resource)
        if self._mirror.missing(resource.name, self._round.number):
            self._list_all(resource)  # a page may have shifted: only what is missing twice is gone
            with self._mirror.writing():
                self._mirror.remove(resource.name, self._mirror.missing(resource.name, self._round.number))

    def _list_all(self, resource: Resource) -> None:
        for page in self._expiring_pages(resource):
            self._documents.keep(resource, page)

    def _expiring_pages(self, resource: Resource) -> Iterator[list[Document]]:
        """Pages of a list that has no order to go by: it begins again where its cursor has expired."""
        for attempt in range(_RESTARTS_MAX + 1):
            pages = 0
            try:
                for page in self._documents.pages(resource, resource.path, {}):
                    pages += 1
                    yield page
            except RefusedError as error:
                if pages == 0 or error.status not in EXPIRED or attempt == _RESTARTS_MAX:
                    raise
            else:
                return

    def changes(self, resource: Resource, *, whole: bool) -> None:
        """What changed since the last time, or with `whole` everything, and then what of it is gone."""
        changes, note = resource.changes, self._mirror.note(resource.name)
        assert changes is not None
        begins = max(changes.begins, self._round.begins or changes.begins)
        if not whole:
            since = datetime.fromisoformat(note["since"]) - changes.overlap
        elif note.get("round") == self._round.number:  # this round was interrupted
            since = datetime.fromisoformat(note["reached"]) - changes.overlap
        else:
            since = begins
        walk = self._walk_back if changes.newest_first else self._walk
        reached = walk(resource, changes, max(since, begins), whole=whole)
        walked = {"round": self._round.number, "reached": reached.isoformat()} if whole else {}
        with self._mirror.writing():
            self._mirror.put_note(resource.name, {"since": reached.isoformat(), **walked})
        if whole:
            self._forget_missing(resource, begins)

    def _walk(self, resource: Resource, changes: Changes, since: datetime, *, whole: bool) -> datetime:
        """Follow the order of changes up to now, over windows, refusals of deep pages, and cursors that expire."""
        reached = since
        restarts = 0
        window = changes.window
        while True:
            now = self._client.now()
            until = now if window is None else min(since + window, now)
            ended, seen = self._walk_once(resource, changes, since, until, whole=whole)
            reached = max(reached, seen or reached)
            if not ended and window is not None and window > _WINDOW_MIN:
                window /= 2  # too much for one: its order is not to be relied on
                continue
            window = changes.window
            if ended and until >= now:
                return reached
            if ended:
                since = until
                if whole:
                    self._note_reached(resource, since)
                continue
            restarts = 0 if seen is not None and seen > since else restarts + 1
            if restarts > _RESTARTS_MAX:
                raise SourceError(
                    f"cannot go on in {self._connector.table(resource.name)}: "
                    f"the vendor gives no further page of what changed at {since.isoformat()}",
                    hint="Try again later; if it stays so, please report it.",
                    code="stuck",
                )
            since = max(since, seen or since)

    def _note_reached(self, resource: Resource, reached: datetime) -> None:
        note = {**self._mirror.note(resource.name), "round": self._round.number, "reached": reached.isoformat()}
        with self._mirror.writing():
            self._mirror.put_note(resource.name, note)

    def _walk_back(self, resource: Resource, changes: Changes, since: datetime, *, whole: bool) -> datetime:
        """Read from the newest on until what is older than `since`; with `whole` to the end."""
        newest = since
        for page in self._expiring_pages(resource):
            times = [time for one in page if (time := time_of(at(one, changes.at))) is not None]
            newest = max([newest, *times])
            self._documents.keep(resource, page)
            if not whole and times and min(times) < since:
                break
        return newest

    def _walk_once(
        self, resource: Resource, changes: Changes, since: datetime, until: datetime, *, whole: bool
    ) -> tuple[bool, datetime | None]:
        """One list. Whether it came to its end, and the last time that was seen."""
        seen: datetime | None = None
        count = pages = 0
        try:
            for page in self._documents.pages(resource, resource.path, changes.ask(since, until)):
                pages += 1
                count += len(page)
                times = [time for one in page if (time := time_of(at(one, changes.at))) is not None]
                seen = max([*times, *([seen] if seen else [])], default=None)
                self._documents.keep(resource, page, reached=seen if whole else None)
                if changes.deep_max is not None and count + len(page) > changes.deep_max:
                    return False, seen
        except RefusedError as error:
            if pages == 0 or error.status not in EXPIRED:
                raise
            return False, seen
        return True, seen

    def _forget_missing(self, resource: Resource, begins: datetime) -> None:
        missing = self._mirror.missing(resource.name, self._round.number)
        if not missing:
            return
        if (resource.again or resource.detail) is None or len(missing) > _CONFIRMED_ONE_BY_ONE_MAX:
            changes = resource.changes
            assert changes is not None
            walk = self._walk_back if changes.newest_first else self._walk
            walk(resource, changes, begins, whole=changes.newest_first)
            missing = self._mirror.missing(resource.name, self._round.number)
            with self._mirror.writing():
                self._mirror.remove(resource.name, missing)
            return
        for key in missing:
            if not self._documents.refresh(resource, key):
                with self._mirror.writing():
                    self._mirror.remove(resource.name, [key])
