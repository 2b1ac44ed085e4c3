"""The session in which following asks the source questions, beside the stream: opened at need, lost without harm."""

from __future__ import annotations

import psycopg

from outlast.core.errors import OutlastError
from outlast.core.moment import Lsn
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.statements import statement

_PAGE_BYTES, _PAGE_HEADER_BYTES = 8192, 40


class Asking:
    """One session at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """In autocommit mode, read-only."""
        if self._session is None or self._session.closed:
            self._session = connect(self._target, role="follow", autocommit=True)
        return self._session

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def sequences(self) -> dict[str, int]:
        """Every sequence's last value; none where the source cannot be asked now: they come with the next flush."""
        try:
            return dict(self.session.execute(statement("follow_sequences")).fetchall())
        except (psycopg.Error, OutlastError):
            self.close()
            return {}

    def position(self) -> Lsn:
        """Behind everything that is committed now, also what is not on the server's disk yet."""
        row = self.session.execute(statement("log_position")).fetchone()
        assert row is not None
        position = Lsn.parse(str(row[0]))
        within = position.value % _PAGE_BYTES
        # Right behind a page's header nothing is written yet: the server's own end is the page's beginning.
        return Lsn(position.value - within) if within <= _PAGE_HEADER_BYTES else position

    def force(self) -> None:
        """Have the log put on disk as far as it is written: a walsender tells only what is there."""
        self.session.execute(statement("log_forced"))
