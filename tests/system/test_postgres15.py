"""Debian's PostgreSQL 15 as the tests use it."""

import psycopg
import pytest

pytestmark = pytest.mark.system


def test_the_server_has_what_the_embedded_one_lacks(debian_database: str) -> None:
    """It is of major version 15, reads xml, and sorts by ICU, so that a forgotten COLLATE "C" shows."""
    with psycopg.connect(debian_database) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version_num')::int / 10000, '<a/>'::xml::text, 'a' < 'B'"
        ).fetchone()
    assert row == (15, "<a/>", True)
