"""Which of several paths is taken, by what the rows say: the choice, without a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from outlast.core.table import OwnershipKind, Table
from outlast.sources.postgres.graph import Graph
from outlast.sources.postgres.ownership import derive, resolve
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.ties import Answer, Counted, Question, crossings, settle
from tests.unit.postgres.graphs import graph, name

AGREE = Answer(7, (Counted(),))
USERS = "users(account_id)->accounts items(account_id)->accounts "


def settled(one: Graph, answer: Answer = AGREE) -> dict[str, str]:
    return {table.name: str(entry) for table, entry in settle(one, lambda _: answer).items()}


def reason(one: Graph, table: str, answer: Answer = AGREE) -> str:
    return settle(one, lambda _: answer)[name(table)].reason


def asked(one: Graph, answer: Callable[[Question], Answer] = lambda _: AGREE) -> list[Question]:
    questions = []

    def ask(question: Question) -> Answer:
        questions.append(question)
        return answer(question)

    settle(one, ask)
    return questions


def linked(columns: str = "id user_id item_id", more: str = "") -> Graph:
    return graph(
        {"accounts": "id", "users": "id account_id", "items": "id account_id", "likes": columns},
        USERS + "likes(user_id)->users likes(item_id)->items " + more,
    )


def test_paths_that_agree_are_settled_by_the_first_column() -> None:
    """The reason names the other one, and who watches over it."""
    assert settled(linked())["likes"] == "owned through user_id"
    assert settled(linked("id item_id user_id"))["likes"] == "owned through item_id"
    told = reason(linked(), "likes")
    assert told.startswith("user_id leads to public.users, and item_id leads to the same tenant in every row; ")
    assert "`outlast check` reports rows where it does not" in told


def test_an_empty_table_agrees_and_says_so() -> None:
    """Right after the migrations most tables are empty, and a backup must be possible."""
    assert settled(linked(), Answer(0, (Counted(),)))["likes"] == "owned through user_id"
    assert "there is none yet" in reason(linked(), "likes", Answer(0, (Counted(),)))


@pytest.mark.parametrize("counted", [Counted(differ=3), Counted(half=3), Counted(differ=1, half=2)])
def test_paths_that_disagree_stay_open_with_the_count(counted: Counted) -> None:
    """A tenant against none counts too: it matters which path is taken."""
    answer = Answer(120, (counted,))
    assert settled(linked(), answer)["likes"] == "undecided"
    assert "disagree in 3 of 120 rows" in reason(linked(), "likes", answer)
    assert '"owned through user_id" or "owned through item_id"' in reason(linked(), "likes", answer)


def test_what_was_not_counted_stays_open_with_the_cause() -> None:
    """Never taken for agreement."""
    answer = Answer(unknown="reading takes longer than 30 seconds")
    assert settled(linked(), answer)["likes"] == "undecided"
    assert "because reading takes longer than 30 seconds" in reason(linked(), "likes", answer)


def test_a_column_that_tells_rows_apart_is_preferred() -> None:
    """It is part of the primary key, or of a unique index."""
    assert settled(linked("item_id+position user_id"))["likes"] == "owned through item_id"
    one = linked()
    subjects = dict(one.subjects)
    subjects[name("likes")] = replace(subjects[name("likes")], uniques=(("item_id", "id"),))
    assert settled(replace(one, subjects=subjects))["likes"] == "owned through item_id"


def test_only_ties_between_sure_paths_are_asked_about() -> None:
    """Not one through NULL, one not validated, two columns that name tenants, nor what the schema decides."""
    assert asked(linked("id user_id? item_id?")) == []
    one = linked()
    assert asked(replace(one, foreign_keys=tuple(replace(key, validated=False) for key in one.foreign_keys))) == []
    assert asked(linked("id user_id item_id?")) == []
    two = graph({"accounts": "id", "t": "id sender receiver"}, "t(sender)->accounts t(receiver)->accounts")
    assert asked(two) == []
    assert asked(linked("id user_id item_id account_id", "likes(account_id)->accounts")) == []


def test_a_question_holds_whole_paths() -> None:
    """Each to the tenant's column, and the key by which a row is named."""
    (question,) = asked(linked())
    assert [step.to.name for step in question.chosen.path] == ["users"]
    assert [[step.to.name for step in other.path] for other in question.others] == [["items"]]
    assert question.chosen.tenant_column == "account_id"
    assert question.key == ("id",)


CHAIN = (
    {"accounts": "id", "users": "id account_id", "items": "id account_id", "likes": "id user_id item_id",
     "sights": "id like_id twin_id", "twins": "id user_id item_id"},
    USERS + "likes(user_id)->users likes(item_id)->items twins(user_id)->users twins(item_id)->items"
    " sights(like_id)->likes sights(twin_id)->twins",
)  # fmt: skip


def test_ties_are_settled_from_the_tenant_outwards() -> None:
    """A tie whose paths lead through settled ties is asked with the paths that were chosen there."""
    one = graph(*CHAIN)
    assert [question.table.name for question in asked(one)] == ["likes", "twins", "sights"]
    assert [step.columns for step in asked(one)[2].chosen.path] == [("like_id",), ("user_id",)]
    assert {own.kind for own in resolve(one, settle(one, lambda _: AGREE)).values()} == {OwnershipKind.OWNED}


def test_a_tie_above_an_open_one_is_not_asked() -> None:
    """Its path has no end yet."""
    one = graph(*CHAIN)
    apart = Answer(9, (Counted(1),))
    tables = asked(one, lambda question: apart if question.table.name == "twins" else AGREE)
    assert [question.table.name for question in tables] == ["likes", "twins"]


def test_three_paths_have_to_agree() -> None:
    """One that does not is enough."""
    one = graph(
        {"accounts": "id", "users": "id account_id", "items": "id account_id", "likes": "id user_id item_id by_id"},
        USERS + "likes(user_id)->users likes(item_id)->items likes(by_id)->users",
    )
    answer = Answer(5, (Counted(), Counted()))
    assert "item_id and by_id lead to the same tenant" in reason(one, "likes", answer)
    assert settled(one, Answer(5, (Counted(), Counted(1))))["likes"] == "undecided"


def catalog(one: Graph) -> Catalog:
    """The catalog that `check` has, its ties settled."""
    owners = resolve(one, settle(one, lambda _: AGREE))
    tables = tuple(
        Table(table, tuple(subject.columns.values()), subject.primary_key, (), owners[table])
        for table, subject in one.subjects.items()
    )
    return Catalog(
        "d", 1, 180000, "s", 1, "UTF8", one.tenant_table, "id", "bigint", None, tables, one.foreign_keys
    )  # fmt: skip


def compared(one: Graph) -> dict[str, list[str]]:
    return {
        question.table.name: [", ".join(other.path[0].columns) for other in question.others]
        for question in crossings(catalog(one))
    }


def test_check_compares_every_other_sure_path() -> None:
    """Of tables that a tie settled, and of those that have the tenant's column."""
    assert compared(linked()) == {"likes": ["item_id"]}
    assert compared(linked("id user_id item_id? account_id", "likes(account_id)->accounts")) == {"likes": ["user_id"]}


def test_check_does_not_compare_what_cannot_differ() -> None:
    """A composite key that carries the tenant, a second key to the same row, a path through NULL."""
    one = graph(
        {"accounts": "id", "items": "id account_id", "pins": "id account_id item_id", "likes": "id item_id kind?"},
        "items(account_id)->accounts pins(account_id)->accounts pins(account_id,item_id)->items(account_id,id)"
        " likes(item_id)->items likes(item_id,kind)->items(id,account_id)",
    )
    assert compared(one) == {}


def test_check_compares_no_path_that_is_not_sure_to_its_end() -> None:
    """A NULL further up makes orphans, which are told of elsewhere."""
    one = graph(
        {"accounts": "id", "users": "id account_id", "posts": "id user_id?", "likes": "id user_id post_id"},
        "users(account_id)->accounts posts(user_id)->users likes(user_id)->users likes(post_id)->posts",
    )
    assert compared(one) == {}


def test_ties_change_nothing_else() -> None:
    """Every other table is proposed as without the data."""
    one = linked()
    without = {table: entry for table, entry in derive(one).items() if table.name != "likes"}
    assert {table: entry for table, entry in settle(one, lambda _: AGREE).items() if table.name != "likes"} == without
