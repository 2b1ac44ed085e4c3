"""Who may send: an integration has a kind (whose API it speaks), a key of its own, and upstreams it is passed on to.

A key is shown once, when it is made; kept is its hash. It is random and long, so a plain SHA-256 is enough. Revoking it
counts within a second in every process.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from outlast.core.errors import NotFoundError, Refused, UsageError
from outlast.relay.tables import identity, integrations
from outlast.state.database import Database

KINDS = ("opsgenie", "pagerduty", "alertmanager")
_KNOWN_FOR_S = 1.0
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Integration:
    name: str
    kind: str
    upstreams: tuple[str, ...] | None  # None: all there are
    service: str | None
    created_at: float
    revoked_at: float | None

    @property
    def scope(self) -> str:
        """Within what an alias means one alert: Opsgenie's are the account's, PagerDuty's the integration's."""
        return "opsgenie" if self.kind == "opsgenie" else self.name


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def add(
    connection: Connection, name: str, kind: str, upstreams: Sequence[str] | None = None, service: str | None = None
) -> str:
    """Make an integration and give its key, which is not to be had again."""
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind of integration", hint=f"There are: {', '.join(KINDS)}.")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be an integration's name", hint="Use small letters, digits and . _ - (at most 63)."
        )
    if connection.scalar(select(integrations.c.name).where(integrations.c.name == name)) is not None:
        raise Refused(
            f"there is an integration {name!r} already", hint=f"Give it a new key: outlast integration renew {name}"
        )
    key = secrets.token_hex(16)  # 32 characters, as PagerDuty's are
    connection.execute(
        insert(integrations).values(
            name=name,
            kind=kind,
            key_hash=hashed(key),
            upstreams=None if upstreams is None else ",".join(upstreams),
            service=service,
            created_at=time.time(),
        )
    )
    return key


def renew(connection: Connection, name: str) -> str:
    """Give an integration a new key; the old one is worth nothing from then on."""
    key = secrets.token_hex(16)
    _change(connection, name, key_hash=hashed(key), revoked_at=None)
    return key


def revoke(connection: Connection, name: str) -> None:
    """Take an integration's key back."""
    _change(connection, name, revoked_at=time.time())


def _change(connection: Connection, name: str, **values: object) -> None:
    changed = connection.execute(update(integrations).where(integrations.c.name == name).values(**values))
    if not changed.rowcount:
        raise NotFoundError(f"there is no integration {name!r}", hint="See them: outlast integration list")


def listed(connection: Connection) -> list[Integration]:
    """All of them, by name."""
    rows = connection.execute(select(integrations).order_by(integrations.c.name))
    return [
        Integration(
            row.name,
            row.kind,
            None if row.upstreams is None else tuple(filter(None, row.upstreams.split(","))),
            row.service,
            row.created_at,
            row.revoked_at,
        )
        for row in rows
    ]


def instance_of(connection: Connection) -> str:
    """This installation's id; drawn on first use, and shared by all instances on one database."""
    known = connection.scalar(select(identity.c.id))
    if known is None:
        known = secrets.token_hex(8)
        connection.execute(insert(identity).values(id=known))
    return str(known)


class Keys:
    """Finds an integration by its key. What it read is believed for a second, so that a request costs no query."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._read_at: float | None = None
        self._by_hash: dict[str, Integration] = {}

    def find(self, key: str, kind: str) -> Integration | None:
        """The integration whose key it is, if it is of this kind and not revoked."""
        now = self._clock()
        if self._read_at is None or now - self._read_at > _KNOWN_FOR_S:
            self._read()
            self._read_at = now
        found = self._by_hash.get(hashed(key))
        return found if found is not None and found.kind == kind else None

    def _read(self) -> None:
        with self._database.read() as connection:
            rows = connection.execute(select(integrations.c.name, integrations.c.key_hash))
            hashes = {row.name: row.key_hash for row in rows}
            self._by_hash = {hashes[one.name]: one for one in listed(connection) if one.revoked_at is None}
