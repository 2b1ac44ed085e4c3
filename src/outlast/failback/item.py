"""What waits to go back: tickets, comments and overrides that were entered here, each as it would be written there.

Where an item goes is decided here, and what became of it is written down in the journal that it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from outlast.core.errors import NotFoundError, Refused
from outlast.desk import entries
from outlast.oncall import overrides
from outlast.sources.tools.writing.writer import Comment, Place, Ticket, Turn, Wanted, visible

OVERRIDE = "override"
ID_SHOWN = 8
_TITLE_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Item:
    """`id` is the journal's. `wanted` is None where `blocked` says why it cannot go. `after`: the ticket, also of ours,
    that has to go first. `seen_at` is when what it belongs to was last changed, as its author saw it."""

    id: str
    kind: str
    source: str
    title: str
    by: str
    at: datetime
    wanted: Wanted | None = None
    seen_at: datetime | None = None
    own_change_at: datetime | None = None  # when we ourselves changed what it belongs to last
    attempted_at: datetime | None = None
    blocked: str | None = None
    after: str | None = None

    @property
    def short(self) -> str:
        return self.id[:ID_SHOWN]


def waiting(connection: Connection, kinds: Mapping[str, str], now: datetime) -> list[Item]:
    """Everything that no tool has yet: entries as they were written, then overrides. `kinds`: the tools by name."""
    found = [_of_entry(connection, one, kinds) for one in entries.untaken(connection)]
    return found + [_of_override(connection, one, kinds) for one in overrides.untaken(connection, now)]


def again(connection: Connection, item: Item, kinds: Mapping[str, str], now: datetime) -> Item | None:
    """The item as it is now; None where it does not wait any more."""
    if item.kind == OVERRIDE:
        found = (one for one in overrides.untaken(connection, now) if one.id == item.id)
        return next((_of_override(connection, one, kinds) for one in found), None)
    entry = entries.get(connection, item.id)
    return None if entry is None or entry.taken_at is not None else _of_entry(connection, entry, kinds)


def named(items: list[Item], text: str) -> Item:
    """The one whose id begins so. Raises NotFoundError."""
    found = [one for one in items if text and one.id.startswith(text)]
    if len(found) != 1:
        many = "several things that wait have an id that begins" if found else "nothing waits whose id begins"
        raise NotFoundError(
            f"{many} with {text!r}", hint="What waits, with its id in brackets, and nothing that went: outlast failback"
        )
    return found[0]


def attempted(connection: Connection, item: Item, at: datetime | None) -> None:
    """It is being sent; None: nothing that was sent can have arrived."""
    time = None if at is None else at.timestamp()
    (overrides.attempted if item.kind == OVERRIDE else entries.attempted)(connection, item.id, time)


def taken(connection: Connection, item: Item, place: Place, at: datetime) -> None:
    """It is in the tool."""
    if item.kind == OVERRIDE:
        overrides.taken(connection, item.id, at.timestamp(), place.key, place.url)
    else:
        changed = None if place.at is None else place.at.timestamp()
        entries.taken(connection, item.id, at.timestamp(), place.key, place.url, changed)


def _of_entry(connection: Connection, entry: entries.Entry, kinds: Mapping[str, str]) -> Item:
    at, attempt = _moment(entry.at), entry.attempted_at
    tried = None if attempt is None else _moment(attempt)
    if entry.kind == entries.TICKET:
        source, blocked = _home(entry.source, kinds)
        wanted = Ticket(entry.id, entry.by, at, entry.title, entry.text, tried)
        return Item(
            entry.id, entry.kind, source, _quoted(entry.title), entry.by, at, None if blocked else wanted,
            attempted_at=tried, blocked=blocked,
        )  # fmt: skip
    return _of_comment(connection, entry, kinds, tried)


def _of_comment(connection: Connection, entry: entries.Entry, kinds: Mapping[str, str], tried: datetime | None) -> Item:
    at, source, own = _moment(entry.at), entry.source, None
    # One that was taken before this was kept saw nothing later than its own time.
    seen: float | None = entry.at if entry.seen_at is None else entry.seen_at
    table, _, key = entry.about.partition(":") if ":" in entry.about else ("", "", "")
    said, blocked, after = _quoted(entry.text), None, None
    title = f"{said} on {table.partition('.')[2]} {key}"
    if not table:
        ticket = entries.get(connection, entry.about)
        assert ticket is not None
        source, blocked = _home(ticket.source, kinds)
        title = f"{said} on {_quoted(ticket.title)}"
        if ticket.taken_at is None:
            after = ticket.id
        elif not ticket.taken_as:
            blocked = "its ticket was left here"
        table, key, seen = "jira.issues", ticket.taken_as or "", None
    else:
        changed = entries.last_changed(connection, source, entry.about)
        own = None if changed is None else _moment(changed)
        blocked = _unknown(source, kinds)
    wanted = Comment(entry.id, entry.by, at, table, key, entry.text, tried)
    return Item(
        entry.id, entry.kind, source, title, entry.by, at, None if blocked or after else wanted,
        None if seen is None else _moment(seen), own, tried, blocked, after,
    )  # fmt: skip


def _of_override(connection: Connection, one: overrides.LocalOverride, kinds: Mapping[str, str]) -> Item:
    source, _, schedule = one.schedule.partition("/")
    tried = None if one.attempted_at is None else _moment(one.attempted_at)
    start, end = one.interval.start, one.interval.end
    ours = overrides.taken_keys(connection, one.schedule)
    wanted = Turn(one.id, one.set_by, one.set_at, schedule, one.person.id, start, end, tried, ours)
    title = f"{visible(str(one.person))} on {schedule}, {_minute(start)} to {_minute(end)}"
    blocked = _unknown(source, kinds)
    return Item(
        one.id, OVERRIDE, source, title, one.set_by, one.set_at, None if blocked else wanted, attempted_at=tried,
        blocked=blocked,
    )  # fmt: skip


def _home(source: str, kinds: Mapping[str, str]) -> tuple[str, str | None]:
    """Which tool a ticket goes to, or why none is known."""
    trackers = sorted(name for name, kind in kinds.items() if kind == "jira")
    if source:
        return source, _unknown(source, kinds)
    if len(trackers) == 1:
        return trackers[0], None
    if not trackers:
        return "", "outlast.toml has no tool that takes tickets"
    return "", f"nobody said which tool it is for, and there are {', '.join(trackers)}"


def _unknown(source: str, kinds: Mapping[str, str]) -> str | None:
    return None if source in kinds else f"outlast.toml has no tool {source!r}"


def leave(connection: Connection, item: Item, at: datetime) -> None:
    """It stays here only."""
    taken(connection, item, Place(""), at)


def by_hand(connection: Connection, item: Item, key: str, at: datetime) -> None:
    """A person has written it there, where it is `key`. Raises Refused where that says nothing."""
    if not key.strip():
        raise Refused("where it is there is not said", hint=f"outlast failback --by-hand {item.short}=OPS-17")
    taken(connection, item, Place(key.strip()), at)


def _quoted(text: str) -> str:
    title = visible(text)
    shown = title if len(title) <= _TITLE_SHOWN else title[: _TITLE_SHOWN - 1] + "…"
    return f'"{shown}"'


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
