"""Whose a table is: proposed from the foreign-key graph, and as outlast.toml says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import UsageError
from outlast.core.table import Ownership, OwnershipKind, TableName
from outlast.sources.postgres.classification import Classification
from outlast.sources.postgres.graph import Graph
from outlast.sources.postgres.ownership import derive, resolve, wording
from tests.unit.postgres.graphs import graph, name


def proposed(one: Graph) -> dict[str, str]:
    return {table.name: str(entry) for table, entry in derive(one).items()}


def reasons(one: Graph) -> dict[str, str]:
    return {table.name: entry.reason for table, entry in derive(one).items()}


def test_the_tenant_table_is_owned_by_its_own_key() -> None:
    """Whatever it references, itself included."""
    one = graph(
        {"accounts": "id parent_id? plan_id", "plans": "id"}, "accounts(parent_id)->accounts accounts(plan_id)->plans"
    )
    assert proposed(one) == {"accounts": "owned by id", "plans": "shared"}


def test_a_foreign_key_to_the_tenant_is_its_column() -> None:
    """Whatever the column is called."""
    one = graph({"accounts": "id", "items": "id owner_ref"}, "items(owner_ref)->accounts")
    assert proposed(one)["items"] == "owned by owner_ref"


def test_a_column_of_the_same_name_and_type_counts_without_a_foreign_key() -> None:
    """Applications that keep no foreign keys still name the column alike; another type is another thing."""
    one = graph(
        {"accounts": "id", "items": "id account_uid", "logs": "id account_uid?", "other": "id account_uid:uuid"},
        "items(account_uid)->accounts",
    )
    assert proposed(one)["logs"] == "owned by account_uid"
    assert proposed(one)["other"] == "undecided"


@pytest.mark.parametrize(("column", "kind"), [("account_id", "integer"), ("accounts_id", "bigint")])
def test_without_any_foreign_key_the_conventional_name_counts(column: str, kind: str) -> None:
    """A smaller integer than the tenant's key is the same number."""
    assert proposed(graph({"accounts": "id", "items": f"id {column}:{kind}"}))["items"] == f"owned by {column}"


def test_a_column_that_points_elsewhere_is_not_the_tenants_by_its_name() -> None:
    """owner_id that references users is a user's number, though another table's owner_id is a tenant's."""
    one = graph(
        {"accounts": "id", "a": "id owner_id", "users": "id account_ref", "b": "id owner_id"},
        "a(owner_id)->accounts users(account_ref)->accounts b(owner_id)->users",
    )
    assert proposed(one)["b"] == "owned through owner_id"


def test_the_tenants_column_wins_over_every_path() -> None:
    """A table that has the column is owned by it, whatever else it references."""
    one = graph(
        {"accounts": "id", "users": "id account_id", "items": "id account_id? user_id"},
        "users(account_id)->accounts items(account_id)->accounts items(user_id)->users",
    )
    assert proposed(one)["items"] == "owned by account_id"


def test_the_usual_name_wins_over_another_pointer_at_the_tenant() -> None:
    """account_id owns, referred_by does not."""
    one = graph(
        {"accounts": "id", "items": "id account_id referred_by?"},
        "items(account_id)->accounts items(referred_by)->accounts",
    )
    assert proposed(one)["items"] == "owned by account_id"


def test_two_columns_of_equal_right_are_left_open() -> None:
    """A transfer between two tenants is nobody's to guess; both ways to write it are named."""
    one = graph(
        {"accounts": "id", "transfers": "id sender receiver"},
        "transfers(sender)->accounts transfers(receiver)->accounts",
    )
    assert proposed(one)["transfers"] == "undecided"
    assert '"owned by sender" or "owned by receiver"' in reasons(one)["transfers"]


def test_an_optional_pointer_at_a_tenant_does_not_overrule_a_certain_path() -> None:
    """A ticket's optional reseller is not its owner for certain: both are named, neither is taken."""
    one = graph(
        {"accounts": "id", "projects": "id account_id", "tickets": "id project_id reseller?"},
        "projects(account_id)->accounts tickets(project_id)->projects tickets(reseller)->accounts",
    )
    assert proposed(one)["tickets"] == "undecided"


def test_a_composite_key_that_carries_the_tenant_puts_it_on_the_table() -> None:
    """(account_id, item_id) → items (account_id, id): the tenant's key stands in the child, through two levels."""
    one = graph(
        {"accounts": "id", "items": "acct+id", "notes": "acc+item+n", "pins": "a+i+m+k"},
        "items(acct)->accounts notes(acc,item)->items pins(a,i,m)->notes",
    )
    assert proposed(one)["notes"] == "owned by acc"
    assert proposed(one)["pins"] == "owned by a"


def test_the_shortest_certain_path_is_taken() -> None:
    """NOT NULL first, then length; a reference to itself is no path."""
    one = graph(
        {
            "accounts": "id",
            "users": "id account_id",
            "posts": "id user_id parent_id?",
            "likes": "id post_id user_id?",
        },
        "users(account_id)->accounts posts(user_id)->users posts(parent_id)->posts likes(post_id)->posts"
        " likes(user_id)->users",
    )
    assert proposed(one)["posts"] == "owned through user_id"
    assert proposed(one)["likes"] == "owned through post_id"
    path = resolve(one, derive(one))[name("likes")]
    assert [str(step.to) for step in path.path] == ["public.posts", "public.users"]
    assert path.tenant_column == "account_id"


def test_a_path_through_null_is_taken_where_there_is_no_other() -> None:
    """Its rows may be orphans, which the reason says."""
    one = graph({"accounts": "id", "a": "id account_id", "b": "id a_id?"}, "a(account_id)->accounts b(a_id)->a")
    assert proposed(one)["b"] == "owned through a_id"
    assert "may be NULL" in reasons(one)["b"]


def test_paths_that_can_disagree_are_left_open() -> None:
    """Two parents at the same distance may belong to two tenants, even if they are in the same table."""
    one = graph(
        {"accounts": "id", "users": "id account_id", "dms": "id a b", "below": "id dm_id"},
        "users(account_id)->accounts dms(a)->users dms(b)->users below(dm_id)->dms",
    )
    assert proposed(one)["dms"] == "undecided"
    assert '"owned through a" or "owned through b"' in reasons(one)["dms"]
    assert proposed(one)["below"] == "owned through dm_id"
    below = resolve(one, derive(one))[name("below")]
    assert below.kind is OwnershipKind.UNDECIDED
    assert wording(name("below"), below, one.foreign_keys) == "owned through dm_id"


def test_once_the_open_one_is_decided_what_hangs_below_follows() -> None:
    """A person decides one table, not all that lead through it."""
    one = graph(
        {"accounts": "id", "users": "id account_id", "dms": "id a b", "below": "id dm_id"},
        "users(account_id)->accounts dms(a)->users dms(b)->users below(dm_id)->dms",
    )
    entries = derive(one) | {name("dms"): Classification.parse("dms", "owned through b")}
    below = resolve(one, entries)[name("below")]
    assert [step.columns for step in below.path] == [("dm_id",), ("b",)]


def test_the_same_parent_twice_by_the_same_columns_is_one_path() -> None:
    """A duplicate constraint, or one that adds a column to the pair, leads to the same row."""
    one = graph(
        {"accounts": "id", "a": "id kind account_id", "b": "id a_id kind"},
        "a(account_id)->accounts b(a_id)->a(id) b(a_id,kind)->a(id,kind)",
    )
    assert proposed(one)["b"] == "owned through a_id"


def test_a_row_whose_primary_key_is_its_parents_is_part_of_it() -> None:
    """A one-to-one extension belongs where it hangs, whatever else it points at."""
    one = graph(
        {"accounts": "id", "a": "id account_id", "profile": "a_id other", "x": "id account_id"},
        "a(account_id)->accounts x(account_id)->accounts profile(a_id)->a profile(other)->x",
    )
    assert proposed(one)["profile"] == "owned through a_id"


def test_only_referenced_is_shared_and_links_between_shared_are_too() -> None:
    """Reference data, and what joins it; a table with content of its own is not taken for it."""
    one = graph(
        {"accounts": "id", "users": "id account_id role_id", "roles": "id", "rights": "id",
         "grants": "role_id+right_id", "audits": "id role_id note:text", "loose": "id"},
        "users(account_id)->accounts users(role_id)->roles grants(role_id)->roles grants(right_id)->rights"
        " audits(role_id)->roles",
    )  # fmt: skip
    found = proposed(one)
    assert (found["roles"], found["rights"], found["grants"]) == ("shared", "shared", "shared")
    assert (found["audits"], found["loose"]) == ("undecided", "undecided")


def test_a_polymorphic_reference_is_left_open_even_if_referenced() -> None:
    """record_type and record_id are no foreign key, and hold customers' data."""
    one = graph(
        {"accounts": "id", "files": "id record_type:text record_id", "sizes": "id file_id"}, "sizes(file_id)->files"
    )
    assert proposed(one)["files"] == "undecided"
    assert "polymorphic" in reasons(one)["files"]


@pytest.mark.parametrize(
    "table", ["alembic_version", "schema_migrations", "ar_internal_metadata", "django_migrations", "SequelizeMeta"]
)
def test_book_keeping_of_migration_tools_is_shared(table: str) -> None:
    """So that a backup succeeds right after init on an ordinary schema."""
    assert proposed(graph({"accounts": "id", table: "version:text"}))[table] == "shared"


def test_book_keeping_by_name_that_belongs_to_a_tenant_is_the_tenants() -> None:
    """A name decides only where nothing better does."""
    one = graph({"accounts": "id", "migrations": "id account_id"}, "migrations(account_id)->accounts")
    assert proposed(one)["migrations"] == "owned by account_id"


def test_a_table_that_is_not_listed_stops_and_says_what_to_write() -> None:
    """It appeared after init: its proposal is named, not taken."""
    one = graph({"accounts": "id", "items": "id account_id"}, "items(account_id)->accounts")
    found = resolve(one, {name("accounts"): Classification.parse("accounts", "owned by id")})
    assert found[name("items")].kind is OwnershipKind.UNDECIDED
    assert '"owned by account_id"' in found[name("items")].reason


def test_a_declared_reference_needs_no_foreign_key() -> None:
    """`to TABLE` names the parent of a database without foreign keys."""
    one = graph({"accounts": "id", "posts": "id account_id", "likes": "id post_id"})
    entries = derive(one) | {name("likes"): Classification.parse("likes", "owned through post_id to public.posts")}
    likes = resolve(one, entries)[name("likes")]
    assert likes.kind is OwnershipKind.OWNED
    assert likes.path[0].to_columns == ("id",)
    assert wording(name("likes"), likes, ()) == "owned through post_id to public.posts"


@pytest.mark.parametrize(
    "entry",
    [
        "owned by nope",
        "owned by name",
        "owned through nope",
        "owned through name",
        "owned through user_id to public.nope",
        "owned through parent_id",
    ],
)
def test_an_entry_that_cannot_be_is_the_users_mistake_and_is_named(entry: str) -> None:
    """The table stands in the message, and what could be written in the hint."""
    one = graph(
        {"accounts": "id", "users": "id account_id", "items": "id user_id name:text parent_id?"},
        "users(account_id)->accounts items(user_id)->users items(parent_id)->items",
    )
    with pytest.raises(UsageError) as caught:
        resolve(one, derive(one) | {name("items"): Classification.parse("items", entry)})
    assert "public.items" in caught.value.message
    assert caught.value.hint


def test_paths_in_a_circle_are_named_and_not_followed() -> None:
    """Two tables that own each other own nothing."""
    one = graph({"accounts": "id", "a": "id b_id", "b": "id a_id"}, "a(b_id)->b b(a_id)->a")
    entries = derive(one) | {
        name("a"): Classification.parse("a", "owned through b_id"),
        name("b"): Classification.parse("b", "owned through a_id"),
    }
    found = resolve(one, entries)
    assert found[name("a")].kind is OwnershipKind.UNDECIDED
    assert "circle" in found[name("a")].reason


def test_where_equal_keys_differ_in_text_the_tenant_table_is_asked() -> None:
    """citext 'ACME' in a child is the tenant 'acme': its name is read from the tenant table."""
    one = graph(
        {"accounts": "id:citext", "items": "n account_id:citext"},
        "items(account_id)->accounts",
        key_type="citext",
        exact=False,
    )
    found = resolve(one, derive(one))
    assert found[name("accounts")].path == ()
    assert [str(step.to) for step in found[name("items")].path] == ["public.accounts"]
    assert found[name("items")].tenant_column == "id"


def test_the_tenant_table_cannot_be_anything_else() -> None:
    """An entry that says otherwise is refused before anything is read by it."""
    one = graph({"accounts": "id"})
    with pytest.raises(UsageError):
        resolve(one, {name("accounts"): Classification.parse("accounts", "shared")})


@st.composite
def schemas(draw: st.DrawFn) -> Graph:
    """Random tables with random foreign keys, NULL allowed or not, circles and references to themselves included."""
    count = draw(st.integers(1, 8))
    tables = {"accounts": "id"} | {f"t{number}": "id" for number in range(count)}
    keys = []
    for number in range(count):
        for column in range(draw(st.integers(0, 3))):
            parent = draw(st.sampled_from(["accounts", *(f"t{other}" for other in range(count))]))
            null = draw(st.sampled_from(["", "?"]))
            tables[f"t{number}"] += f" c{column}{null}"
            keys.append(f"t{number}(c{column})->{parent}")
    return graph(tables, " ".join(keys))


@given(schemas())
def test_every_table_is_decided_or_named_and_every_path_ends_at_the_tenant(one: Graph) -> None:
    """Whatever the schema: each table has an entry; an owned one's steps follow foreign keys to a tenant's column; and
    what was proposed, written down and read again, is the same ownership."""
    entries = derive(one)
    assert set(entries) == set(one.subjects)
    found = resolve(one, entries)
    for table, ownership in found.items():
        if ownership.kind is OwnershipKind.OWNED:
            _assert_leads_to_a_tenant(one, table, ownership)
        if ownership.kind is OwnershipKind.UNDECIDED:
            assert ownership.reason
    written = {table: wording(table, ownership, one.foreign_keys) for table, ownership in found.items()}
    again = resolve(one, {table: Classification.parse(str(table), text) for table, text in written.items()})
    assert {table: (o.kind, o.path, o.tenant_column) for table, o in again.items()} == {
        table: (o.kind, o.path, o.tenant_column) for table, o in found.items()
    }


def _assert_leads_to_a_tenant(one: Graph, table: TableName, ownership: Ownership) -> None:
    here = table
    for step in ownership.path:
        assert any(
            key.table == here and key.references == step.to and set(key.columns) == set(step.columns)
            for key in one.foreign_keys
        )
        here = step.to
    assert ownership.tenant_column is not None
    ends_at_tenant = here == one.tenant_table and ownership.tenant_column == one.tenant_key
    assert ends_at_tenant or any(
        key.table == here and key.references == one.tenant_table and ownership.tenant_column in key.columns
        for key in one.foreign_keys
    )
