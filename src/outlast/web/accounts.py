"""Who may look and act: people with passwords and sessions, programs with tokens, and four roles.

Passwords are kept as argon2id, sessions and tokens as hashes: whoever reads the database can log in as nobody.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, Float, MetaData, Table, Text, delete, insert, select, update

from outlast.core.errors import NotFoundError, Refused, UsageError
from outlast.state.database import Schema

if TYPE_CHECKING:
    from argon2 import PasswordHasher

PASSWORD_LENGTH_MIN = 12
PASSWORD_LENGTH_MAX = 256  # argon2 reads all of it: what is longer is only meant to cost time
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_USED_EVERY_S = 60.0

metadata = MetaData()
users = Table(
    "web_user",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)
sessions = Table(
    "web_session",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("user", Text, nullable=False, index=True),
    Column("csrf", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False, index=True),
)
tokens = Table(
    "web_token",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)
SCHEMA = Schema("web", metadata)


class Role(StrEnum):
    """What somebody may do. Each may do what those before it may."""

    VIEWER = "viewer"  # read
    RESPONDER = "responder"  # work on alerts, tickets and incidents
    OPERATOR = "operator"  # switch upstreams, keep integrations, change on-call
    APPROVER = "approver"  # approve what goes out or is destroyed

    def may(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who makes a request. `csrf` is None for a token, which no browser sends by itself."""

    name: str
    role: Role
    csrf: str | None


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobody() -> str:
    """A hash of no password, so that a name that does not exist takes as long as one that does."""
    return _hasher().hash(secrets.token_hex(16))


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def set_user(connection: Connection, name: str, password: str, role: Role) -> bool:
    """Add somebody, or give them a new password and role, which ends their sessions. Gives whether they are new."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a user's name", hint="Use letters, digits and . _ @ + -")
    if not PASSWORD_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        raise UsageError(
            f"the password must have {PASSWORD_LENGTH_MIN} to {PASSWORD_LENGTH_MAX} characters",
            hint="Three or four unrelated words are easy to type on a phone.",
        )
    secret = _hasher().hash(password)
    values = {"password_hash": secret, "role": role.value}
    changed = connection.execute(update(users).where(users.c.name == name).values(**values)).rowcount
    if changed:
        connection.execute(delete(sessions).where(sessions.c.user == name))
    else:
        connection.execute(insert(users).values(name=name, created_at=time.time(), **values))
    return not changed


def remove_user(connection: Connection, name: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.user == name))
    if not connection.execute(delete(users).where(users.c.name == name)).rowcount:
        raise NotFoundError(f"there is no user {name!r}", hint="See them: outlast user list")


def listed(connection: Connection) -> list[tuple[str, Role]]:
    return [(row.name, Role(row.role)) for row in connection.execute(select(users).order_by(users.c.name))]


def verified(stored: str | None, password: str) -> bool:
    """Whether it is the password. Takes as long for a user that does not exist (`stored` None)."""
    from argon2.exceptions import InvalidHashError, VerificationError

    if len(password) > PASSWORD_LENGTH_MAX:
        return False
    try:
        return _hasher().verify(stored if stored is not None else _nobody(), password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def password_hash(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(users.c.password_hash).where(users.c.name == name))


def log_in(connection: Connection, name: str, length_s: float) -> str:
    """Begin a session of somebody whose password was right, and give its token."""
    now = time.time()
    connection.execute(delete(sessions).where(sessions.c.used_at < now - length_s))
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(sessions).values(
            token_hash=hashed(token), user=name, csrf=secrets.token_urlsafe(24), created_at=now, used_at=now
        )
    )
    return token


def log_out(connection: Connection, token: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.token_hash == hashed(token)))


def visitor(connection: Connection, token: str, length_s: float) -> tuple[Visitor, bool] | None:
    """Whose session it is, and whether its use is to be noted. None: it is over, or never was."""
    row = connection.execute(
        select(users.c.name, users.c.role, sessions.c.csrf, sessions.c.used_at)
        .join(users, users.c.name == sessions.c.user)
        .where(sessions.c.token_hash == hashed(token))
    ).first()
    now = time.time()
    if row is None or row.used_at < now - length_s:
        return None
    return Visitor(row.name, Role(row.role), row.csrf), now - row.used_at > _USED_EVERY_S


def used(connection: Connection, token: str) -> None:
    connection.execute(update(sessions).where(sessions.c.token_hash == hashed(token)).values(used_at=time.time()))


def add_token(connection: Connection, name: str, role: Role) -> str:
    """A token for a program, shown once."""
    if connection.scalar(select(tokens.c.name).where(tokens.c.name == name)) is not None:
        raise Refused(f"there is a token {name!r} already", hint=f"Take it back: outlast user revoke-token {name}")
    token = f"outlast_{secrets.token_urlsafe(32)}"
    connection.execute(
        insert(tokens).values(name=name, token_hash=hashed(token), role=role.value, created_at=time.time())
    )
    return token


def revoke_token(connection: Connection, name: str) -> None:
    if not connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount:
        raise NotFoundError(f"there is no token {name!r}", hint="See them: outlast user list")


def bearer(connection: Connection, token: str) -> Visitor | None:
    """Whose token it is."""
    row = connection.execute(select(tokens).where(tokens.c.token_hash == hashed(token))).first()
    return Visitor(row.name, Role(row.role), None) if row is not None else None
