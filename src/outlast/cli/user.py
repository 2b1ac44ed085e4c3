"""`outlast user`: who may log in at the pages, and which programs may use the API."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import table_of
from outlast.core.errors import ExitCode, UsageError


class Action(StrEnum):
    ADD = "add"
    LIST = "list"
    REMOVE = "remove"
    TOKEN = "token"  # noqa: S105 - a word of the command line
    REVOKE_TOKEN = "revoke-token"  # noqa: S105


class RoleName(StrEnum):
    VIEWER = "viewer"
    RESPONDER = "responder"
    OPERATOR = "operator"
    APPROVER = "approver"


def user(
    context: typer.Context,
    action: Annotated[
        Action,
        typer.Argument(
            help="add: somebody, or a new password for them; list; remove; token: one for a program; revoke-token."
        ),
    ] = Action.LIST,
    name: Annotated[str | None, typer.Argument(help="The user's or token's name.")] = None,
    role: Annotated[
        RoleName,
        typer.Option(
            help="viewer reads; responder works on alerts and tickets; operator switches upstreams and keeps "
            "integrations; approver approves."
        ),
    ] = RoleName.RESPONDER,
) -> ExitCode:
    """Say who may log in at the pages, and which programs may use the API.

    add asks for the password on the terminal, or reads it from standard input. A token is printed once.
    """
    from outlast.cli.serving import opened_database
    from outlast.web import accounts

    invocation = Invocation.of(context)
    output = invocation.output
    with opened_database(invocation) as database:
        if action is Action.LIST:
            with database.read() as connection:
                people = accounts.listed(connection)
            rows = [(who, of.value) for who, of in people]
            fields = {"users": [{"name": who, "role": of} for who, of in rows]}
            none = "Nobody may log in yet. Next: outlast user add NAME"
            return output.finish(
                fields, lambda console: console.print(table_of(("user", "role"), rows) if rows else none)
            )
        if name is None:
            raise UsageError(f"`outlast user {action.value}` needs a name", hint="See: outlast user --help")
        given = accounts.Role(role.value)
        password = _password() if action is Action.ADD else ""
        with database.write() as connection:
            match action:
                case Action.ADD:
                    new = accounts.set_user(connection, name, password, given)
                    told = f"{name} may log in as {role.value}." if new else f"{name} has a new password and role."
                    return output.finish({"user": name, "role": role.value, "new": new}, told)
                case Action.REMOVE:
                    accounts.remove_user(connection, name)
                    return output.finish({"user": name}, f"{name} cannot log in any more.")
                case Action.TOKEN:
                    token = accounts.add_token(connection, name, given)
                    output.note("It is shown this once. Send it as: Authorization: Bearer TOKEN")
                    return output.finish({"name": name, "role": role.value, "token": token}, token)
                case _:
                    accounts.revoke_token(connection, name)
                    return output.finish({"name": name}, f"The token {name} is worth nothing any more.")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    import getpass

    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise UsageError("the two passwords are not the same", hint="Run it again.")
    return password
