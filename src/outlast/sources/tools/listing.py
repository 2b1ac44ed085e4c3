"""One resource, listed from a vendor into the mirror: page by page, each page and the place it leads to together.

Whatever ends it, the mirror holds whole pages, and listing again goes on from the last time that was seen. A document
that is not listed any more is only forgotten after a second look: pages shift while somebody deletes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from outlast.core.document import SEPARATOR, decode_row, encode_row
from outlast.core.errors import SourceError
from outlast.sources.source import Watcher
from outlast.sources.tools.client import Client, RefusedError
from outlast.sources.tools.connector import (
    Bulk,
    Changes,
    Connector,
    Document,
    Resource,
    at,
    content_of,
    key_of,
    time_of,
    updated_of,
)
from outlast.sources.tools.mirror import Entry, Mirror

_PLACE = re.compile(r"\{(=?)([^}]+)\}")
_PART_BYTES = 256 * 1024
_GONE = frozenset({404, 410})
_EXPIRED = frozenset({400, 404, 410, 422})
_RESTARTS_MAX = 3
_CONFIRMED_ONE_BY_ONE_MAX = 200
_WINDOW_MIN = timedelta(minutes=1)
REFRESH = "!"
"""A todo of this name and the resource's: documents that another resource said are changed."""


@dataclass
class Round:
    """One pass over a site: what is seen in it is marked with its number."""

    number: int
    started: datetime
    full: bool  # nothing is taken for unchanged
    site: Mapping[str, str]  # what paths may name beside a parent's fields
    content_bytes_max: int = 0
    begins: datetime | None = None  # how far back history goes, if not all the way
    left_out: list[str] = field(default_factory=list)  # what could not be had, for the report


class Listing:
    """Lists resources of one site into its mirror."""

    def __init__(self, connector: Connector, client: Client, mirror: Mirror, round_: Round, watcher: Watcher) -> None:
        self._connector = connector
        self._client = client
        self._mirror = mirror
        self._round = round_
        self._watcher = watcher

    # Whole resources

    def sweep(self, resource: Resource) -> None:
        """All documents of a resource that has no way to ask for changes, and what of it is gone."""
        self._list_all(resource)
        if self._mirror.missing(resource.name, self._round.number):
            self._list_all(resource)  # a page may have shifted: only what is missing twice is gone
            with self._mirror.writing():
                self._mirror.remove(resource.name, self._mirror.missing(resource.name, self._round.number))

    def _list_all(self, resource: Resource) -> None:
        for page in self._expiring_pages(resource):
            self._keep(resource, page)

    def _expiring_pages(self, resource: Resource) -> Iterator[list[Document]]:
        """Pages of a list that has no order to go by: it begins again where its cursor has expired."""
        for attempt in range(_RESTARTS_MAX + 1):
            pages = 0
            try:
                for page in self._pages(resource, resource.path, {}):
                    pages += 1
                    yield page
            except RefusedError as error:
                if pages == 0 or error.status not in _EXPIRED or attempt == _RESTARTS_MAX:
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
        with self._mirror.writing():
            self._mirror.put_note(resource.name, {"since": reached.isoformat()})
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

    def _walk_back(self, resource: Resource, changes: Changes, since: datetime, *, whole: bool) -> datetime:
        """Read from the newest on until what is older than `since`; with `whole` to the end."""
        newest = since
        for page in self._expiring_pages(resource):
            times = [time for one in page if (time := time_of(at(one, changes.at))) is not None]
            newest = max([newest, *times])
            self._keep(resource, page)
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
            for page in self._pages(resource, resource.path, changes.ask(since, until)):
                pages += 1
                count += len(page)
                times = [time for one in page if (time := time_of(at(one, changes.at))) is not None]
                seen = max([*times, *([seen] if seen else [])], default=None)
                self._keep(resource, page, reached=seen if whole else None)
                if changes.deep_max is not None and count + len(page) > changes.deep_max:
                    return False, seen
        except RefusedError as error:
            if pages == 0 or error.status not in _EXPIRED:
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
            gone = self._mirror.missing(resource.name, self._round.number)
        else:
            gone = [key for key in missing if not self.refresh(resource, key)]
        with self._mirror.writing():
            self._mirror.remove(resource.name, gone)

    def refresh(self, resource: Resource, key: str) -> bool:
        """Read one document again. Returns whether it is still there."""
        row = self._mirror.row(resource.name, key)
        path, items = (
            (resource.again, resource.again_items) if resource.again else (resource.detail, resource.detail_items)
        )
        if row is None or path is None:
            return False
        document = self._one(path, items, self._decoded(row), None)
        if document is None:
            return False
        self._put(resource, [(key, document, self._stamp(resource, document))], None)
        return True

    # Children

    def children(self, resource: Resource, key: str, parent: Document, name: bytes) -> None:
        """What belongs to one document: afterwards the mirror has exactly that."""
        assert resource.parent is not None
        above = (resource.parent, key)
        try:
            self._list_children(resource, above, parent)
            if self._mirror.missing(resource.name, self._round.number, above):
                self._list_children(resource, above, parent)
        except RefusedError as error:
            if error.status not in _GONE:
                raise
        with self._mirror.writing():
            self._mirror.remove(resource.name, self._mirror.missing(resource.name, self._round.number, above))
            self._mirror.done(resource.name, name)

    def children_together(self, resource: Resource, bulk: Bulk, parents: Mapping[str, bytes]) -> None:
        """What belongs to several documents, given by key and name; asked for one by one where together is refused."""
        assert resource.parent is not None
        try:
            self._list_together(resource, bulk, parents)
            if any(self._missing_of(resource, key) for key in parents):
                self._list_together(resource, bulk, parents)
        except RefusedError as error:
            if len(parents) > 1 and error.status in _EXPIRED:
                for key, name in parents.items():
                    self.children_together(resource, bulk, {key: name})
                return
            if error.status not in _GONE:
                raise
        with self._mirror.writing():
            for key, name in parents.items():
                self._mirror.remove(resource.name, self._missing_of(resource, key))
                self._mirror.done(resource.name, name)

    def _list_together(self, resource: Resource, bulk: Bulk, parents: Mapping[str, bytes]) -> None:
        body = {**(resource.body or {}), bulk.ids: list(parents)}
        for page in self._client.pages(self._filled(resource.path), resource.items, resource.paging, {}, body):
            for share in page:
                of, found = str(at(share, bulk.of)), at(share, bulk.inner)
                if of in parents and isinstance(found, list):
                    self._keep(resource, found, above=(str(resource.parent), of))

    def _missing_of(self, resource: Resource, key: str) -> list[str]:
        return self._mirror.missing(resource.name, self._round.number, (str(resource.parent), key))

    def _list_children(self, resource: Resource, above: tuple[str, str], parent: Document) -> None:
        path = self._filled(resource.path, parent)
        for page in self._pages(resource, path, {}, parent):
            self._keep(resource, page, above=above, parent=parent)

    # Files

    def content(self, resource: Resource, key: str, document: Document, name: bytes) -> None:
        """A file's bytes, in parts that are rows; nothing of one that is larger than is kept."""
        assert resource.content is not None
        table = content_of(resource.name)
        size = at(document, "size") or at(document, "fileSize") or 0
        if isinstance(size, int) and size > self._round.content_bytes_max:
            self._round.left_out.append(f"{self._connector.table(resource.name)} {key}: {size:,} bytes")
        else:
            self._fetch_content(resource, table, key, document)
        with self._mirror.writing():
            self._mirror.remove(table, self._mirror.missing(table, self._round.number, (resource.name, key)))
            self._mirror.done(table, name)

    def _fetch_content(self, resource: Resource, table: str, key: str, document: Document) -> None:
        path = self._filled(str(resource.content), document)
        try:
            for number, data in enumerate(self._client.content(path, _PART_BYTES)):
                part = f"{key}{SEPARATOR}{number:06}"
                row = encode_row(part, None, {"part": number, "data": base64.b64encode(data).decode("ascii")})
                with self._mirror.writing():
                    self._mirror.put(table, [Entry(part, row, "", (resource.name, key))], self._round.number)
        except RefusedError as error:
            if error.status not in _GONE:
                raise

    # Pages

    def _pages(
        self, resource: Resource, path: str, more: Mapping[str, Any], parent: Document | None = None
    ) -> Iterator[list[Document]]:
        params = self._params({**resource.params, **more}, parent)
        body = None
        if resource.body is not None:
            body, params = {**resource.body, **params}, {}
        return self._client.pages(self._filled(path, parent), resource.items, resource.paging, params, body)

    def _params(self, given: Mapping[str, Any], parent: Document | None) -> dict[str, Any]:
        now = self._round.started
        made = {name: value(now) if callable(value) else value for name, value in given.items()}
        return {name: self._filled_text(value, parent) for name, value in made.items()}

    def _keep(
        self,
        resource: Resource,
        page: Sequence[Document],
        *,
        above: tuple[str, str] | None = None,
        parent: Document | None = None,
        reached: datetime | None = None,
    ) -> None:
        """One page into the mirror, with all that hangs on it."""
        kept: list[tuple[str, Document, str]] = []
        for number, listed in enumerate(page):
            own = key_of(resource, listed) or f"{number:06}"
            key = own if above is None else f"{above[1]}{SEPARATOR}{own}"
            stamp = self._stamp(resource, listed)
            if stamp and not self._round.full and self._mirror.stamp(resource.name, key) == stamp:
                self._mirror.touch(resource.name, key, self._round.number)
                continue
            document = self._detailed(resource, listed, parent)
            if document is not None:
                kept.append((key, document, stamp))
        self._put(resource, kept, above, reached)
        self._watcher.advance(len(page))

    def _put(
        self,
        resource: Resource,
        kept: Sequence[tuple[str, Document, str]],
        above: tuple[str, str] | None,
        reached: datetime | None = None,
    ) -> None:
        mirror, number = self._mirror, self._round.number
        with mirror.writing():
            whole: dict[str, set[str]] = {}
            for key, document, _ in kept:
                for child in self._connector.children(resource.name):
                    if self._take_inline(child, resource.name, key, document):
                        whole.setdefault(child.name, set()).add(key)
            entries = [
                Entry(key, encode_row(key, updated_of(resource, document), document), stamp, above)
                for key, document, stamp in kept
            ]
            changed = mirror.put(resource.name, entries, number)
            for child in self._connector.children(resource.name):
                if child.only_with_parent:
                    mirror.add_todo(
                        child.name, resource.name, [k for k in changed if k not in whole.get(child.name, ())]
                    )
            if resource.content is not None and self._round.content_bytes_max:
                wanted = [entry.key for entry in entries] if self._round.full else changed
                mirror.add_todo(content_of(resource.name), resource.name, wanted)
            self._touch_others(resource, kept, set(changed))
            if reached is not None:
                note = {**mirror.note(resource.name), "round": number, "reached": reached.isoformat()}
                mirror.put_note(resource.name, note)

    def _take_inline(self, child: Resource, of: str, key: str, document: Document) -> bool:
        """Take children out of their parent where it holds all of them. Returns whether it did."""
        if child.inline is None:
            return False
        place, number = child.inline
        listed, total = at(document, place), at(document, number) if number else None
        if not isinstance(listed, list) or (total is not None and total != len(listed)):
            return False
        entries = []
        for one in listed:
            full = f"{key}{SEPARATOR}{key_of(child, one)}"
            entries.append(Entry(full, encode_row(full, updated_of(child, one), one), "", (of, key)))
        changed = self._mirror.put(child.name, entries, self._round.number)
        if child.content is not None and self._round.content_bytes_max:
            wanted = [entry.key for entry in entries] if self._round.full else changed
            self._mirror.add_todo(content_of(child.name), child.name, wanted)
        self._mirror.remove(child.name, self._mirror.missing(child.name, self._round.number, (of, key)))
        holder, _, last = place.rpartition(".")
        del (at(document, holder) if holder else document)[last]  # it is kept once: in a table of its own
        return True

    def _touch_others(self, resource: Resource, kept: Sequence[tuple[str, Document, str]], changed: set[str]) -> None:
        if resource.touches is None:
            return
        target, place = resource.touches
        changes, since = resource.changes, None
        if changes is not None and "since" not in self._mirror.note(resource.name):
            since = self._round.started - changes.overlap  # the first time all that is older was just read
        keys = {
            str(found)
            for key, one, _ in kept
            if key in changed
            and (found := at(one, place)) is not None
            and (since is None or (updated_of(resource, one) or since) >= since)
        }
        self._mirror.add_todo(target + REFRESH, target, sorted(keys))

    def _detailed(self, resource: Resource, listed: Document, parent: Document | None) -> Document | None:
        """The document whole; None where it is gone since it was listed."""
        if resource.detail is None:
            return listed
        params = self._params(resource.detail_params, parent)
        return self._one(resource.detail, resource.detail_items, listed, parent, params)

    def _one(
        self,
        path: str,
        items: str,
        known: Document,
        parent: Document | None,
        params: Mapping[str, Any] | None = None,
    ) -> Document | None:
        """One document, read by itself; None where it is gone."""
        try:
            found = self._client.get(self._filled(path, known, parent), params)
        except RefusedError as error:
            if error.status in _GONE:
                return None
            raise
        whole = found if items == "$" else at(found, items)
        return whole if isinstance(whole, dict) else known

    def _stamp(self, resource: Resource, document: Document) -> str:
        if resource.changes is None or resource.changes.created_only:
            return ""
        return str(at(document, resource.changes.at) or "")

    def _decoded(self, row: bytes) -> Document:
        return decode_row(row, source="", tenant="", table="").document

    def _filled(self, path: str, *documents: Document | None) -> str:
        """A path with its places filled in: from a document, else from the site."""

        def value(match: re.Match[str]) -> str:
            text = self._value(match[2], documents)
            return text if match[1] else quote(text, safe="")  # {=link} is an address itself

        return _PLACE.sub(value, path)

    def _filled_text(self, value: Any, *documents: Document | None) -> Any:
        if not isinstance(value, str):
            return value
        return _PLACE.sub(lambda match: self._value(match[2], documents), value)

    def _value(self, place: str, documents: Sequence[Document | None]) -> str:
        if place.startswith("parent."):
            place, documents = place.removeprefix("parent."), documents[-1:]
        for document in documents:
            found = None if document is None else at(document, place)
            if found is not None:
                return str(found)
        if place in self._round.site:
            return self._round.site[place]
        raise SourceError(
            f"a document of {self._connector.title} has no {place!r}, which its address needs",
            hint="This may be a change in the vendor's API; please report it.",
            code="vendor-changed",
        )
