"""Every request and every answer is valid by the vendor's own specification, as Prism sees it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from outlast.sources.tools.client import Account, Client
from outlast.sources.tools.connector import Connector, Resource, at, key_of
from outlast.sources.tools.connectors import connector_of
from tests.desks import desk
from tests.tools import prism
from tests.tools.fake import TOKEN
from tests.tools.worlds import WORLDS, Host, differences

pytestmark = pytest.mark.system

_SPECIFICATIONS = {
    "opsgenie": ("opsgenie", ""),
    "pagerduty": ("pagerduty-rest", ""),
    "jira": ("jira-v3", ""),
    "confluence": ("confluence-v2", "/wiki/api/v2"),
    "statuspage": ("statuspage", "/v1"),
}
_FILES_LACKING = frozenset({"confluence"})
"""Whose specification has no files' contents: those are tested from the vendor's documented samples."""

_ONE = "[^/ ]+"
_OTHERWISE: Mapping[str, tuple[str, ...]] = {
    # on purpose: a null where the specification has none
    "opsgenie": (rf"get /v2/alerts/{_ONE}: response.body.data.details.nothing .* must be string",),
    "pagerduty": (
        # the answer to a GET of overrides is said to be 201, by mistake
        rf"get /schedules/{_ONE}/overrides: response Unable to match the returned status code with .*: 201,[\d,]+",
        # with include[] they come whole and are no references, by its own description
        r"get /users: response.body.users.\d+.(contact_methods|notification_rules).\d+.type .* values: .*_reference",
        # null where somebody is always on call, by its own description
        r"get /oncalls: response.body.oncalls.\d+.schedule .* must (be object|match exactly one schema in oneOf)",
        r"get /oncalls: response.body.oncalls.\d+.start .* must be string",
    ),
    "jira": (
        # its document calls these fields of a field configuration write-only
        r"get /rest/api/3/fieldconfiguration: response.body.values.\d+ .* additional properties; found '(id|name)'",
        # remote links come as a list, by the vendor's own sample
        rf"get /rest/api/3/issue/{_ONE}/remotelink: response.body Response body must be object",
        # a number in the vendor's own sample
        r"post /rest/api/3/changelog/bulkfetch: response.body.\S+.changeHistories.\d+.created .* must be string",
    ),
    "confluence": (),
    # a list that the specification takes for one of its members
    "statuspage": (rf"get /v1/pages/{_ONE}/metrics: response.body Response body must be object",),
}
"""Where the vendors' answers are known to differ from their specifications: each at its endpoint, and in one way."""


@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_every_request_and_every_answer_is_valid_by_the_vendor_s_specification(kind: str, tmp_path: Path) -> None:
    """A backup, a change and another backup go through Prism: neither a request nor an answer has a violation.

    No endpoint is left out. Resources that the specification lacks are named by their connector (`described=False`) and
    are not asked for here. Then a server made of the specification is asked for each resource: its documents stand, in
    the vendor's own samples, where the connector says.
    """
    connector, world = connector_of(kind), WORLDS[kind]()
    path, log = _specification(kind, tmp_path), tmp_path / "prism.log"
    skip = frozenset(one.name for one in connector.resources if not one.described)
    with (
        world.fake.serving() as upstream,
        prism.mocking(path, tmp_path / "mock.log") as mock,
        prism.proxying(path, upstream, log) as url,
    ):
        world.fake.url = url  # next pages go through Prism too
        host = Host(world, url, tmp_path)
        options: dict[str, Any] = {"skip": skip, "content_bytes_max": 0 if kind in _FILES_LACKING else 10**8}
        host.back_up(**options)
        world.change()
        host.back_up(**options)
        left = {f"{kind}.{one}" for one in skip}
        wanted = {table: found for table, found in world.state().items() if table not in left}
        assert differences(host.held(), wanted) == []
        told = [one for resource in _described(connector) for one in _not_where_it_is(connector, resource, mock)]
    violations = prism.violations(log)
    found = Counter(one for one in violations if not any(re.fullmatch(known, one) for known in _OTHERWISE[kind]))
    assert not found, "\n".join(f"{number} times {told}" for told, number in found.most_common(20))
    assert [one for one in _OTHERWISE[kind] if not any(re.fullmatch(one, told) for told in violations)] == []
    asked = {line.partition("?")[0].partition(" ")[2] for line in world.fake.log}
    missed = [one.name for one in _described(connector) if not _was_asked(connector, one, asked, world.site)]
    assert not missed
    assert not told


def _specification(kind: str, folder: Path) -> Path:
    """The vendor's, of what the connector asks for."""
    name, prefix = _SPECIFICATIONS[kind]
    path = prism.specification(name)
    if path is None:
        pytest.skip(f"the vendors' specifications are not at {prism.SPECIFICATIONS}")
    connector = connector_of(kind)
    wanted = {connector.probe, *(one.path for one in connector.resources)}
    wanted |= {one for r in connector.resources for one in (r.detail, r.again, r.content) if one is not None}
    return prism.cut(path, prefix, {connector.under + one for one in wanted}, folder)


def _described(connector: Connector) -> list[Resource]:
    return [one for one in connector.resources if one.described]


def _was_asked(connector: Connector, resource: Resource, asked: set[str], site: Any) -> bool:
    """Whether a request went to the resource's endpoint, or it came whole with its parent."""
    if resource.comes_with_parent:
        return True
    path = resource.path.partition("?")[0]
    for name, value in site.items():
        path = path.replace(f"{{{name}}}", value)
    pattern = re.compile(re.escape(connector.under) + re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(path)))
    return any(pattern.fullmatch(one) for one in asked)


def _not_where_it_is(connector: Connector, resource: Resource, mock: str) -> list[str]:
    """What the connector says of a resource and the vendor's samples do not: where the list stands, what is its key."""
    headers = {**connector.headers, "Accept": "application/json"}  # PagerDuty's own type is not in its document
    plain = replace(connector, headers=headers)
    account = Account("mock", plain, mock + connector.under, TOKEN, "somebody", 10**6, 1.0, 5.0)
    now = datetime.now(UTC)
    params = {name: value(now) if callable(value) else value for name, value in resource.params.items()}
    if resource.changes is not None:
        params |= resource.changes.ask(now, now)
    params = {name: _any(value) if isinstance(value, str) else value for name, value in params.items()}
    body = None if resource.bulk is None else {resource.bulk.ids: ["1"]}
    with closing(Client(account)) as client:
        page = next(client.pages(_any(resource.path), resource.items, resource.paging, params, body))
        if resource.bulk is not None:
            page = [one for share in page for one in at(share, resource.bulk.inner)]
        if resource.detail is not None:
            whole = client.get(_any(resource.detail))
            page = [whole if resource.detail_items == "$" else at(whole, resource.detail_items)]
        if not page and not isinstance(at(client.get(_any(resource.path), params), resource.items), list):
            return [f"{resource.name}: nothing at {resource.items}"]
    if not resource.key:
        return []
    return [f"{resource.name}: no {resource.key} in {list(one)}" for one in page if key_of(resource, one) is None][:1]


def _any(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", path)


def test_a_wrong_request_and_a_wrong_answer_would_be_seen(tmp_path: Path) -> None:
    """What the test above relies on: a request and an answer that lack what is required stand in Prism's log."""
    path = _specification("pagerduty", tmp_path)
    log = tmp_path / "prism.log"
    world = WORLDS["pagerduty"]()
    with world.fake.serving() as upstream, prism.proxying(path, upstream, log) as url:
        with pytest.raises(HTTPError):
            urlopen(f"{url}/schedules/PS1/overrides?until=2026-01-01", timeout=60)
        del world.fake.table("alerts/PINC0001")["a"]["type"]
        headers = {"Authorization": f"Token token={TOKEN}", "Accept": "application/vnd.pagerduty+json;version=2"}
        urlopen(Request(f"{url}/incidents/PINC0001/alerts", headers=headers), timeout=60).close()
    told = prism.violations(log)
    assert any(one.startswith("get /schedules/PS1/overrides: request.query") and "since" in one for one in told)
    assert any(one.startswith("get /incidents/PINC0001/alerts: response.body.alerts.0") for one in told)


_WRITTEN: Mapping[str, tuple[str, ...]] = {
    "jira": (
        "/rest/api/3/issue", "/rest/api/3/issue/{id}", "/rest/api/3/issue/{id}/comment", "/rest/api/3/search/jql",
        "/rest/api/3/mypermissions",
    ),
    "opsgenie": (
        "/v2/alerts/{id}", "/v2/alerts/{id}/notes", "/v2/alerts/requests/{id}", "/v2/schedules/{id}",
        "/v2/schedules/{id}/overrides", "/v2/schedules/{id}/overrides/{id}",
    ),
    "pagerduty": (
        "/incidents/{id}", "/incidents/{id}/notes", "/schedules/{id}", "/schedules/{id}/overrides",
    ),
    "confluence": tuple(
        f"/wiki/api/v2/{one}" for one in ("pages/{id}", "pages/{id}/footer-comments", "footer-comments")
    ),
}  # fmt: skip
"""What `failback` asks and sends."""


@pytest.mark.parametrize("kind", sorted(_WRITTEN))
def test_what_goes_back_is_valid_by_the_vendor_s_specification(kind: str, tmp_path: Path) -> None:
    """What is entered at the desk goes through Prism to the tool: no request and no answer has a violation."""
    name, prefix = _SPECIFICATIONS[kind]
    path = prism.specification(name)
    if path is None:
        pytest.skip(f"the vendors' specifications are not at {prism.SPECIFICATIONS}")
    cut, log = prism.cut(path, prefix, set(_WRITTEN[kind]), tmp_path), tmp_path / "prism.log"
    seen = datetime.now(UTC)
    with desk(kind, tmp_path) as one, prism.proxying(cut, one.fake.url, log) as url:
        settings = tmp_path / "outlast.toml"
        settings.write_text(settings.read_text().replace(one.fake.url, url))
        if kind == "jira":
            one.comment(one.ticket(), "ordered another")
        one.comment(_WRITTEN_ON[kind], seen=seen)
        if kind in _SCHEDULES:
            one.override(*_SCHEDULES[kind])
        states = one.states(one.failback("--execute"))
        assert states == ["brought"] * len(states)
        assert one.failback()["items"] == []
    violations = prism.violations(log)
    known = (*_OTHERWISE[kind], *_WRITTEN_OTHERWISE.get(kind, ()))
    assert not [one for one in violations if not any(re.fullmatch(each, one) for each in known)]


_WRITTEN_OTHERWISE: Mapping[str, tuple[str, ...]] = {
    # it asks for exactly one of two forms, neither of which requires anything: whatever is sent is both
    "confluence": ("post /wiki/api/v2/footer-comments: request.body.body .* must match exactly one schema in oneOf",),
}
_WRITTEN_ON = {
    "jira": "jira.issues:10001",
    "opsgenie": "opsgenie.alerts:alert-0001",
    "pagerduty": "pagerduty.incidents:PINC0001",
    "confluence": "confluence.pages:1001",
}
_SCHEDULES = {"opsgenie": ("schedule-1", "user-1"), "pagerduty": ("PS1", "PUSR001")}
