"""Where several paths of equal right lead from a table to a tenant: what to ask the data, and what follows from it.

Pure: agreement.py puts the questions to a server. `settle` is for `init`, `crossings` for `check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from outlast.core.table import Ownership, OwnershipKind, Step, Table, TableName
from outlast.sources.postgres.classification import Classification
from outlast.sources.postgres.graph import Graph
from outlast.sources.postgres.ownership import Classified, derive, resolve, tied, undecided
from outlast.sources.postgres.paths import along, is_sure, through
from outlast.sources.postgres.schema import Catalog, ForeignKey


@dataclass(frozen=True, slots=True)
class Question:
    """Does each of `others` lead every row of a table to the tenant that `chosen` leads it to?

    `key` are the columns by which a row that disagrees is named; none where the table has no key.
    """

    table: TableName
    tenant_key_type: str
    chosen: Ownership
    others: tuple[Ownership, ...]
    key: tuple[str, ...] = ()
    only: bool = False
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """Of all rows, how many one of the other paths leads to another tenant, and how many to one where the chosen path
    leads to none, or the reverse. `example` is the key of one that leads to another."""

    differ: int = 0
    half: int = 0
    example: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`paths` has an entry for each of the question's others. `unknown` says why nothing was counted."""

    rows: int = 0
    paths: tuple[Counted, ...] = ()
    unknown: str | None = None

    @property
    def apart(self) -> int:
        """Rows for which it matters which path is taken; at least these, where there are more than two paths."""
        return max((path.differ + path.half for path in self.paths), default=0)


Ask = Callable[[Question], Answer]


# What init proposes ----------------------------------------------------------------------------------------------


def settle(graph: Graph, ask: Ask) -> Classified:
    """A proposal for every table, as `derive` gives it, and where only a tie between sure paths leaves one undecided,
    what the rows say. A tie is asked about once the tables that its paths lead through are decided."""
    classified = derive(graph)
    for _, level in groupby(tied(graph), key=lambda tie: tie.steps):
        owners = resolve(graph, classified)
        for tie in level:
            keys = _preferred(graph, tie.keys)
            paths = [_beyond(along(graph, key), owners[key.references]) for key in keys]
            known = [path for path in paths if path is not None]
            if len(known) == len(keys):
                subject = graph.subjects[tie.table]
                chosen, *others = known
                answer = ask(
                    Question(tie.table, graph.tenant_key_type, chosen, tuple(others), subject.primary_key, subject.only)
                )
                classified[tie.table] = decide(graph, keys, answer)
    return classified


def decide(graph: Graph, keys: Sequence[ForeignKey], answer: Answer) -> Classification:
    """The first of the keys where the rows do not say otherwise; open where they do, or were not counted."""
    if answer.unknown is not None:
        return undecided(graph, keys, f"can disagree, and whether they do is not known, because {answer.unknown}")
    if answer.apart:
        return undecided(graph, keys, f"disagree in {answer.apart} of {answer.rows} rows")
    first, *rest = keys
    columns = " and ".join(", ".join(key.columns) for key in rest)
    lead = "leads" if len(rest) == 1 else "lead"
    seen = "in every row" if answer.rows else "in every row (there is none yet)"
    proposal = through(graph, first)
    reason = f"{proposal.reason}, and {columns} {lead} to the same tenant {seen}"
    return replace(proposal, reason=f"{reason}; `outlast check` reports rows where it does not")


def _preferred(graph: Graph, keys: Iterable[ForeignKey]) -> list[ForeignKey]:
    """The keys in the order in which they are preferred: those that are part of what tells rows apart, and then by
    the order of columns."""

    def rank(key: ForeignKey) -> tuple[bool, list[int], TableName]:
        subject = graph.subjects[key.table]
        position = list(subject.columns).index
        telling = any(set(key.columns) <= set(unique) for unique in (subject.primary_key, *subject.uniques))
        return not telling, [position(column) for column in key.columns], key.references

    return sorted(keys, key=rank)


def _beyond(step: Step, parent: Ownership) -> Ownership | None:
    """The path that begins with a step and goes on as the parent's does; None where the parent's tenant is open."""
    if parent.kind is not OwnershipKind.OWNED:
        return None
    return Ownership(OwnershipKind.OWNED, (step, *parent.path), parent.tenant_column)


# What check compares ---------------------------------------------------------------------------------------------


def crossings(catalog: Catalog) -> tuple[Question, ...]:
    """For every owned table from which further sure paths lead to a tenant, whether its rows point across tenants."""
    owned = {table.name: table for table in catalog.owned}
    keys: dict[TableName, list[ForeignKey]] = {}
    for key in catalog.foreign_keys:
        keys.setdefault(key.table, []).append(key)
    questions = []
    for table in owned.values():
        others: list[Ownership] = []
        for key in sorted(keys.get(table.name, ()), key=lambda key: (key.columns, key.references)):
            other = _other(table, key, owned, keys)
            if other is not None and other not in others:
                others.append(other)
        if others:
            questions.append(
                Question(
                    table.name,
                    catalog.tenant_key_type,
                    table.ownership,
                    tuple(others),
                    table.key,
                    table.only,
                    table.size_bytes,
                )
            )
    return tuple(questions)


def _other(
    table: Table, key: ForeignKey, owned: Mapping[TableName, Table], keys: Mapping[TableName, Sequence[ForeignKey]]
) -> Ownership | None:
    """The path through a foreign key, if it is sure to its end and could lead elsewhere than the table's own."""
    parent = owned.get(key.references)
    if parent is None or parent is table or key.period or not is_sure(key):
        return None
    if not _is_sure_path(parent, keys):
        return None
    pairs = set(zip(key.columns, key.referenced_columns, strict=True))
    mine = table.ownership
    if mine.path:
        step = mine.path[0]
        same_row = step.to == key.references and set(zip(step.columns, step.to_columns, strict=True)) <= pairs
    else:  # the key itself carries the tenant to the parent's own column
        same_row = not parent.ownership.path and (mine.tenant_column, parent.ownership.tenant_column) in pairs
    if same_row:
        return None
    return _beyond(
        Step(key.columns, key.references, key.referenced_columns, parent.only, key.operators), parent.ownership
    )


def _is_sure_path(table: Table, keys: Mapping[TableName, Sequence[ForeignKey]]) -> bool:
    here = table.name
    for step in table.ownership.path:
        if not any(
            is_sure(key) and (key.columns, key.references) == (step.columns, step.to) for key in keys.get(here, ())
        ):
            return False
        here = step.to
    return True
