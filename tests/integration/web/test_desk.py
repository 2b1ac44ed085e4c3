"""The desk's pages: who may do what, what is done is journaled, and a vendor's words do no harm."""

from __future__ import annotations

import re
from urllib.parse import quote

import httpx
import pytest

from tests.integration.web.conftest import Site
from tests.serving import PASSWORD

PAGES = ["/", "/oncall", "/documents", "/failback", "/upstreams", "/documents?query=failover", "/oncall/main/s1"]


def csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_needs_a_login(site: Site, path: str) -> None:
    """Without one there is the login, which leads back to where one wanted to go."""
    answer = httpx.get(site.one.url + path)
    assert answer.status_code == 303
    assert answer.headers["location"] in ("/login", f"/login?next={quote(path, safe='')}")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_says_how_old_it_is_and_runs_nothing_of_others(site: Site, path: str) -> None:
    """Each page renders, tells its time, and forbids the browser whatever is not ours."""
    with site.one.browser("vera") as browser:
        answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    assert "As of 2" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! src=\"/static/)|<[^>]*\s(on\w+|style)=", answer.text)


def test_an_alert_is_worked_on(site: Site) -> None:
    """Acknowledged, noted on, assigned, snoozed, closed: each by its form, and each stands in the alert's log."""
    alert = site.alert("work")
    with site.one.browser("rob") as browser:
        where = f"/alerts/{alert}"
        token = csrf(browser.get(where))
        for doing, more in (
            ("acknowledge", {}), ("note", {"note": "looking <b>now</b>"}), ("assign", {"owner": "rob@example.com"}),
            ("unacknowledge", {}), ("snooze", {"minutes": "15"}), ("close", {}),
        ):  # fmt: skip
            answer = browser.post(f"{where}/{doing}", data={"csrf": token, **more})
            assert answer.status_code == 303, answer.text
        text = browser.get(where).text
    for word in ("acknowledged", "looking &lt;b&gt;now&lt;/b&gt;", "to rob@example.com", "snoozed", "closed"):
        assert word in text
    assert "rob" in text


def test_who_may_not_does_not(site: Site) -> None:
    """A viewer's and a stranger's form change nothing, and neither does one without its token."""
    alert = site.alert("forbidden")
    where = f"{site.one.url}/alerts/{alert}/acknowledge"
    assert httpx.post(where).status_code == 303, "to the login"
    with site.one.browser("vera") as browser:
        token = csrf(browser.get("/"))
        assert browser.post(f"/alerts/{alert}/acknowledge", data={"csrf": token}).status_code == 403
    with site.one.browser("rob") as browser:
        assert browser.post(f"/alerts/{alert}/acknowledge").status_code == 403
        assert browser.post(f"/alerts/{alert}/acknowledge", data={"csrf": "x"}).status_code == 403
        token = csrf(browser.get("/"))
        assert browser.post("/upstreams/og", data={"csrf": token, "mode": ""}).status_code == 403, "not his role"
        assert "nobody has it" in browser.get(f"/alerts/{alert}").text


def test_tickets_and_runbooks_are_found_and_read(site: Site) -> None:
    """Searched by words and read, with what vendors' people wrote made harmless, and files as downloads."""
    with site.one.browser("vera") as browser:
        found = browser.get("/documents", params={"query": "failover"}).text
        assert "Database failover" in found
        assert "Runbook: failover" in found
        issue = browser.get("/documents/main/jira.issues/10001").text
        runbook = browser.get("/documents/main/confluence.pages/77").text
        for text in (found, issue, runbook):
            assert "<script>alert" not in text
            assert "<img" not in text
            assert 'href="javascript' not in text
        assert "<li>Promote</li>" in runbook
        assert "Done before." in issue
        link = re.search(r'href="(/files/[^"]+)"', issue)
        assert link
        file = browser.get(link[1])
    assert file.content == b"<b>hi"
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.headers["content-type"] == "application/octet-stream"


def test_a_ticket_and_a_comment_are_taken(site: Site) -> None:
    """What is written while the tool is away is kept here, with who wrote it."""
    with site.one.browser("rob") as browser:
        token = csrf(browser.get("/documents"))
        made = browser.post("/tickets", data={"csrf": token, "title": "Disk <i>full</i>", "text": "on db1"})
        assert made.status_code == 303
        where = made.headers["location"]
        browser.post(where, data={"csrf": token, "text": "ordered another"})
        text = browser.get(where).text
        assert "Disk &lt;i&gt;full&lt;/i&gt;" in text
        assert "ordered another" in text
        issue = "/documents/main/jira.issues/10001"
        assert browser.post(issue, data={"csrf": token, "text": "seen here"}).status_code == 303
        assert "seen here" in browser.get(issue).text
        assert browser.post("/tickets", data={"csrf": token, "title": " "}).status_code == 422


def test_what_waits_to_go_back_is_seen(site: Site) -> None:
    """Tickets, comments and overrides, with who entered them, and the command that brings them back."""
    with site.one.browser("rob") as browser:
        token = csrf(browser.get("/documents"))
        browser.post("/tickets", data={"csrf": token, "title": "Goes <i>back</i>", "text": ""})
        span = {"start": "2026-01-01T00:00", "end": "2099-01-01T00:00"}
        browser.post("/oncall/main/s1/override", data={"csrf": token, "person": "bob", **span})
        page = browser.get("/failback").text
    assert "outlast failback" in page
    assert "Goes &lt;i&gt;back&lt;/i&gt;" in page
    assert "takes over s1 until 20" in page
    assert "rob" in page


def test_only_what_can_go_back_is_written_on(site: Site) -> None:
    """A comment on something that no tool takes one on, or that is not in the copy, is refused while one types it."""
    with site.one.browser("rob") as browser:
        token = csrf(browser.get("/documents"))
        where = "/documents/main/opsgenie.schedules/s1"
        assert "Comment here" not in browser.get(where).text
        assert browser.post(where, data={"csrf": token, "text": "x"}).status_code == 422
        assert browser.post("/documents/main/jira.issues/nowhere", data={"csrf": token, "text": "x"}).status_code == 404


def test_who_is_on_call_is_seen_and_changed(site: Site) -> None:
    """The schedule as it is, and somebody else put on call from here."""
    with site.one.browser("rob") as browser:
        assert re.search(r"(Ann|Bob) Example", browser.get("/oncall").text)
        page = browser.get("/oncall/main/s1")
        span = {"start": "2026-01-01T00:00", "end": "2099-01-01T00:00"}
        data = {"csrf": csrf(page), "person": "cid", **span}
        assert browser.post("/oncall/main/s1/override", data=data).status_code == 303
        assert '<strong class="line">Cid Example</strong>' in browser.get("/oncall").text


def test_a_login_is_hard_to_guess(site: Site) -> None:
    """A wrong password and a name that is none are told alike; many attempts are stopped; no other site logs one in."""
    with httpx.Client(base_url=site.one.url, headers={"X-Forwarded-For": "192.0.2.7"}) as client:
        answers = [client.post("/login", data={"name": name, "password": "wrong"}) for name in ("vera", "nobody")]
        assert [answer.status_code for answer in answers] == [403, 403]
        assert (
            answers[0].text.partition("<main")[2].partition("<footer")[0]
            == (answers[1].text.partition("<main")[2].partition("<footer")[0])
        )
        other = {"Sec-Fetch-Site": "cross-site"}
        assert client.post("/login", data={"name": "vera", "password": PASSWORD}, headers=other).status_code == 403
        many = [client.post("/login", data={"name": "guessed", "password": "x"}).status_code for _ in range(12)]
        assert many[-1] == 429


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_a_login_leads_to_no_other_host(site: Site, target: str) -> None:
    """Whatever the link to the login says."""
    page = httpx.get(f"{site.one.url}/login", params={"next": target})
    assert 'name="next" value="/"' in page.text


def test_a_session_ends_with_the_logout(site: Site) -> None:
    """What the browser still has is worth nothing then."""
    with site.one.browser("olga") as browser:
        cookie = dict(browser.cookies)
        browser.post("/logout", data={"csrf": csrf(browser.get("/"))})
    assert httpx.get(site.one.url + "/", cookies=cookie).status_code == 303
