"""The route map: what counts, what a crash takes back, and how a parent's move reaches its subtree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.capture.route_ids import ORPHAN_NUMBER, aliased, aliases_of, plain
from outlast.capture.route_map import RouteMap
from outlast.state.local import HostKey

KEY = HostKey(b"k" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routes.sqlite"


@pytest.fixture
def routes(path: Path) -> Iterator[RouteMap]:
    map_ = RouteMap(path, KEY)
    yield map_
    map_.close()


def again(routes: RouteMap, path: Path) -> RouteMap:
    """As after a crash: what was not committed is gone."""
    routes.close()
    return RouteMap(path, KEY)


def test_what_is_committed_is_there_again_with_its_note(routes: RouteMap, path: Path) -> None:
    space = routes.space("public.task", ("id",))
    one, two = space.id_of([b"1"]), space.id_of([b"2"])
    routes.put(one, 7)
    routes.put(two, one)
    routes.commit({"checkpoint": {"position": "0/1"}})
    routes.remove(one)
    found = again(routes, path)
    assert (found.get(one), found.get(two), found.note("checkpoint")) == (7, one, {"position": "0/1"})
    found.close()


def test_what_was_spilled_counts_with_the_commit_and_not_before(routes: RouteMap, path: Path) -> None:
    space = routes.space("public.task", ("id",))
    ids = [space.id_of([str(number).encode()]) for number in range(50)]
    for id_ in ids:
        routes.put(id_, 1)
    routes.commit({})
    routes.put(ids[0], 2)
    routes.remove(ids[1], leads=5)
    routes.spill()
    assert (routes.get(ids[0]), routes.get(ids[1]), routes.gone(ids[1])) == (2, None, 5)
    crashed = again(routes, path)
    assert (crashed.get(ids[0]), crashed.get(ids[1])) == (1, 1)
    crashed.put(ids[0], 3)
    crashed.spill()
    crashed.put(ids[2], 4)
    crashed.commit({})
    assert [again(crashed, path).get(id_) for id_ in ids[:4]] == [3, 1, 4, 1]


def test_a_parent_that_moves_takes_its_subtree_along(routes: RouteMap) -> None:
    projects, tasks = routes.space("public.project", ("id",)), routes.space("public.task", ("id",))
    project, task = projects.id_of([b"1"]), tasks.id_of([b"1"])
    routes.put(project, 3)
    routes.put(task, project)
    assert routes.tenant_of(task) == 3
    routes.put(project, 4)
    assert routes.tenant_of(task) == 4
    routes.remove(project, leads=4)
    assert routes.tenant_of(task) == 4  # until the transaction ends: a cascade deletes the parent first
    routes.end_transaction()
    assert routes.tenant_of(task) == ORPHAN_NUMBER


def test_a_truncated_table_is_empty_and_others_are_not(routes: RouteMap, path: Path) -> None:
    space, other = routes.space("public.task", ("id",)), routes.space("public.note", ("id",))
    for one in (space, other):
        for number in range(3):
            routes.put(one.id_of([b"%d" % number]), 1)
    routes.commit({})
    routes.wipe([space])
    routes.put(space.id_of([b"9"]), 2)
    assert routes.get(space.id_of([b"1"])) is None
    routes.commit({})
    found = again(routes, path)
    assert [found.get(space.id_of([key])) for key in (b"0", b"9")] == [None, 2]
    assert found.get(other.id_of([b"0"])) == 1
    found.close()


@pytest.mark.parametrize("route", [0, 12345, b"\0\1" + bytes(14)])
def test_a_route_remembers_the_other_ids_of_its_row(route: int | bytes) -> None:
    others = [b"\0\2" + bytes([number] * 14) for number in range(3)]
    kept = aliased(route, others)
    assert (plain(kept), aliases_of(kept)) == (route, others)


def test_composite_values_never_run_together(routes: RouteMap) -> None:
    space = routes.space("public.site", ("a", "b"))
    assert space.id_of([b"ab", b"c"]) != space.id_of([b"a", b"bc"])
    assert routes.space("public.site", ("a", "b")).number == space.number
