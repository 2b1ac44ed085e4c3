"""COPY's rows come the same past libpq and through it, and so do its errors and its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from outlast.core.errors import BugError, OutlastError, SourceError, TransientError
from outlast.sources.postgres import copy_out as module
from outlast.sources.postgres.copy_out import copy_out
from outlast.sources.postgres.session import Session, Target, connect

MANY = (
    b"COPY (SELECT n, repeat('x', CASE WHEN n % 5000 = 0 THEN 300000 WHEN n % 1000 = 0 THEN 65530 + n / 1000"
    b" ELSE n % 300 END), E'\\n\\td' FROM generate_series(1, 20000) n) TO STDOUT"
)


@pytest.fixture(params=["past libpq", "through libpq"])
def session(request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    if request.param == "through libpq":
        monkeypatch.setattr(module, "is_plain", lambda _: False)
    with closing(connect(Target(database), role="backup")) as session:
        yield session


def _rows(session: Session, statement: bytes) -> list[bytes]:
    return [row[lines.head :] for lines in copy_out(session, statement, "read") for row in lines.rows]


def test_rows_of_every_length_come_as_copy_sends_them(session: Session) -> None:
    """Among them rows that are longer than a length of two bytes can say, and than what is read at once."""
    with session.cursor().copy(MANY) as copy:
        expected = b"".join(bytes(part) for part in copy).splitlines()
    assert _rows(session, MANY) == expected
    assert _rows(session, b"COPY (SELECT 1 WHERE false) TO STDOUT") == []


def test_an_iterator_that_is_given_up_leaves_the_session_usable(session: Session) -> None:
    """The COPY is cancelled, what was under way is passed over, and the next one gives its own rows."""
    rows = copy_out(session, b"COPY (SELECT * FROM generate_series(1, 3000000)) TO STDOUT", "read")
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    session.rollback()
    assert _rows(session, b"COPY (SELECT 7) TO STDOUT") == [b"7"]


@pytest.mark.parametrize(
    ("statement", "kind", "words"),
    [
        (b"COPY (SELECT n / (20000 - n) FROM generate_series(1, 30000) n) TO STDOUT", SourceError, "22012"),
        (b"COPY (SELECT pg_sleep(30)) TO STDOUT", TransientError, "statement timeout"),
        (b"COPY missing TO STDOUT", SourceError, 'relation "missing" does not exist'),
    ],
)
def test_what_the_server_says_is_told(session: Session, statement: bytes, kind: type[OutlastError], words: str) -> None:
    """At once or after rows, with what was being done; the session goes on after a rollback."""
    session.execute("SET statement_timeout = '300ms'")
    session.commit()
    with pytest.raises(kind, match=f"cannot read: .*{words}"):
        _rows(session, statement)
    session.rollback()
    assert _rows(session, b"COPY (SELECT 7) TO STDOUT") == [b"7"]


def test_a_session_that_is_ended_meanwhile_is_a_passing_fault(session: Session, database: str) -> None:
    rows = copy_out(session, b"COPY (SELECT * FROM generate_series(1, 3000000)) TO STDOUT", "read")
    next(rows)
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
    with pytest.raises(TransientError, match="cannot read"):
        list(rows)


def test_a_session_whose_transaction_has_failed_is_not_read_from(session: Session) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.execute("SELECT 1/0")
    with pytest.raises(BugError, match="its transaction has failed"):
        _rows(session, b"COPY (SELECT 7) TO STDOUT")
