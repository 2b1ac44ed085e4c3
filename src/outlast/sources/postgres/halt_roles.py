"""Whether roles may be halted: rights, and whether a halt would be an outage of the application itself. Reads only.

A role is taken for the application's own if no other role that can log in may write the tenant table, or if it has
three sessions or more now and at least half of all. The first holds at any hour; the second finds the application that
has a role of its own beside others that may write. Both can be wrong, so `accept_outage` overrules them: a person has
then said that stopping the application is better than losing customers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg

from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.halt import functions_are_there
from outlast.sources.postgres.schema import Catalog, Notice
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement

SESSIONS_MIN = 3


@dataclass(frozen=True, slots=True)
class HaltRole:
    """One role as the server has it, and what whoever halts may do with it."""

    name: str
    is_there: bool
    may_login: bool
    is_super: bool
    is_halted: bool
    may_alter: bool
    may_end: bool
    may_see: bool
    sessions: int
    all_sessions: int
    is_only_writer: bool

    @property
    def is_application(self) -> bool:
        return self.is_only_writer or (self.sessions >= SESSIONS_MIN and self.sessions * 2 >= self.all_sessions)


def read_roles(session: Session, catalog: Catalog, roles: Sequence[str], ours: Sequence[str]) -> tuple[HaltRole, ...]:
    """The roles, as `session` (the one that would halt) sees them. `ours` are those that Outlast itself works as."""
    root = catalog.table(catalog.tenant_table)
    assert root is not None
    given = {
        "roles": list(roles),
        "ours": list(ours),
        "tenant_table": root.oid,
        "functions": functions_are_there(session),
    }
    try:
        rows = session.execute(statement("halt_facts"), given).fetchall()
    except psycopg.Error as error:
        raise explain(error, "look at the roles to be halted") from error
    return tuple(HaltRole(*row) for row in rows)


def judge(roles: Sequence[HaltRole], ours: Sequence[str], *, accept_outage: bool) -> tuple[Notice, ...]:
    """What stands against halting these roles: an error disarms the halt, a warning weakens it. Pure."""
    return tuple(notice for role in roles for notice in _of_role(role, ours, accept_outage=accept_outage))


def _of_role(role: HaltRole, ours: Sequence[str], *, accept_outage: bool) -> Iterator[Notice]:
    name = role.name
    if not role.is_there:
        yield _error("halt-role", f"role {name} cannot be halted: there is none of that name", "Mend halt_roles.")
        return
    if name in ours:
        yield _error(
            "halt-ourselves",
            f"role {name} cannot be halted: Outlast itself works as it, and could neither go on nor give it back",
            "Give Outlast roles of its own: `outlast init --print-grants`.",
        )
        return
    if role.is_application and not accept_outage:
        why = (
            "no other role that can log in may write the tenant table"
            if role.is_only_writer
            else f"{role.sessions} of the database's {role.all_sessions} sessions are its own"
        )
        yield _error(
            "halt-application",
            f"role {name} cannot be halted: the application seems to use it ({why}), and would stop with it",
            "Run scripts as a role of their own and name that, or set halt_accept_outage = true under [tripwire].",
        )
    if not role.may_login and not role.is_halted:
        yield _error(
            "halt-no-login",
            f"halting role {name} does nothing: it cannot log in anyway",
            "Name the roles that log in: sessions that SET ROLE to it are not its own.",
        )
    if not role.may_alter:
        yield _error("halt-rights", f"nobody of ours may take LOGIN from role {name}{_super(role)}", _HOW)
    if not role.may_end:
        yield _error("halt-rights", f"nobody of ours may end the sessions of role {name}{_super(role)}", _HOW)
    elif not role.may_see:
        yield Notice(
            "warning",
            "halt-blind",
            f"which session of role {name} is at work on a transaction is not seen: all are ended, none of them first",
            "GRANT pg_read_all_stats TO the role that halts.",
        )
    if role.is_halted:
        yield Notice(
            "warning", "halted", f"role {name} is halted now: it cannot log in", "Give it back: outlast tripwire reset"
        )


def _super(role: HaltRole) -> str:
    return ": it is a superuser, and only a superuser may" if role.is_super else ""


_HOW = "Run the last part of `outlast init --print-grants` as a superuser, and set halt_url to outlast_halt."


def _error(code: str, message: str, hint: str) -> Notice:
    return Notice("error", code, message, hint)
