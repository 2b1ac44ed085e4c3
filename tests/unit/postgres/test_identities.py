"""By which identity each table is published: every case that a server can have, and what breaks the application."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outlast.core.row import KeyKind
from outlast.core.table import Ownership, OwnershipKind, Table, TableName
from outlast.sources.postgres.following_facts import IdentityIndex, Member
from outlast.sources.postgres.identities import Identity, Share, Wish, breaks, choose

NAME = TableName("public", "items")
PRIMARY = IdentityIndex("items_pkey", primary=True, chosen=False, fit=True, exclusion=False, columns=("id",))
UNIQUE = IdentityIndex("items_code", primary=False, chosen=False, fit=True, exclusion=False, columns=("code",))
WIDE = replace(UNIQUE, name="items_wide", columns=("code", "id"))
PLAIN = Member(1, 1, NAME, "r", "p", "d", "owner", True, "", (), (), (PRIMARY,))
OURS = ("outlast_main", "outlast_main_partial")


def table(*key: str) -> Table:
    return Table(NAME, (), key, (KeyKind.TEXT,) * len(key), Ownership(OwnershipKind.OWNED))


def chosen(index: IdentityIndex) -> IdentityIndex:
    return replace(index, chosen=True)


CASES = {
    "a primary key": (PLAIN, ("id",), None, Share.WHOLE, None),
    "FULL as it stood": (replace(PLAIN, identity="f"), ("id",), None, Share.WHOLE, None),
    "NOTHING": (replace(PLAIN, identity="n"), ("id",), None, Share.WHOLE, Identity("d")),
    "a unique index": (replace(PLAIN, indexes=(UNIQUE,)), ("code",), None, Share.WHOLE, Identity("i", "items_code")),
    "the narrower of two": (
        replace(PLAIN, indexes=(WIDE, UNIQUE)),
        ("code",),
        None,
        Share.WHOLE,
        Identity("i", "items_code"),
    ),
    "an index that stood": (
        replace(PLAIN, identity="i", indexes=(PRIMARY, chosen(WIDE))),
        ("id",),
        None,
        Share.WHOLE,
        None,
    ),
    "an index that lacks the key": (
        replace(PLAIN, identity="i", indexes=(PRIMARY, chosen(UNIQUE))),
        ("id",),
        None,
        Share.WHOLE,
        Identity("d"),
    ),
    "the same, that another publication wants": (
        replace(PLAIN, identity="i", indexes=(PRIMARY, chosen(UNIQUE)), publications=("debezium",)),
        ("id",),
        None,
        Share.PARTIAL,
        None,
    ),
    "the same, by the user's word": (
        replace(PLAIN, identity="i", indexes=(PRIMARY, chosen(UNIQUE)), publications=("debezium",)),
        ("id",),
        Wish.KEY,
        Share.WHOLE,
        Identity("d"),
    ),
    "an index that is gone": (
        replace(PLAIN, identity="i"),
        ("id",),
        None,
        Share.WHOLE,
        Identity("d"),
    ),
    "no key": (replace(PLAIN, indexes=()), (), None, Share.PARTIAL, None),
    "no key, FULL wanted": (replace(PLAIN, indexes=()), (), Wish.FULL, Share.WHOLE, Identity("f")),
    "FULL wanted and there": (replace(PLAIN, identity="f", indexes=()), (), Wish.FULL, Share.WHOLE, None),
    "FULL wanted, generated": (replace(PLAIN, generated="v"), ("id",), Wish.FULL, Share.PARTIAL, None),
    "FULL that stood, generated": (
        replace(PLAIN, identity="f", generated="s"),
        ("id",),
        None,
        Share.WHOLE,
        Identity("d"),
    ),
    "a deferrable primary key": (
        replace(PLAIN, indexes=(replace(PRIMARY, fit=False),)),
        ("id",),
        None,
        Share.PARTIAL,
        None,
    ),
    "partial wanted": (PLAIN, ("id",), Wish.PARTIAL, Share.PARTIAL, None),
    "unlogged": (replace(PLAIN, persistence="u"), ("id",), None, Share.NOTHING, None),
    "foreign": (replace(PLAIN, kind="f"), ("id",), None, Share.NOTHING, None),
}


@pytest.mark.parametrize("case", CASES)
def test_each_table_gets_the_identity_that_serves(case: str) -> None:
    """What is not published whole says why; only a wish that cannot be met is refused."""
    member, key, wish, share, change = CASES[case]
    choice = choose(member, table(*key), wish, OURS)
    assert (choice.share, choice.change) == (share, change)
    assert bool(choice.reason) == (share is not Share.WHOLE)
    assert choice.refused == (case == "FULL wanted, generated")


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_published_whole_that_would_break_the_application(case: str) -> None:
    """After the change, if there is one, the server takes UPDATE and DELETE."""
    member, key, wish, share, change = CASES[case]
    choice = choose(member, table(*key), wish, OURS)
    if share is Share.WHOLE:
        indexes = tuple(replace(one, chosen=one.name == change.index) for one in member.indexes) if change else ()
        after = replace(member, identity=change.kind, indexes=indexes) if change else member
        assert not breaks(after)
    assert choice.member is member


def test_an_identity_is_said_as_sql() -> None:
    """With its index quoted."""
    assert Identity("i", 'odd"name').words.as_string(None) == 'USING INDEX "odd""name"'
    assert [Identity(kind).words.as_string(None) for kind in "dfn"] == ["DEFAULT", "FULL", "NOTHING"]
