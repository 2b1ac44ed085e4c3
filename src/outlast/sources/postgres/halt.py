"""Halting: roles are shut out (NOLOGIN) and their sessions ended, transactions in progress first.

Owns the one connection that does it: opened beforehand, its statements prepared, so that nothing is looked up when it
must act. Which roles may be halted at all is decided in halt_roles.py; when to halt is not known here.

All of it runs in four functions (sql/halt_functions.sql): those that `--print-grants` makes in schema `outlast`, if we
may call them, else the same made in `pg_temp` with our own rights. NOLOGIN is committed before sessions are ended, or
one that is just being opened would slip through between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from outlast.core.errors import OutlastError
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.statements import statement

LOCK_TIMEOUT_S = 1
ENDING_S = 3.0
"""How long sessions get to be gone; one that is not by then is told."""
_LOOK_EVERY_S = 0.02
_STATUS_MAX = 20


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """A session that was ended, or that was at work on one of the transactions. `xid` is as pg_stat_activity has it."""

    pid: int
    role: str
    application: str
    client: str | None
    xid: str | None
    ended: bool

    def __str__(self) -> str:
        named = f", application_name {self.application!r}" if self.application else ""
        return f"role {self.role}{named}, pid {self.pid}" + (f", from {self.client}" if self.client else "")


@dataclass(frozen=True, slots=True)
class Halted:
    """What a halt did. `outcomes` is what became of the transactions in progress; `failures` is what did not work."""

    roles: tuple[str, ...]
    sessions: tuple[SessionSeen, ...]
    outcomes: dict[int, str]
    failures: tuple[str, ...]
    seconds: float

    @property
    def ended(self) -> int:
        return sum(session.ended for session in self.sessions)


class Halter:
    """Holds the connection. One thread uses it at a time. `roles` are the only ones that are ever touched."""

    def __init__(self, target: Target, roles: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.target = target
        self.roles = tuple(roles)
        self._clock = clock
        self._session: Session | None = None
        self._schema = "pg_temp"

    def open(self) -> None:
        """Connect and prepare, or make sure that the connection lives. Raises where it cannot be had."""
        if self._session is not None and not self._session.closed:
            try:
                self._session.execute(b"SELECT 1", prepare=True)
            except psycopg.Error:
                self.close()  # and opened anew below: a cut connection is the ordinary case here
            else:
                return
        session = connect(self.target, role="halt", autocommit=True, read_only=False)
        try:
            session.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(f"{LOCK_TIMEOUT_S}s")))
            self._schema = "outlast" if functions_are_there(session) else "pg_temp"
            if self._schema == "pg_temp":
                session.execute(functions("pg_temp", self.roles, definer=False).encode())
            self._session = session
            self._end([])  # prepares it, and fails now where it would fail later
        except psycopg.Error as error:
            self.close()
            session.close()
            raise explain(error, f"prepare a halt on {self.target}") from error

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def session(self) -> Session:
        if self._session is None or self._session.closed:
            self.open()
        assert self._session is not None
        return self._session

    @property
    def through_functions(self) -> bool:
        """Whether the functions of `--print-grants` act, with their owner's rights and not ours."""
        return self._schema == "outlast"

    def act(self, xids: Sequence[int], told: str) -> Halted:
        """Shut the roles out and end their sessions, those at work on `xids` first. Never raises: a halt does what it
        can, and what it could not do is in `failures`. `told` goes into the roles' comments."""
        started = self._clock()
        seen: dict[int, SessionSeen] = {}
        shut: list[str] = []
        failures: list[str] = []
        with _noted(failures, "reach the server"):
            self.open()
        if xids:
            with _noted(failures, "end the transactions in progress"):
                seen |= {one.pid: one for one in self._end([str(xid & 0xFFFFFFFF) for xid in xids])}
        for role in self.roles:
            with _noted(failures, f"take LOGIN from role {role}"):
                (changed,) = self._call("halt_shut_out", [role, told])[0]
                shut += [role] if changed else []
        with _noted(failures, "end the roles' sessions"):
            ended = {pid for pid, one in seen.items() if one.ended}
            seen |= {one.pid: one for one in self._end_all() if one.pid not in ended}
        failures += [
            f"the session of {one} could not be ended"
            for one in seen.values()
            if not one.ended and one.role in self.roles
        ]
        outcomes = {xid: self._status(xid) for xid in xids[:_STATUS_MAX]}
        return Halted(tuple(shut), tuple(seen.values()), outcomes, tuple(failures), self._clock() - started)

    def patrol(self) -> None:
        """End the sessions of the roles that have turned up since. Raises psycopg's error where that fails."""
        self._end(None)

    def look(self, xids: Sequence[int]) -> tuple[SessionSeen, ...]:
        """Who is at work on these transactions now. Ends nothing."""
        rows = self.session.execute(
            statement("halt_look"), [[str(xid & 0xFFFFFFFF) for xid in xids]], prepare=True
        ).fetchall()
        return tuple(SessionSeen(*row) for row in rows)

    def let_in(self) -> tuple[str, ...]:
        """Give LOGIN back to those of the roles from which a halt took it, and to no other; gives their names."""
        back = []
        for role in self.roles:
            try:
                (changed,) = self._call("halt_let_in", [role])[0]
            except psycopg.Error as error:
                raise explain(error, f"give LOGIN back to role {role}") from error
            back += [role] if changed else []
        return tuple(back)

    def prove(self) -> tuple[str, ...]:
        """Take LOGIN from each role that has it and roll back: real rights, and no harm. Gives what did not work."""
        failures: list[str] = []
        for role in self.roles:
            with _noted(failures, f"take LOGIN from role {role}"), self.session.transaction(force_rollback=True):
                self._call("halt_shut_out", [role, "test"])
                self._call("halt_let_in", [role])
        with _noted(failures, "look for the roles' sessions"):
            self._end([])
        return tuple(failures)

    def _call(self, function: str, given: Sequence[object]) -> list[tuple[object, ...]]:
        holes = sql.SQL(", ").join([sql.Placeholder()] * len(given))
        query = sql.SQL("SELECT * FROM {}({})").format(sql.Identifier(self._schema, function), holes)
        return self.session.execute(query, given, prepare=True).fetchall()

    def _end(self, xids: Sequence[str] | None) -> list[SessionSeen]:
        return [SessionSeen(*row) for row in self._call("halt_end", [None if xids is None else list(xids)])]  # type: ignore[arg-type]

    def _end_all(self) -> list[SessionSeen]:
        """End them until two looks in a row find none: one that was just logging in is caught by the second."""
        found: dict[int, SessionSeen] = {}
        deadline = self._clock() + ENDING_S
        empty = 0
        while empty < 2 and self._clock() < deadline:
            alive = self._end(None)
            found |= {one.pid: one for one in alive}
            empty = 0 if any(one.ended for one in alive) else empty + 1
            time.sleep(_LOOK_EVERY_S)
        return list(found.values())

    def _status(self, xid: int) -> str:
        try:
            row = self.session.execute(
                b"SELECT pg_catalog.pg_xact_status(%s::pg_catalog.text::pg_catalog.xid8)", [str(xid)], prepare=True
            ).fetchone()
        except psycopg.Error:
            return "unknown"  # a number that the server does not know: nothing is said of it rather than a guess
        return str(row[0]) if row and row[0] else "unknown"


@contextmanager
def _noted(failures: list[str], doing: str) -> Iterator[None]:
    """What fails is noted and told with the halt: the steps after it must be tried all the same."""
    try:
        yield
    except psycopg.Error as error:
        failures.append(explain(error, doing).message)
    except OutlastError as error:
        failures.append(error.message)


def functions_are_there(session: Session) -> bool:
    """Whether the functions of `--print-grants` are there, and this role may call them."""
    row = session.execute(statement("halt_functions_there")).fetchone()
    return bool(row and row[0])


def functions(schema: str, roles: Sequence[str], *, definer: bool) -> str:
    """The SQL that makes the functions. No name in it can end a body: they stand in a literal of its own."""
    array = ", ".join(sql.Literal(role).as_string(None) for role in roles)
    body = sql.Literal(f"SELECT ARRAY[{array}]::pg_catalog.name[]").as_string(None)
    text = statement("halt_functions").decode("utf-8")
    rights = "SECURITY DEFINER" if definer else "SECURITY INVOKER"
    return (
        f"CREATE OR REPLACE FUNCTION {schema}.halt_roles() RETURNS pg_catalog.name[]\n"
        f"    LANGUAGE sql STABLE SET search_path = '' AS {body};\n\n"
    ) + text.replace("<schema>", schema).replace("<rights>", rights)


def halt_word(now: datetime | None = None) -> str:
    """What a role's comment says of a halt: when."""
    return f"{now or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
