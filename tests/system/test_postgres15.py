"""Debian's PostgreSQL 15: what the tests on 18 show holds there too, under ICU collation and with xml."""

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.sources.postgres.session import Session
from tests.commands import Outlast
from tests.integration.test_fidelity import check_every_type
from tests.integration.test_fidelity_pipeline import check_restore_of_every_type
from tests.integration.test_schema_shapes import check_ownership, check_sweep
from tests.property.test_exactness import check_exactness
from tests.property.test_rows import AGAINST_A_SERVER, check_order, ordering_session
from tests.servers import Server
from tests.worlds import World

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def session(debian_server: Server) -> Iterator[Session]:
    with ordering_session(debian_server) as session:
        yield session


def test_the_server_has_what_the_embedded_one_lacks(debian_database: str) -> None:
    """It is of major version 15, reads xml, and sorts by ICU, so that a forgotten COLLATE "C" shows."""
    with psycopg.connect(debian_database) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version_num')::int / 10000, '<a/>'::xml::text, 'a' < 'B'"
        ).fetchone()
    assert row == (15, "<a/>", True)


def test_every_type_goes_out_and_back_equal(debian_database: str) -> None:
    """The catalogue of types, xml included, on version 15."""
    check_every_type(debian_database)


@pytest.mark.parametrize("keyed", [True, False], ids=["by key", "whole rows"])
@AGAINST_A_SERVER
@given(data=st.data())
def test_rows_sort_here_as_they_do_there(session: Session, keyed: bool, data: st.DataObject) -> None:
    """Under a default collation that is not of bytes, rows still come in the order that order_of computes."""
    check_order(session, data, keyed=keyed)


@pytest.mark.parametrize("seed", range(4))
def test_rows_come_whole_and_by_tenant(seed: int, debian_database: str) -> None:
    """Random worlds are classified and swept there as on 18."""
    world = World.random(300 + seed, version=15)
    world.create(debian_database)
    check_ownership(world, debian_database)
    check_sweep(world, debian_database)


def test_every_type_survives_a_restore(debian_database: str, outlast: Outlast) -> None:
    """The catalogue of types, xml included, through backup and restore."""
    check_restore_of_every_type(debian_database, outlast)


@pytest.mark.parametrize("seed", range(3))
def test_everybody_is_as_before(seed: int, debian_server: Server, debian_database: str, outlast: Outlast) -> None:
    """Random worlds, destroyed and restored under a workload, on 15 and under ICU collation."""
    with debian_server.copies() as twin_of:
        world = World.random(5000 + seed, version=15)
        check_exactness(world, seed, debian_database, outlast, twin_of, partly=seed == 2)
