"""Every request that a connector makes is valid by the vendor's own specification, as Prism sees it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from outlast.sources.tools.connector import Connector, Resource
from outlast.sources.tools.connectors import connector_of
from tests.tools import prism
from tests.tools.worlds import WORLDS, Host, differences

pytestmark = pytest.mark.system

_SPECIFICATIONS = {
    "opsgenie": ("opsgenie", ""),
    "pagerduty": ("pagerduty-rest", ""),
    "jira": ("jira-v3", ""),
    "confluence": ("confluence-v2", "/wiki/api/v2"),
    "statuspage": ("statuspage", "/v1"),
}
_LACKING = {
    "confluence": ("GET", re.compile(r"/wiki/download/.*")),  # files' contents: from the vendor's documented samples
}


@pytest.mark.parametrize("kind", sorted(WORLDS))
def test_every_request_is_valid_by_the_vendor_s_specification(kind: str, tmp_path: Path) -> None:
    """A backup, a change and another backup go through Prism: no request has a violation, and no endpoint is left out.

    Resources that the specification lacks are named by their connector (`described=False`) and are not asked for here.
    """
    name, prefix = _SPECIFICATIONS[kind]
    path = prism.specification(name)
    if path is None:
        pytest.skip(f"the vendors' specifications are not at {prism.SPECIFICATIONS}")
    if prefix:
        path = prism.prefixed(path, prefix, tmp_path)
    log = tmp_path / "prism.log"
    world = WORLDS[kind]()
    connector = connector_of(kind)
    skip = frozenset(one.name for one in connector.resources if not one.described)
    with world.fake.serving() as upstream, prism.proxying(path, upstream, log) as url:
        world.fake.url = url  # next pages go through Prism too
        host = Host(world, url, tmp_path)
        # Files that the specification lacks are fetched by their vendor's documented way in the conformance suite.
        options: dict[str, Any] = {"skip": skip, "content_bytes_max": 0 if kind in _LACKING else 10**8}
        host.back_up(**options)
        world.change()
        host.back_up(**options)
        left = {f"{kind}.{one}" for one in skip}
        wanted = {table: found for table, found in world.state().items() if table not in left}
        assert differences(host.held(), wanted) == []
    wrong = Counter(prism.wrong_requests(log))
    assert not wrong, "\n".join(f"{number} times {told}" for told, number in wrong.most_common(20))
    asked = {line.partition("?")[0].removeprefix("GET ") for line in world.fake.log}
    missed = [one.name for one in _described(connector) if not _was_asked(connector, one, asked, world.site)]
    assert not missed


def _described(connector: Connector) -> list[Resource]:
    return [one for one in connector.resources if one.described]


def _was_asked(connector: Connector, resource: Resource, asked: set[str], site: Any) -> bool:
    """Whether a request went to the resource's endpoint, or it came whole with its parent."""
    if resource.inline is not None and not resource.inline[1]:
        return True
    path = resource.path.partition("?")[0]
    for name, value in site.items():
        path = path.replace(f"{{{name}}}", value)
    pattern = re.compile(re.escape(connector.under) + re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(path)))
    return any(pattern.fullmatch(one) for one in asked)


def test_a_wrong_request_would_be_seen(tmp_path: Path) -> None:
    """What the test above relies on: a request that lacks what the specification requires stands in Prism's log."""
    path = prism.specification("pagerduty-rest")
    if path is None:
        pytest.skip(f"the vendors' specifications are not at {prism.SPECIFICATIONS}")
    log = tmp_path / "prism.log"
    world = WORLDS["pagerduty"]()
    with world.fake.serving() as upstream, prism.proxying(path, upstream, log) as url, pytest.raises(HTTPError):
        urlopen(f"{url}/schedules/PS1/overrides?until=2026-01-01", timeout=60)
    assert any("since" in told for told in prism.wrong_requests(log))
