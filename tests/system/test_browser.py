"""The desk in Debian's Chromium, on a desktop and on a phone, with and without JavaScript."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from outlast.library.copy import FILE_NAME
from tests.copies import fill_copy
from tests.integration.web.conftest import DOCUMENTS, Site
from tests.receiver import receiving
from tests.rosters import opsgenie
from tests.serving import PASSWORD, serving, until

pytestmark = pytest.mark.system

_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PHONE: Any = {"width": 390, "height": 844}
DESKTOP: Any = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    settings = 'public_url = "http://outlast.example"'
    with receiving() as pages, serving(folder, notify=pages.url, settings=settings) as one:
        fill_copy(folder / "state" / FILE_NAME, {**DOCUMENTS, **opsgenie()})
        for name, role in (("rob", "responder"), ("olga", "operator")):
            one.user(name, role)
        key = one.integration("monitoring", "opsgenie", "--alone")
        one.paging = f"email {pages.url}?to={{address}}\n"
        one.start()
        yield Site(one, key, pages)


@pytest.fixture(params=[(DESKTOP, True, "light"), (PHONE, False, "dark")], ids=["desktop", "phone-without-javascript"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    size, javascript, scheme = request.param
    context = browser.new_context(viewport=size, java_script_enabled=javascript, color_scheme=scheme)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert not told, "the browser's console has no error, and the policy blocked nothing of ours"


def shot(page: Page, name: str, request: pytest.FixtureRequest) -> None:
    """A screenshot, kept under build/screenshots for a person to look at; and no page is wider than the screen."""
    folder = Path(__file__).parents[2] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    kind = re.sub(r"\W+", "-", request.node.callspec.id)
    page.screenshot(path=folder / f"{kind}-{name}.png", full_page=True)
    width = page.viewport_size
    assert width is not None
    box: Any = page.locator("main").bounding_box()
    assert box["x"] + box["width"] <= width["width"] + 1, "it fits the screen"


def logged_in(page: Page, site: Site, name: str = "rob") -> None:
    page.goto(site.one.url + "/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")


def test_a_night_at_the_desk(site: Site, page: Page, request: pytest.FixtureRequest) -> None:
    """Log in, see who is on call, take an alert, find a runbook, open an incident."""
    alert = site.alert(f"db1-{time.time()}", priority="P1", description="no space left on /var")
    page.goto(site.one.url + "/")
    shot(page, "login", request)
    logged_in(page, site)
    shot(page, "alerts", request)
    page.get_by_role("link", name="On call").click()
    assert page.get_by_text(re.compile("(Ann|Bob) Example")).first.is_visible()
    shot(page, "oncall", request)
    page.get_by_role("link", name="Contacts").click()
    assert page.get_by_role("link", name="cid@example.org").is_visible()
    shot(page, "contacts", request)
    page.goto(f"{site.one.url}/alerts/{alert}")
    page.get_by_role("button", name="Acknowledge").click()
    assert page.get_by_text("acknowledged by rob").is_visible()
    shot(page, "alert", request)
    page.get_by_role("link", name="Tickets and runbooks").first.click()
    page.get_by_role("searchbox").fill("failover")
    page.get_by_role("button", name="Search").click()
    shot(page, "found", request)
    page.get_by_role("link", name=re.compile("Runbook: failover")).click()
    assert page.get_by_text("Promote").is_visible()
    shot(page, "runbook", request)
    page.goto(site.one.url + "/incidents")
    page.get_by_label("What customers notice").fill("Sites do not load")
    page.get_by_label("Severity").select_option("critical")
    page.get_by_role("button", name="Open", exact=True).click()
    page.wait_for_url("**/incidents/*")
    assert page.get_by_role("heading", name="Sites do not load").is_visible()
    shot(page, "incident", request)


def test_every_page_can_be_used_by_everybody(site: Site, page: Page, request: pytest.FixtureRequest) -> None:
    """axe finds nothing wrong: contrast, labels, landmarks, in light and in dark."""
    if "without" in request.node.callspec.id:
        pytest.skip("axe itself is JavaScript")
    axe: Any = importlib.import_module("axe_playwright_python.sync_playwright")
    logged_in(page, site, "olga")
    for path in (
        "/",
        "/oncall",
        "/oncall/main/s1",
        "/contacts",
        "/documents?query=failover",
        "/upstreams",
        "/documents/main/jira.issues/10001",
    ):
        page.goto(site.one.url + path)
        for scheme in _SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]})
            assert found.violations_count == 0, f"{path} in {scheme}: {found.generate_report()}"


def test_a_link_from_a_page(site: Site, page: Page, request: pytest.FixtureRequest) -> None:
    """Opened on a phone without a login; looking at it takes nothing; pressing its button does, and once only."""
    while not site.pages.empty:
        site.pages.next()
    alert = site.alert(f"link-{time.time()}", responders=[{"type": "user", "username": "ann@example.org"}])
    links: list[str] = []

    def came() -> bool:
        if not site.pages.empty:
            links.extend(re.findall(r"http://outlast.example(/a/\S+)", site.pages.next()[2]))
        return bool(links)

    until(came, "a page with a link")
    page.goto(site.one.url + links[0])
    page.reload()
    shot(page, "link", request)
    page.get_by_role("button", name=re.compile("I have it")).click()
    assert page.get_by_text("It is yours").is_visible()
    page.goto(site.one.url + links[0])
    assert page.get_by_role("button", name=re.compile("I have it")).count() == 0
    logged_in(page, site)
    page.goto(f"{site.one.url}/alerts/{alert}")
    assert page.get_by_text("acknowledged by").first.is_visible()
