"""Options of `restore` become a recipe, or are refused before anything is opened."""

from __future__ import annotations

import pytest

from outlast.cli.recipes import recipe_of
from outlast.core.conflict import Policy
from outlast.core.errors import UsageError
from outlast.core.recipe import Mode, Prefer, Recipe


def test_a_recipe_comes_back_whole() -> None:
    """As JSON, in a plan, and read again."""
    recipe = Recipe(
        Mode.REVERSE,
        ("public.a",),
        ("1, x",),
        ("n",),
        delete_newer=True,
        on_conflict={"a_key": Policy.SUFFIX},
        with_shared=True,
        prefer=Prefer.LIVE,
        undo_of="0abc",
        damage_since="0/1",
        damage_until="0/2",
        transactions=(7,),
        without_undo=True,
    )
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(Recipe().to_json()) == Recipe()


def test_policies() -> None:
    """By constraint, and one for all others; a name may hold an equals sign."""
    recipe = recipe_of(Mode.MISSING, [], [], [], ["a=b_key=suffix", "*=skip"])
    assert recipe.policy("a=b_key") is Policy.SUFFIX
    assert recipe.policy("other") is Policy.SKIP
    assert Recipe().policy("other") is Policy.ABORT


@pytest.mark.parametrize(
    ("mode", "tables", "where", "keep", "policies", "newer"),
    [
        (Mode.MISSING, [], ["1"], [], [], False),
        (Mode.MISSING, ["a", "b"], ["1"], [], [], False),
        (Mode.MISSING, [], [], ["n"], [], False),
        (Mode.MISSING, [], [], [], [], True),
        (Mode.MISSING, [], [], [], ["key"], False),
        (Mode.MISSING, [], [], [], ["key=drop"], False),
        (Mode.MISSING, ['"'], [], [], [], False),
    ],
)
def test_what_does_not_go_together(
    mode: Mode, tables: list[str], where: list[str], keep: list[str], policies: list[str], newer: bool
) -> None:
    """Is told, with what to write instead."""
    with pytest.raises(UsageError) as caught:
        recipe_of(mode, tables, where, keep, policies, delete_newer=newer)
    assert caught.value.hint
