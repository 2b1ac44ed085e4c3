"""A schedule as an iCalendar feed: one event a shift, which telephones and calendars subscribe to."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from outlast.oncall.roster import Answer
from outlast.oncall.schedule import Interval, Shift

REFRESH = timedelta(minutes=15)
_WEEKS_BEFORE, _WEEKS = 2, 10


def interval(at: datetime) -> Interval:
    """What a feed reaches over: from a Monday two weeks ago on. Not from now: the shift that runs would begin anew, and
    be another event, each time that the feed is fetched."""
    monday = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=at.weekday())
    start = monday - timedelta(weeks=_WEEKS_BEFORE)
    return Interval(start, start + timedelta(weeks=_WEEKS))


def calendar(answer: Answer, *, at: datetime, copied_at: datetime | None) -> bytes:
    """The feed of one schedule. `copied_at` is how old what it rests on is; it is said in every event."""
    from icalendar import Calendar, Event

    feed = Calendar()
    feed.add("prodid", "-//Outlast//on call//EN")
    feed.add("version", "2.0")
    feed.add("x-wr-calname", f"On call: {answer.schedule.name}")
    feed.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    feed.add("x-published-ttl", "PT15M")
    for shift in answer.shifts:
        event = Event()
        event.add("uid", _uid(answer.schedule.key, shift))
        event.add("dtstamp", at)
        event.add("dtstart", shift.start)
        event.add("dtend", shift.end)
        event.add("summary", f"{shift.person} on call: {answer.schedule.name}")
        event.add("description", _told(answer, shift, copied_at))
        event.add("transp", "TRANSPARENT")
        feed.add_component(event)
    return bytes(feed.to_ical())


def _uid(schedule: str, shift: Shift) -> str:
    """The same for the same shift in every feed, so that a calendar keeps it and does not have it twice."""
    text = f"{schedule}\n{shift.person.kind}\n{shift.person.id}\n{shift.origin}\n{shift.start.isoformat()}"
    return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}@outlast"


def _told(answer: Answer, shift: Shift, copied_at: datetime | None) -> str:
    basis = answer.basis(shift.start).value
    source = {
        "vendor": "as the vendor rendered it",
        "computed": "computed from the vendor's rules",
        "override": "set in Outlast",
    }[basis]
    aged = f", from the copy of {copied_at:%Y-%m-%d %H:%M} UTC" if copied_at else ""
    return f"{shift.origin_name or answer.schedule.name}; {source}{aged}"
