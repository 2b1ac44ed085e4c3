"""The status page and a tenant's notice in Debian's Chromium: by keyboard alone, and with nothing for axe to find."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from outlast.core.tenant import TenantKey
from outlast.incident import site
from outlast.incident.cadence import Promise
from outlast.incident.notices import notice
from outlast.incident.page import ComponentSpec, PageSpec, make_page
from outlast.incident.publish import Folder, publish
from outlast.incident.report import make_report
from outlast.incident.timeline import Kind
from tests.unit.incident.stories import Story, at

pytestmark = pytest.mark.system

SPEC = PageSpec(
    "Acme Status",
    "https://status.example",
    (
        ComponentSpec("API", "Requests by program", since=date(2026, 10, 1)),
        ComponentSpec("Web", group="Pages"),
        ComponentSpec("Exports", group="Pages"),
    ),
    ("en", "de"),
    "https://outlast.example/subscribe",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with an incident whose next word is late, one that is over, and a tenant's notice and review beside it."""
    folder = tmp_path_factory.mktemp("published")
    story = Story(opened={"components": {"API": "major_outage", "Web": "degraded_performance"}})
    story.update(1, "We are on it.\nMore soon.", next_in=20)
    story.add(3, Kind.TENANTS, tenants=[["7", "acme", 12], ["8", "bolt", 3]])
    story.add(6, Kind.RESTORED, tenant="7", rows=12, missing=0, moment="2026-11-25 02:59 UTC")
    page = make_page(SPEC, [story.incident], Promise(), at(45))
    found = notice(story.incident, TenantKey("7"), "Acme", "en")
    assert found is not None
    files = dict(site.files(page))
    files["notice.html"] = site.render_notice(found, page, root="./")
    files["review.html"] = site.render_report(make_report(story.incident, story.events, Promise()))
    publish(Folder(folder), files)
    return folder


@pytest.mark.parametrize(
    "name", ["index.html", "history.html", "incidents/i1.html", "notice.html", "review.html", "de/index.html"]
)
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    browser: Browser, published: Path, name: str, width: int, scheme: Any
) -> None:
    """WCAG AA, in light and in dark, on a desk and on a phone; nothing has to be scrolled sideways."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto((published / name).as_uri())
    results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    assert results.response["passes"], "axe looked at nothing"
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_everything_is_reached_by_keyboard(browser: Browser, published: Path) -> None:
    """Tab goes through every link, field and button in the order of the page, each one visibly."""
    page = browser.new_page()
    page.goto((published / "index.html").as_uri())
    wanted = page.locator("a, input:not([type=hidden]), button").count()
    seen: list[str] = []
    for _ in range(wanted):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.outerHTML"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", seen[-1]
    assert len(set(seen)) == wanted
    assert "skip" in seen[0]
    page.close()


def test_a_page_that_nobody_renews_says_so_by_itself(browser: Browser, published: Path) -> None:
    """Its age and a promised update that did not come are told by the reader's clock, without a server."""
    page = browser.new_page()
    page.clock.install(time=at(0) + timedelta(minutes=45))
    page.goto((published / "index.html").as_uri())
    assert page.locator("[data-old]").is_hidden()
    page.clock.run_for(2 * 3600 * 1000)
    assert page.locator("[data-age]").inner_text() == "2 hours ago"
    assert page.locator("[data-old]").is_visible()
    assert "This update is late" in page.locator("article").first.inner_text()
    page.close()


def test_no_request_goes_to_anybody_else(browser: Browser, published: Path) -> None:
    """No tracker, no font, no script from elsewhere."""
    page: Page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((published / "index.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert asked
    assert all(re.match(r"file:", url) for url in asked)
    page.close()
