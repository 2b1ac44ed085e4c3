"""The words of outlast.toml's [tables], read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import UsageError
from outlast.core.table import OwnershipKind, TableName
from outlast.sources.postgres.classification import Classification

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
tables = st.builds(TableName, names, names)


@given(st.lists(names, min_size=1, max_size=3), st.booleans(), st.none() | tables)
def test_whatever_a_column_is_called_its_entry_reads_back(
    columns: list[str], through: bool, to: TableName | None
) -> None:
    """Names with spaces, commas, quotes and line breaks survive being written into outlast.toml and read again."""
    if not through:
        columns, to = columns[:1], None
    entry = Classification(OwnershipKind.OWNED, tuple(columns), through, to)
    again = Classification.parse("public.items", str(entry))
    assert (again.columns, again.through, again.to) == (entry.columns, entry.through, entry.to)


@pytest.mark.parametrize(
    ("text", "kind", "columns", "through", "to"),
    [
        ("shared", "shared", (), False, None),
        (" ignored ", "ignored", (), False, None),
        ("undecided", "undecided", (), False, None),
        ("owned by account_id", "owned", ("account_id",), False, None),
        ("owned through item_id", "owned", ("item_id",), True, None),
        ("owned through a, b", "owned", ("a", "b"), True, None),
        ('owned by "Account Id"', "owned", ("Account Id",), False, None),
        ("owned through post_id to app.posts", "owned", ("post_id",), True, TableName("app", "posts")),
    ],
)
def test_the_forms(text: str, kind: str, columns: tuple[str, ...], through: bool, to: TableName | None) -> None:
    """Every form that the documentation names is read."""
    entry = Classification.parse("items", text)
    assert (entry.kind.value, entry.columns, entry.through, entry.to) == (kind, columns, through, to)


@pytest.mark.parametrize("text", ["", "owned", "owned by", "owned by a, b", "Shared?", "owned by a to b", "mine"])
def test_anything_else_is_refused_with_the_forms_in_the_hint(text: str) -> None:
    """The message names the table, the hint what could be written."""
    with pytest.raises(UsageError) as caught:
        Classification.parse("public.items", text)
    assert "public.items" in caught.value.message
    assert caught.value.hint
