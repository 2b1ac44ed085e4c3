"""The route map: what is pending in memory, and what comes over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.capture.route_map import RouteMap
from outlast.state.local import LocalState


@pytest.fixture
def routes(tmp_path: Path) -> Iterator[RouteMap]:
    with LocalState(tmp_path / "state") as state:
        found = RouteMap(tmp_path / "routes.sqlite", state.host_key)
        yield found
        found.close()


@pytest.mark.parametrize("spilled", [False, True])
def test_routes_that_are_read_anew_outlive_what_was_pending_before(routes: RouteMap, spilled: bool) -> None:
    """A TRUNCATE and rows of before it wait for the next checkpoint; the table's routes are read at a later place."""
    space, other = routes.space("public.a", ["id"]), routes.space("public.b", ["id"])
    before, now, elsewhere = space.id_of_one(b"1"), space.id_of_one(b"2"), other.id_of_one(b"1")
    routes.wipe([space])
    routes.put(before, 7)
    routes.put(elsewhere, 8)
    if spilled:
        routes.spill()
    routes.seed([space], [[(now, 9)]])
    for _ in range(2):
        assert (routes.get(before), routes.get(now), routes.get(elsewhere)) == (None, 9, 8)
        routes.commit({})
        routes.end_transaction()
