"""The status page as files: HTML in every language, style, JSON and feeds, to be put anywhere that serves files.

Pure: a page goes in, paths and bytes come out. No tracker, no font, no request to anybody else; readable without
JavaScript, which only says how old the page is where nobody renews it. What people wrote is escaped by the templates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from typing import Any

from outlast.incident import feed, statuspage
from outlast.incident.incident import Component
from outlast.incident.notices import Notice, clock
from outlast.incident.page import PAST_DAYS, ComponentView, IncidentView, StatusPage, groups
from outlast.incident.report import PROMPTS, Report, sections, span
from outlast.incident.words import Words, words

_BAR = 4  # a day's width in the picture, a gap of 1 included


def files(page: StatusPage) -> Mapping[str, bytes]:
    """Every file by its path. The entries that name others come last: written in this order, no link is ever dead."""
    found: dict[str, bytes] = {"style.css": _static("style.css"), "age.js": _static("age.js")}
    for language in page.spec.languages:
        found.update(_pages(page, language))
    found.update(feed.documents(page))
    found.update(statuspage.documents(page))
    for language in page.spec.languages:
        place = f"{folder(page, language)}index.html"
        found[place] = found.pop(place)
    return found


def folder(page: StatusPage, language: str) -> str:
    """The first language's files lie at the top, each other's in a folder of its own."""
    return "" if language == page.spec.languages[0] else f"{language}/"


def _pages(page: StatusPage, language: str) -> Iterator[tuple[str, bytes]]:
    up = "../" * folder(page, language).count("/")
    recent = [view for view in page.past if view.incident.opened_at > page.at - timedelta(days=PAST_DAYS)]
    shown = (*page.current, *page.planned, *page.past)
    here = folder(page, language)
    for view in shown:
        name = f"incidents/{view.incident.id}.html"
        yield here + name, _render("incident.html", page, language, root="../" + up, name=name, view=view)
    yield (
        f"{here}history.html",
        _render("history.html", page, language, root=up, name="history.html", months=_months(page.past)),
    )
    yield (
        f"{here}index.html",
        _render("index.html", page, language, root=up, name="index.html", recent=recent, past_days=PAST_DAYS),
    )


def _months(views: tuple[IncidentView, ...]) -> list[tuple[str, list[IncidentView]]]:
    return [
        (month, list(found))
        for month, found in groupby(views, key=lambda view: f"{view.incident.opened_at.astimezone(UTC):%Y-%m}")
    ]


def render_notice(found: Notice, page: StatusPage, *, root: str = "/") -> bytes:
    """A tenant's own notice. `root` is where the page's style lies."""
    return _render("notice.html", page, found.language, root=root, name="index.html", notice=found)


def _render(template: str, page: StatusPage, language: str, **values: Any) -> bytes:
    text = (
        _environment()
        .get_template(template)
        .render(
            page=page,
            language=language,
            say=words(language),
            words=words,
            folder=lambda other: folder(page, other),
            clock=clock,
            iso=_iso,
            bars=bars,
            spoken=spoken,
            uptime=uptime,
            groups=groups,
            **values,
        )
    )
    return str(text).encode()


def render_report(report: Report) -> bytes:
    """The post-incident review as one HTML file by itself, with its timeline as a picture."""
    from markupsafe import Markup

    times = [mark.at for mark in report.marks]
    start, end = min(times), max(times)
    length = max((end - start).total_seconds(), 1.0)
    text = (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            style=Markup(_static("style.css").decode()),  # noqa: S704 - our own file
            lanes=["detection", "communication", "recovery", "people"],
            position=lambda mark: round(126 + (mark.at - start).total_seconds() / length * 858),
            start=start,
            end=end,
            sections=sections(report),
            prompts=PROMPTS,
            span=span,
            clock=clock,
            iso=_iso,
        )
    )
    return str(text).encode()


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=PackageLoader("outlast.incident", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lines"] = lambda text: Markup("<br>").join(escape(line) for line in text.splitlines())
    return environment


@cache
def _static(name: str) -> bytes:
    from importlib.resources import files as resources

    return (resources("outlast.incident") / "templates" / name).read_bytes()


def bars(view: ComponentView) -> list[tuple[str, str]]:
    """The days as one path a state: ninety elements a component would be most of the page's bytes."""
    paths: dict[str, str] = {}
    for position, day in enumerate(view.days):
        state = "none" if day.state is None else day.state.value
        paths[state] = f"{paths.get(state, '')}M{position * _BAR} 0h{_BAR - 1}v20h-{_BAR - 1}z"
    return list(paths.items())


def uptime(view: ComponentView, say: Words) -> str:
    """Rounded down: 100 % is said only of a component that was never down."""
    known = sum(day.state is not None for day in view.days)
    if view.uptime is None:
        return say("page.no_data")
    return say("page.uptime", count=known, percent=f"{int(view.uptime * 10_000) / 100:.2f}")


def spoken(view: ComponentView, say: Words) -> str:
    """The picture in words, for those who do not see it: the uptime, and the days that were not well."""
    bad = [
        f"{day.day.isoformat()}: {say(f'component.{day.state.value}')}"
        for day in view.days
        if day.state not in (None, Component.OPERATIONAL)
    ]
    return ". ".join([uptime(view, say), *bad])


def _iso(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
