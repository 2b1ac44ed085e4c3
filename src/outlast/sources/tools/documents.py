"""Documents on their way from a vendor's answer into the mirror, with all that hangs on them.

A page goes in with the place it leads to, in one transaction. Where each document is read by itself, each goes in as
it comes: a page of them is a hundred requests, and whoever is killed among them goes on from the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from outlast.core.document import SEPARATOR, decode_row, encode_row
from outlast.sources.source import Watcher
from outlast.sources.tools.client import Client, RefusedError
from outlast.sources.tools.connector import Connector, Document, Resource, at, content_of, key_of, updated_of
from outlast.sources.tools.mirror import Entry, Mirror
from outlast.sources.tools.round import Round

GONE = frozenset({404, 410})
EXPIRED = frozenset({400, 404, 410, 422})
REFRESH = "!"
"""A todo of this name and the resource's: documents that another resource said are changed."""

_Kept = Sequence[tuple[str, Document, str]]  # key, document, the time as it was listed


class Documents:
    """Reads one site's documents, and keeps them in its mirror."""

    def __init__(self, connector: Connector, client: Client, mirror: Mirror, round_: Round, watcher: Watcher) -> None:
        self._connector = connector
        self._client = client
        self._mirror = mirror
        self._round = round_
        self._watcher = watcher

    def pages(
        self, resource: Resource, path: str, more: Mapping[str, Any], parent: Document | None = None
    ) -> Iterator[list[Document]]:
        """A list of documents, as the vendor parts it."""
        params = self._round.params({**resource.params, **more}, parent)
        body = None
        if resource.body is not None:
            body, params = {**resource.body, **params}, {}
        return self._client.pages(self._round.path(path, parent), resource.items, resource.paging, params, body)

    def keep(
        self,
        resource: Resource,
        page: Sequence[Document],
        *,
        above: tuple[str, str] | None = None,
        parent: Document | None = None,
        reached: datetime | None = None,
    ) -> None:
        """One page into the mirror. `reached`: the last time that was seen, where the list has an order to go by."""
        listed_whole: list[tuple[str, Document, str]] = []
        for number, listed in enumerate(page):
            own = key_of(resource, listed) or f"{number:06}"
            key = own if above is None else f"{above[1]}{SEPARATOR}{own}"
            stamp = _stamp(resource, listed)
            if self._is_known(resource, key, stamp):
                self._mirror.touch(resource.name, key, self._round.number)
            elif resource.detail is None:
                listed_whole.append((key, listed, stamp))
            else:
                params = self._round.params(resource.detail_params, parent)
                document = self._one(resource.detail, resource.detail_items, listed, parent, params)
                if document is not None:
                    self._put(resource, [(key, document, stamp)], above)
        self._put(resource, listed_whole, above, reached)
        self._watcher.advance(len(page))

    def _is_known(self, resource: Resource, key: str, stamp: str) -> bool:
        """Whether a document need not be read: it was since this round began, or has not changed by its own word."""
        seen = self._mirror.seen(resource.name, key)
        if seen is None or seen.stamp != stamp:
            return False
        if resource.detail is not None and seen.round == self._round.number:
            return True
        return bool(stamp) and not self._round.full

    def refresh(self, resource: Resource, key: str) -> bool:
        """Read one document again. Returns whether it is still there."""
        row = self._mirror.row(resource.name, key)
        path, items = (
            (resource.again, resource.again_items) if resource.again else (resource.detail, resource.detail_items)
        )
        if row is None or path is None:
            return False
        document = self._one(path, items, document_of(row), None)
        if document is None:
            return False
        self._put(resource, [(key, document, _stamp(resource, document))], None)
        return True

    def _one(
        self,
        path: str,
        items: str,
        known: Document,
        parent: Document | None,
        params: Mapping[str, Any] | None = None,
    ) -> Document | None:
        """One document, read by itself; None where it is gone since it was listed."""
        try:
            found = self._client.get(self._round.path(path, known, parent), params)
        except RefusedError as error:
            if error.status in GONE:
                return None
            raise
        whole = found if items == "$" else at(found, items)
        return whole if isinstance(whole, dict) else known

    # Into the mirror

    def _put(
        self, resource: Resource, kept: _Kept, above: tuple[str, str] | None, reached: datetime | None = None
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
            self._want_contents(resource, entries, changed)
            self._touch_others(resource, kept, set(changed))
            if reached is not None:
                note = {**mirror.note(resource.name), "round": number, "reached": reached.isoformat()}
                mirror.put_note(resource.name, note)

    def _want_contents(self, resource: Resource, entries: Sequence[Entry], changed: Sequence[str]) -> None:
        if resource.content is not None and self._round.content_bytes_max:
            wanted = [entry.key for entry in entries] if self._round.full else changed
            self._mirror.add_todo(content_of(resource.name), resource.name, wanted)

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
        self._want_contents(child, entries, self._mirror.put(child.name, entries, self._round.number))
        self._mirror.remove(child.name, self._mirror.missing(child.name, self._round.number, (of, key)))
        holder, _, last = place.rpartition(".")
        del (at(document, holder) if holder else document)[last]  # it is kept once: in a table of its own
        return True

    def _touch_others(self, resource: Resource, kept: _Kept, changed: set[str]) -> None:
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


def document_of(row: bytes) -> Document:
    """A document out of its row."""
    return decode_row(row, source="", tenant="", table="").document


def _stamp(resource: Resource, document: Document) -> str:
    if resource.changes is None or resource.changes.created_only:
        return ""
    return str(at(document, resource.changes.at) or "")
