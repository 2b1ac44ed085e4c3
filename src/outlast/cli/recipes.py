"""From options to a recipe: what `restore` is told of tables, rows and conflicts, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from outlast.core.conflict import Policy
from outlast.core.errors import UsageError
from outlast.core.recipe import Mode, Recipe
from outlast.core.table import TableName


class Extent(StrEnum):
    """The modes that a person can ask for."""

    MISSING = "missing"
    REWIND = "rewind"


def recipe_of(
    mode: Mode,
    tables: Sequence[str],
    where: Sequence[str],
    keep: Sequence[str],
    on_conflict: Sequence[str],
    *,
    delete_newer: bool = False,
    excluded: Sequence[str] = (),
) -> Recipe:
    """Raises UsageError for options that do not go together."""
    chosen, left_out = _tables(tables), _tables(excluded, "--exclude-table")
    if left_out and (chosen or where):
        raise UsageError("--exclude-table is all tables but one, --table is that one", hint="Name one or the other.")
    if where and len(chosen) != 1:
        raise UsageError("--where names rows of one table", hint="Write --table TABLE --where KEY.")
    if mode is not Mode.REWIND and (delete_newer or keep):
        option = "--delete-newer" if delete_newer else "--keep"
        raise UsageError(f"{option} goes with --mode rewind", hint="--mode missing changes no row that exists.")
    return Recipe(
        mode,
        tuple(str(name) for name in chosen),
        tuple(where),
        tuple(keep),
        delete_newer,
        _policies(on_conflict),
        excluded=tuple(str(name) for name in left_out),
    )


def _tables(names: Sequence[str], option: str = "--table") -> list[TableName]:
    try:
        return sorted({TableName.parse(name) for name in names})
    except ValueError as error:
        raise UsageError(str(error), hint=f"Write {option} schema.table.") from error


def _policies(texts: Sequence[str]) -> dict[str, Policy]:
    found = {}
    for text in texts:
        constraint, _, policy = text.rpartition("=")
        if not constraint or policy not in list(Policy):
            raise UsageError(
                f"--on-conflict {text}: not a constraint and a policy",
                hint=f"Write CONSTRAINT=POLICY, or *=POLICY for all. Policies are {', '.join(Policy)}.",
            )
        found[constraint] = Policy(policy)
    return found
