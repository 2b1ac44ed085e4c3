"""Which publication names which table, and the SQL that brings it about. Pure.

Two publications: one for tables whose changes are all published, one for those of which only INSERT and TRUNCATE are.
`publish_via_partition_root` is off, so the stream speaks of leaves. A partitioned table is *named* by its root wherever
every partition to come is sure to have an identity: a new one is then published from its first row, with nobody doing
anything. Where that is not sure its leaves are named one by one, and the root only in the partial one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from outlast.core.table import Table, TableName
from outlast.sources.postgres.following_facts import FollowingFacts, Member, Names
from outlast.sources.postgres.identities import Choice, Share, Wish, choose, covers

WHOLE_ACTIONS = "insert, update, delete, truncate"
PARTIAL_ACTIONS = "insert, truncate"
BATCH = 50
"""Tables a statement: one that is locked holds back the others of its batch, and no more."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What the two publications should name, and what was chosen for each leaf."""

    whole: tuple[Member, ...]
    partial: tuple[Member, ...]
    choices: tuple[Choice, ...]


def wanted(facts: FollowingFacts, tables: Iterable[Table], wishes: Mapping[str, Wish], names: Names) -> Membership:
    """What to publish of the given tables (those that are owned or shared)."""
    whole: list[Member] = []
    partial: list[Member] = []
    choices: list[Choice] = []
    for table in tables:
        root = facts.root(table.oid)
        if root is None:  # dropped between the two readings of the catalog
            continue
        wish = wishes.get(str(table.name))
        mine = [choose(leaf, table, wish, names.publications) for leaf in facts.leaves(root.oid)]
        choices += mine
        if root.partitioned:
            if _sure(root, table.key, mine, wish):
                whole.append(root)
                continue
            partial.append(root)
        whole += [choice.member for choice in mine if choice.share is Share.WHOLE]
        if not root.partitioned:
            partial += [choice.member for choice in mine if choice.share is Share.PARTIAL]
    return Membership(tuple(whole), tuple(partial), tuple(choices))


def _sure(root: Member, key: tuple[str, ...], choices: Sequence[Choice], wish: Wish | None) -> bool:
    """Whether every partition, those to come as well, has an identity by the root's own primary key."""
    primary = root.primary
    return (
        wish in (None, Wish.KEY)
        and primary is not None
        and primary.fit
        and covers(primary, key)
        and all(choice.share is not Share.PARTIAL for choice in choices)
    )


def covered(facts: FollowingFacts, name: str) -> frozenset[int]:
    """The numbers of the leaves that a publication covers: by themselves, or by their root."""
    there = facts.publications.get(name)
    named: Mapping[int, str] = there.members if there else {}
    return frozenset(
        member.oid
        for member in facts.members
        if not member.partitioned and (member.oid in named or member.root_oid in named)
    )


def lacking(facts: FollowingFacts, names: Names) -> tuple[TableName, ...]:
    """Tables of which the log lacks something as things stand: a leaf is not published whole, for whatever reason."""
    whole = covered(facts, names.publication)
    there = facts.publications.get(names.publication)
    sound = there is not None and there.publish == WHOLE_ACTIONS and not there.via_root
    roots = {
        member.root_oid
        for member in facts.members
        if not member.partitioned
        and not (sound and member.oid in whole and member.persistence == "p" and member.kind != "f")
    }
    return tuple(sorted(member.name for member in facts.members if member.is_root and member.oid in roots))


def by_root(facts: FollowingFacts, names: Names) -> frozenset[TableName]:
    """Tables that are published whole by their root's name, and with it every leaf that is to come."""
    there = facts.publications.get(names.publication)
    named: Mapping[int, str] = there.members if there else {}
    return frozenset(member.name for member in facts.members if member.is_root and member.oid in named)


def identifier(member: Member) -> sql.Identifier:
    return sql.Identifier(member.name.schema, member.name.name)


def create(name: str, actions: str) -> sql.Composed:
    return sql.SQL("CREATE PUBLICATION {} WITH (publish = {})").format(sql.Identifier(name), sql.Literal(actions))


def comment(name: str, text: str) -> sql.Composed:
    return sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(sql.Identifier(name), sql.Literal(text))


def reset(name: str, actions: str, version: int) -> sql.Composed:
    """The options as they should be, whatever somebody made of them."""
    generated = sql.SQL(", publish_generated_columns = none" if version >= 180000 else "")
    return sql.SQL("ALTER PUBLICATION {} SET (publish = {}, publish_via_partition_root = false{})").format(
        sql.Identifier(name), sql.Literal(actions), generated
    )


def add(name: str, members: Sequence[Member]) -> sql.Composed:
    """ONLY, because a table's inheritance children are tables of their own."""
    return sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(
        sql.Identifier(name), sql.SQL(", ").join([sql.SQL("ONLY {}").format(identifier(one)) for one in members])
    )


def drop(name: str, quoted: Sequence[str]) -> sql.Composed:
    """Take tables out; `quoted` are names as the server quotes them."""
    return sql.SQL("ALTER PUBLICATION {} DROP TABLE {}").format(
        sql.Identifier(name),
        sql.SQL(", ").join([sql.SQL("ONLY {}").format(sql.SQL(one)) for one in quoted]),  # from format('%I')
    )


def drop_publication(name: str) -> sql.Composed:
    return sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name))


def batches(members: Sequence[Member]) -> Iterable[Sequence[Member]]:
    for start in range(0, len(members), BATCH):
        yield members[start : start + BATCH]
