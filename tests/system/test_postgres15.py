"""Debian's PostgreSQL 15 as the tests use it."""

import psycopg
import pytest

from tests.integration.test_fidelity import check_every_type

pytestmark = pytest.mark.system


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
