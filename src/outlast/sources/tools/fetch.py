"""A fetch: one round over a site, resource by resource, parents before their children, taken up where it was ended.

What has a cursor is asked for its changes; what has none is listed whole. Now and then everything is listed, so that a
deletion of what has a cursor is noticed too (reconciliation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from outlast.sources.source import Notice, Watcher
from outlast.sources.tools.children import Children
from outlast.sources.tools.client import Client, RefusedError
from outlast.sources.tools.connector import Connector, Resource, content_of
from outlast.sources.tools.documents import REFRESH, Documents, document_of
from outlast.sources.tools.listing import Listing
from outlast.sources.tools.mirror import Mirror
from outlast.sources.tools.round import Round

RESUMED_WITHIN = timedelta(hours=12)
"""An interrupted round is taken up within this. Its moment is when it began."""

_OPTIONAL = frozenset({400, 402, 403, 404, 405, 410, 422})
_PARENTS_AT_ONCE = 50
_HALF_GONE_MIN = 20


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """`quick`: leave out what can only be listed whole, if that was done within this time (for `follow`)."""

    skip: frozenset[str] = frozenset()
    full: bool = False
    reconcile: timedelta = timedelta(days=1)
    quick: timedelta | None = None
    content_bytes_max: int = 0
    begins: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A finished round. `started` is the moment that it stands for: all that was there then was seen."""

    round: int
    started: datetime
    requests: int
    notices: tuple[Notice, ...]


class Fetch:
    """See `run`."""

    def __init__(
        self,
        connector: Connector,
        client: Client,
        mirror: Mirror,
        site: Mapping[str, str],
        options: FetchOptions,
        watcher: Watcher,
        now: datetime,
    ) -> None:
        self._connector = connector
        self._client = client
        self._mirror = mirror
        self._options = options
        self._watcher = watcher
        self._notices: list[Notice] = []
        self._note = self._begin(now)
        started = datetime.fromisoformat(self._note["started"])
        self._round = Round(
            self._note["round"],
            started,
            options.full,
            site,
            connector.title,
            options.content_bytes_max,
            options.begins,
        )
        self._documents = Documents(connector, client, mirror, self._round, watcher)
        self._listing = Listing(connector, client, mirror, self._round, self._documents)
        self._children = Children(connector, client, mirror, self._round, self._documents)

    def run(self) -> Fetched:
        """Bring the mirror to what the site is now. Raises an OutlastError; what was fetched by then is kept."""
        for resource in self._connector.resources:
            if resource.name in self._options.skip:
                with self._mirror.writing():
                    self._mirror.clear(resource.name)
                continue
            if resource.name in self._note["done"]:
                continue
            self._watcher.stage(f"fetching {resource.name}", None)
            before = self._mirror.count(resource.name)
            self._fetch(resource)
            self._warn_if_gone(resource, before)
            self._finish(resource)
        self._end()
        return Fetched(self._round.number, self._round.started, self._client.requests, tuple(self._notices))

    def _begin(self, now: datetime) -> dict[str, Any]:
        note = self._mirror.note("round")
        started = datetime.fromisoformat(note["started"]) if note else now
        taken_up = not self._options.full or note.get("full", False)  # what was taken for unchanged is not full
        if note and note["open"] and taken_up and now - started < RESUMED_WITHIN:
            return note
        reconciled = note.get("reconciled")
        due = reconciled is None or now - datetime.fromisoformat(reconciled) >= self._options.reconcile
        swept = note.get("swept")
        quick = self._options.quick
        sweeps = quick is None or swept is None or now - datetime.fromisoformat(swept) >= quick
        note = {
            "round": note.get("round", 0) + 1,
            "started": now.isoformat(),
            "open": True,
            "done": [],
            "full": self._options.full,
            "whole": due or self._options.full,
            "sweeps": sweeps or due or self._options.full,
            "reconciled": reconciled,
            "swept": swept,
        }
        with self._mirror.writing():
            self._mirror.put_note("round", note)
        return note

    def _end(self) -> None:
        note = {**self._note, "open": False, "done": []}
        if note["whole"]:
            note["reconciled"] = note["started"]
        if note["sweeps"]:
            note["swept"] = note["started"]
        with self._mirror.writing():
            self._mirror.put_note("round", note)

    def _finish(self, resource: Resource) -> None:
        self._note = {**self._note, "done": [*self._note["done"], resource.name]}
        with self._mirror.writing():
            self._mirror.put_note("round", self._note)

    def _fetch(self, resource: Resource) -> None:
        try:
            if resource.parent is not None:
                self._fetch_children(resource)
            elif resource.changes is not None:
                fresh = "since" not in self._mirror.note(resource.name)
                whole = self._note["whole"] and not (resource.changes.never_deleted and not self._options.full)
                self._listing.changes(resource, whole=whole or fresh)
            elif self._note["sweeps"] or not self._mirror.version(resource.name):
                self._listing.sweep(resource)
            if resource.touches is not None:
                self._refresh(self._connector.resource(resource.touches[0]))
            if resource.content is not None:
                self._fetch_contents(resource)
        except RefusedError as error:
            if resource.optional is None or error.status not in _OPTIONAL:
                raise self._told(resource, error) from error
            self._notices.append(
                Notice(
                    "warning",
                    "not-given",
                    f"{self._connector.table(resource.name)} is not given (HTTP {error.status}): {resource.optional}",
                    f'To have it left out in silence: skip = ["{resource.name}"] in [sources.…].',
                    self._connector.table(resource.name),
                    "protect",
                )
            )

    def _fetch_children(self, resource: Resource) -> None:
        assert resource.parent is not None
        begun = f"children of {resource.name}"
        swept = self._note["sweeps"] or not self._mirror.version(resource.name)
        all_of_them = swept if not resource.only_with_parent else resource.loose and self._note["whole"]
        full = self._options.full and not resource.comes_with_parent
        if (all_of_them or full) and self._mirror.note(begun).get("round") != self._round.number:
            with self._mirror.writing():
                self._mirror.todo_all(resource.name, resource.parent)
                self._mirror.put_note(begun, {"round": self._round.number})
        at_once = _PARENTS_AT_ONCE if resource.bulk is None else resource.bulk.at_once_max
        while batch := self._mirror.next_todo(resource.name, at_once):
            if resource.bulk is not None:
                self._children.of_many(resource, resource.bulk, {key: name for name, key, _ in batch})
                continue
            for name, key, row in batch:
                self._children.of(resource, key, document_of(row), name)

    def _fetch_contents(self, resource: Resource) -> None:
        table = content_of(resource.name)
        while batch := self._mirror.next_todo(table, _PARENTS_AT_ONCE):
            for name, key, row in batch:
                self._children.content(resource, key, document_of(row), name)
        for left in self._round.left_out:
            text = f"a file is larger than attachment_mb_max and is not kept: {left}"
            self._notices.append(Notice("warning", "large-file", text, promise="protect"))
        self._round.left_out.clear()

    def _refresh(self, resource: Resource) -> None:
        """Read again what another resource said has changed, and what belongs to it."""
        todo = resource.name + REFRESH
        while batch := self._mirror.next_todo(todo, _PARENTS_AT_ONCE):
            for name, key, _ in batch:
                there = self._documents.refresh(resource, key)
                with self._mirror.writing():
                    if not there:
                        self._mirror.remove(resource.name, [key])
                    self._mirror.done(todo, name)

    def _warn_if_gone(self, resource: Resource, before: int) -> None:
        now = self._mirror.count(resource.name)
        if before >= _HALF_GONE_MIN and now < before / 2:
            table = self._connector.table(resource.name)
            self._notices.append(
                Notice(
                    "warning",
                    "half-gone",
                    f"{table} had {before:,} documents and now has {now:,}: deleted, or no longer shown to this token?",
                    "The run before has them: outlast diff, outlast show --at.",
                    table,
                    "protect",
                )
            )

    def _told(self, resource: Resource, error: RefusedError) -> RefusedError:
        """The same error, with the name that a person would write into outlast.toml."""
        hint = error.hint and error.hint.replace('skip = ["…"]', f'skip = ["{resource.name}"]')
        return RefusedError(error.message, status=error.status, hint=hint, code=error.code)
