"""By which columns the log names an old row: which replica identity serves each table, and what has to change for it.

Pure. A table whose identity does not hold Outlast's key is published for INSERT and TRUNCATE alone: a DELETE of it
could not be applied, and with no identity at all the application's own UPDATE and DELETE would fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from psycopg import sql

from outlast.core.table import Table
from outlast.sources.postgres.following_facts import IdentityIndex, Member


class Wish(StrEnum):
    """What [follow] identities in outlast.toml may say of a table."""

    FULL = "full"  # whole old rows into the log
    KEY = "key"  # the key, even where another identity was chosen before
    PARTIAL = "partial"  # leave its identity alone: inserts and truncates only


class Share(StrEnum):
    """How much of a table's changes is published."""

    WHOLE = "whole"
    PARTIAL = "partial"  # INSERT and TRUNCATE
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Identity:
    """pg_class.relreplident, and the index it names where it is `i`."""

    kind: str
    index: str | None = None

    @classmethod
    def of(cls, member: Member) -> Identity:
        chosen = member.chosen
        return cls(member.identity, chosen.name if chosen and member.identity == "i" else None)

    @property
    def words(self) -> sql.Composable:
        """What follows REPLICA IDENTITY."""
        if self.kind == "i" and self.index is not None:
            return sql.SQL("USING INDEX {}").format(sql.Identifier(self.index))
        return sql.SQL({"d": "DEFAULT", "f": "FULL"}.get(self.kind, "NOTHING"))

    def to_json(self) -> list[str | None]:
        return [self.kind, self.index]


@dataclass(frozen=True, slots=True)
class Choice:
    """How a table or leaf is published, after `change` if there is one. `reason` says why it is not whole."""

    member: Member
    share: Share
    change: Identity | None = None
    reason: str = ""
    hint: str | None = None
    refused: bool = False  # what outlast.toml asks for cannot be done


def choose(member: Member, table: Table, wish: Wish | None, ours: Iterable[str]) -> Choice:
    """How to publish a table, or a leaf of it; `ours` are our publications' names."""
    key = table.key
    if member.kind == "f":
        return Choice(member, Share.NOTHING, reason="it is a foreign table: its changes are in another server's log")
    if member.persistence != "p":
        return Choice(
            member,
            Share.NOTHING,
            reason="it is unlogged: its changes are not in the log",
            hint="ALTER TABLE … SET LOGGED if its rows matter.",
        )
    if wish is Wish.PARTIAL:
        return Choice(member, Share.PARTIAL, reason='outlast.toml says "partial"')
    if wish is Wish.FULL:
        return _full(member, table)
    if _serves(member, key) and (wish is not Wish.KEY or member.identity != "f"):
        return Choice(member, Share.WHOLE)
    others = sorted(set(member.publications) - set(ours))
    if others and wish is None and member.identity in ("f", "i"):
        return Choice(
            member,
            Share.PARTIAL,
            reason=f"its replica identity was chosen for another publication ({', '.join(others)}) and does not serve",
            hint=f'[follow] identities = {{"{table.name}" = "key"}} lets setup change it.',
        )
    fitting = _fitting(member, key)
    if fitting is not None:
        return Choice(member, Share.WHOLE, Identity("d") if fitting.primary else Identity("i", fitting.name))
    return Choice(member, Share.PARTIAL, reason=_why_none(member, key), hint=_HINT_NONE.format(table.name))


_HINT_NONE = (
    'Add a primary key, or write [follow] identities = {{"{}" = "full"}} in outlast.toml: every UPDATE and DELETE then '
    "writes the whole old row to the log."
)


def _full(member: Member, table: Table) -> Choice:
    if member.generated:
        return Choice(
            member,
            Share.PARTIAL,
            reason="REPLICA IDENTITY FULL with a generated column makes UPDATE and DELETE fail on PostgreSQL 18",
            hint=f'Take "{table.name}" = "full" out of [follow] identities in outlast.toml.',
            refused=True,
        )
    return Choice(member, Share.WHOLE, None if member.identity == "f" else Identity("f"))


def _serves(member: Member, key: tuple[str, ...]) -> bool:
    """Whether the identity that stands names every row by Outlast's key, and lets UPDATE and DELETE through."""
    if member.identity == "f":
        return not member.generated
    index = {"d": member.primary, "i": member.chosen}.get(member.identity)
    return index is not None and index.fit and covers(index, key)


def covers(index: IdentityIndex, key: tuple[str, ...]) -> bool:
    return bool(key) and set(key) <= set(index.columns)


def _fitting(member: Member, key: tuple[str, ...]) -> IdentityIndex | None:
    fit = [
        index for index in member.indexes if index.fit and (index.primary or not index.exclusion) and covers(index, key)
    ]
    return min(fit, key=lambda index: (not index.primary, len(index.columns), index.name), default=None)


def _why_none(member: Member, key: tuple[str, ...]) -> str:
    if not key:
        return "it has no primary key and no unique index of NOT NULL columns"
    primary = member.primary
    if primary is not None and not primary.fit and set(primary.columns) == set(key):
        return "its primary key is deferrable, which the server does not take for a replica identity"
    return f"no index that the server takes for a replica identity holds its key ({', '.join(key)})"


def breaks(member: Member) -> bool:
    """Whether the application's UPDATE and DELETE fail while this is published for them."""
    if member.identity == "f":
        return bool(member.generated)
    index = {"d": member.primary, "i": member.chosen}.get(member.identity)
    return index is None or not index.fit
