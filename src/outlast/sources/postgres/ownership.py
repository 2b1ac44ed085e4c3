"""How a row finds its tenant: proposed from the foreign-key graph, or as outlast.toml says. Pure; no server is asked.

`derive` proposes a classification for every table, `resolve` turns classifications into ownership paths. A proposal
is never a guess about data: what the schema alone does not decide stays undecided, named, and stops a backup.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from outlast.core.errors import UsageError
from outlast.core.table import Ownership, OwnershipKind, Step, TableName
from outlast.sources.postgres.bookkeeping import known
from outlast.sources.postgres.classification import Classification
from outlast.sources.postgres.graph import Graph, Subject
from outlast.sources.postgres.paths import Cost, along, cheapest, cost_of, costs_of_paths, is_sure, through
from outlast.sources.postgres.schema import Catalog, ForeignKey

Classified = dict[TableName, Classification]


def derive(graph: Graph) -> Classified:
    """A proposal for every table, with its reason."""
    proposals: Classified = {}
    columns = _tenant_columns(graph)
    costs = costs_of_paths(graph, {graph.tenant_table, *columns})
    for name, subject in graph.subjects.items():
        if name == graph.tenant_table:
            reason = "the tenant table"
            proposals[name] = Classification(OwnershipKind.OWNED, (graph.tenant_key,), reason=reason)
        elif subject.extension and not subject.extension_config:
            reason = f"belongs to the extension {subject.extension}, which makes it again"
            proposals[name] = Classification(OwnershipKind.IGNORED, reason=reason)
        elif name in columns:
            proposals[name] = _by_column(graph, subject, columns[name], costs)
        elif name in costs:
            proposals[name] = _by_path(graph, cheapest(graph, name, costs))
    return _without_path(graph, proposals)


@dataclass(frozen=True, slots=True)
class Tie:
    """A table that nothing but a tie between sure paths leaves undecided: the keys that they begin with."""

    table: TableName
    steps: int
    keys: tuple[ForeignKey, ...]


def tied(graph: Graph) -> tuple[Tie, ...]:
    """Every such table, nearest to the tenant first: what a tie's paths lead through stands before it."""
    columns = _tenant_columns(graph)
    costs = costs_of_paths(graph, {graph.tenant_table, *columns})
    found = []
    for name, (breakable_steps, steps) in costs.items():
        subject = graph.subjects[name]
        if steps and not breakable_steps and (subject.extension is None or subject.extension_config):
            keys = cheapest(graph, name, costs)
            if len(keys) > 1 and all(is_sure(key) for key in keys):
                found.append(Tie(name, steps, tuple(keys)))
    return tuple(sorted(found, key=lambda tie: (tie.steps, tie.table)))


def propose(catalog: Catalog) -> dict[str, str]:
    """What `init` writes for every table: table name to classification. The reasons are in each table's ownership."""
    return {str(table.name): wording(table.name, table.ownership, catalog.foreign_keys) for table in catalog.tables}


def wording(table: TableName, ownership: Ownership, foreign_keys: Iterable[ForeignKey]) -> str:
    """The entry of outlast.toml that leads to this ownership."""
    if ownership.path:
        step = ownership.path[0]
        parents = {
            key.references
            for key in foreign_keys
            if key.table == table and set(key.columns) == set(step.columns) and key.references != table
        }
        to = None if parents == {step.to} else step.to
        return str(Classification(OwnershipKind.OWNED, step.columns, through=True, to=to))
    if ownership.kind is OwnershipKind.OWNED and ownership.tenant_column is not None:
        return str(Classification(OwnershipKind.OWNED, (ownership.tenant_column,)))
    return ownership.kind.value


# The tenant's column on the table itself -------------------------------------------------------------------------


def _tenant_columns(graph: Graph) -> dict[TableName, tuple[str, ...]]:
    """For each table but the tenant table, the columns that hold the tenant's key: several where no name decides."""
    pointing = _pointing_columns(graph)
    conventional = _conventional_names(graph, pointing)
    found: dict[TableName, tuple[str, ...]] = {}
    for name, subject in graph.subjects.items():
        if name == graph.tenant_table:
            continue
        pointers = pointing.get(name, ())
        named = [
            column.name
            for column in subject.columns.values()
            if column.name in conventional
            and (name, column.name) not in graph.bound
            and same_family(column.type, graph.tenant_key_type)
        ]
        candidates = tuple(dict.fromkeys([*pointers, *named]))
        by_name = tuple(column for column in candidates if column in conventional)
        certain = tuple(column for column in candidates if subject.columns[column].not_null)
        for choice in (by_name, candidates, certain):
            if len(choice) == 1:
                found[name] = choice
                break
        else:
            if candidates:
                found[name] = candidates
    return found


def _pointing_columns(graph: Graph) -> dict[TableName, tuple[str, ...]]:
    """Columns that a foreign key ties to the tenant's key, directly or as part of a composite key to such a table."""
    tied: dict[TableName, set[str]] = {graph.tenant_table: {graph.tenant_key}}
    changed = True
    while changed:
        changed = False
        for name in graph.subjects:
            for key in graph.keys_of(name):
                for ours, theirs in zip(key.columns, key.referenced_columns, strict=True):
                    if theirs in tied.get(key.references, ()) and _carries(graph, key, theirs):
                        known_already = ours in tied.setdefault(name, set())
                        tied[name].add(ours)
                        changed |= not known_already
    order = {name: list(subject.columns) for name, subject in graph.subjects.items()}
    return {
        name: tuple(sorted(columns, key=order[name].index))
        for name, columns in tied.items()
        if name != graph.tenant_table and columns
    }


def _carries(graph: Graph, key: ForeignKey, theirs: str) -> bool:
    """A key to the tenant table ties by the tenant's key; one to another table only where it is composite: a single
    column that points at a parent's tenant column would be that parent's key, a step of a path."""
    if key.references == graph.tenant_table:
        return theirs == graph.tenant_key
    return len(key.columns) > 1


def _conventional_names(graph: Graph, pointing: Mapping[TableName, Sequence[str]]) -> set[str]:
    """What the tenant's column is called here: as most foreign keys call it, and as the tenant table suggests."""
    table, key = graph.tenant_table.name, graph.tenant_key
    names = {f"{_singular(table)}_{key}", f"{table}_{key}"}
    if key.lower() not in _GENERIC_KEYS:
        names.add(key)
    counts = Counter(column for columns in pointing.values() for column in columns)
    if counts:
        most = max(counts.values())
        names |= {
            column for column, count in counts.items() if count == most and list(counts.values()).count(most) == 1
        }
    return names


_GENERIC_KEYS = frozenset({"id", "uuid", "guid", "pk", "key", "code", "name", "slug", "number", "uid", "handle"})


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying", "character", "name"})


def same_family(one: str, other: str) -> bool:
    """Whether values of the two types are the same text where they are equal."""
    first, second = one.partition("(")[0], other.partition("(")[0]
    return first == second or {first, second} <= _INTEGERS or {first, second} <= _TEXTS


def _by_column(
    graph: Graph, subject: Subject, columns: tuple[str, ...], costs: Mapping[TableName, Cost]
) -> Classification:
    written = [f'"owned by {column}"' for column in columns]
    if len(columns) > 1:
        reason = f"several columns hold a tenant's key: {', '.join(columns)}; write {' or '.join(written)}"
        return Classification(OwnershipKind.UNDECIDED, reason=reason)
    column = columns[0]
    rivals = [key for key in graph.keys_of(subject.name) if column not in key.columns and cost_of(key, costs)[0] == 0]
    if (
        not subject.columns[column].not_null
        and column not in _conventional_names(graph, _pointing_columns(graph))
        and rivals
    ):
        written += [f'"owned through {", ".join(key.columns)}"' for key in rivals]
        reason = f"{column} holds a tenant's key but may be NULL, and other paths exist; write {' or '.join(written)}"
        return Classification(OwnershipKind.UNDECIDED, reason=reason)
    null = "" if subject.columns[column].not_null else "; it may be NULL"
    return Classification(OwnershipKind.OWNED, (column,), reason=f"{column} holds the tenant's key{null}")


def _by_path(graph: Graph, best: Sequence[ForeignKey]) -> Classification:
    return through(graph, best[0]) if len(best) == 1 else undecided(graph, best, "can disagree")


def undecided(graph: Graph, keys: Sequence[ForeignKey], found: str) -> Classification:
    """What is said where several paths are of equal right; `found` is what is known of them."""
    paths = ", ".join(f"{', '.join(key.columns)} to {key.references}" for key in keys)
    written = " or ".join(f'"{through(graph, key)}"' for key in keys)
    reason = f'its paths to a tenant {found} ({paths}); write {written}, "shared" or "ignored"'
    return Classification(OwnershipKind.UNDECIDED, reason=reason)


# From classifications to ownership -------------------------------------------------------------------------------


def resolve(graph: Graph, classified: Mapping[TableName, Classification]) -> dict[TableName, Ownership]:
    """The ownership of every table. A table that is not classified, or whose path does not end at a tenant, is
    UNDECIDED, and its reason says what to write. Raises UsageError where an entry names what does not exist."""
    return _Resolution(graph, classified).all()


class _Resolution:
    """Follows each table's classification to its end, once."""

    def __init__(self, graph: Graph, classified: Mapping[TableName, Classification]) -> None:
        self._graph = graph
        self._classified = classified
        self._done: dict[TableName, Ownership] = {}
        self._proposals: Classified | None = None

    def all(self) -> dict[TableName, Ownership]:
        return {name: self._of(name, ()) for name in self._graph.subjects}

    def _of(self, name: TableName, below: tuple[TableName, ...]) -> Ownership:
        if name not in self._done:
            if name in below:
                circle = " to ".join(str(table) for table in (*below[below.index(name) :], name))
                return Ownership(OwnershipKind.UNDECIDED, reason=f"its path is a circle: {circle}")
            self._done[name] = self._decide(name, below)
        return self._done[name]

    def _decide(self, name: TableName, below: tuple[TableName, ...]) -> Ownership:
        graph, subject = self._graph, self._graph.subjects[name]
        entry = self._classified.get(name)
        if entry is None:
            return self._unlisted(subject)
        if name == graph.tenant_table and (entry.through or entry.columns != (graph.tenant_key,)):
            raise UsageError(
                f"outlast.toml: the tenant table {name} must be owned by its own key",
                hint=f'Write {name} = "owned by {graph.tenant_key}".',
            )
        if entry.kind is not OwnershipKind.OWNED:
            return Ownership(entry.kind, reason=entry.reason)
        if entry.through:
            return self._through(subject, entry, below)
        column = _owner_column(graph, subject, entry.columns[0])
        if graph.exact or name == graph.tenant_table:
            return Ownership(OwnershipKind.OWNED, (), column, entry.reason)
        parent = graph.subjects[graph.tenant_table]
        keys = [key for key in graph.keys_of(name) if (key.columns, key.references) == ((column,), parent.name)]
        step = along(graph, keys[0]) if keys else Step((column,), parent.name, (graph.tenant_key,), parent.only)
        return Ownership(OwnershipKind.OWNED, (step,), graph.tenant_key, entry.reason)

    def _unlisted(self, subject: Subject) -> Ownership:
        if subject.extension and not subject.extension_config:
            return Ownership(OwnershipKind.IGNORED, reason=f"belongs to the extension {subject.extension}")
        if self._proposals is None:
            self._proposals = derive(self._graph)
        proposal = self._proposals[subject.name]
        if proposal.kind is OwnershipKind.UNDECIDED:
            return Ownership(OwnershipKind.UNDECIDED, reason=f"not in outlast.toml; {proposal.reason}")
        return Ownership(
            OwnershipKind.UNDECIDED,
            reason=f'not in outlast.toml; write "{proposal}" ({proposal.reason}), or what it really is',
        )

    def _through(self, subject: Subject, entry: Classification, below: tuple[TableName, ...]) -> Ownership:
        step = _step(self._graph, subject, entry)
        parent = self._of(step.to, (*below, subject.name))
        if parent.kind is OwnershipKind.OWNED:
            return Ownership(OwnershipKind.OWNED, (step, *parent.path), parent.tenant_column, entry.reason)
        state = "not decided yet" if parent.kind is OwnershipKind.UNDECIDED else parent.kind.value
        reason = f"it is owned through {step.to}, which is {state}"
        if parent.reason.startswith("its path is a circle"):
            reason = parent.reason
        # The first step is kept, so that the proposal can be written down while the parent is still open.
        return Ownership(OwnershipKind.UNDECIDED, (step,), reason=reason)


def _owner_column(graph: Graph, subject: Subject, column: str) -> str:
    if column not in subject.columns:
        close = difflib.get_close_matches(column, subject.columns, 1)
        raise UsageError(
            f"outlast.toml: table {subject.name} has no column {column!r}",
            hint=f"Did you mean {close[0]!r}?" if close else f"Its columns are {', '.join(subject.columns)}.",
        )
    own_type = subject.columns[column].type
    if not same_family(own_type, graph.tenant_key_type):
        raise UsageError(
            f"outlast.toml: {subject.name}.{column} is {own_type}, and the tenant's key is {graph.tenant_key_type}",
            hint='Name the column that holds the tenant\'s key itself, or write "owned through COLUMN to TABLE".',
        )
    return column


def _step(graph: Graph, subject: Subject, entry: Classification) -> Step:
    """The first step that an entry names: a foreign key's, or one that is only declared, to a table's primary key."""
    for column in entry.columns:
        if column not in subject.columns:
            _owner_column(graph, subject, column)
    keys = [
        key
        for key in graph.keys_of(subject.name)
        if set(key.columns) == set(entry.columns) and entry.to in (None, key.references)
    ]
    targets = {key.references for key in keys}
    if len(targets) == 1:
        return along(graph, keys[0])
    columns = ", ".join(entry.columns)
    if len(targets) > 1:
        choices = " or ".join(f'"owned through {columns} to {target}"' for target in sorted(targets))
        raise UsageError(
            f"outlast.toml: table {subject.name} has several foreign keys on {columns}", hint=f"Write {choices}."
        )
    if entry.to is None:
        others = [", ".join(key.columns) for key in graph.keys_of(subject.name)]
        raise UsageError(
            f"outlast.toml: table {subject.name} has no foreign key on {columns}",
            hint=f"It has them on: {'; '.join(others)}." if others else f'Write "owned through {columns} to TABLE".',
        )
    parent = graph.subjects.get(entry.to)
    if parent is None or len(parent.primary_key) != len(entry.columns) or parent.name == subject.name:
        raise UsageError(
            f"outlast.toml: table {subject.name} cannot be owned through {columns} to {entry.to}",
            hint="The parent must be another table whose primary key has as many columns.",
        )
    return Step(entry.columns, parent.name, parent.primary_key, parent.only)


# Tables without a path -------------------------------------------------------------------------------------------


def _without_path(graph: Graph, proposals: Classified) -> Classified:
    rest = [name for name in graph.subjects if name not in proposals]
    result = dict(proposals)
    for name in rest:
        result[name] = _pathless(graph, graph.subjects[name])
    shared = {name for name, one in result.items() if one.kind is OwnershipKind.SHARED}
    for name in rest:
        keys = graph.keys_of(name)
        if result[name].kind is OwnershipKind.UNDECIDED and keys and {key.references for key in keys} <= shared:
            used = {column for key in keys for column in key.columns}
            plain = {column for column in graph.subjects[name].columns if column not in used}
            if plain <= _LINK_COLUMNS:
                result[name] = Classification(OwnershipKind.SHARED, reason="only links shared tables to each other")
    return {name: result[name] for name in graph.subjects}


_LINK_COLUMNS = frozenset({"id", "created_at", "updated_at", "inserted_at", "position"})


def _pathless(graph: Graph, subject: Subject) -> Classification:
    polymorphic = _polymorphic(graph, subject)
    if polymorphic:
        reason = (
            f"{polymorphic[0]} and {polymorphic[1]} point at different tables (a polymorphic reference) and no foreign "
            'key leads to a tenant; give it the tenant\'s column, or write "shared" or "ignored"'
        )
        return Classification(OwnershipKind.UNDECIDED, reason=reason)
    bookkeeping = known(subject.name.name)
    if bookkeeping is not None:
        return bookkeeping
    if subject.extension_config:
        return Classification(OwnershipKind.SHARED, reason=f"configuration of the extension {subject.extension}")
    if subject.name in graph.referenced:
        return Classification(OwnershipKind.SHARED, reason="only referenced: no path leads from it to a tenant")
    reason = (
        'no path leads from it to a tenant, and nothing references it; write "shared" (reference data, in the '
        'vault that every restore opens), "owned by COLUMN", "owned through COLUMN to TABLE" or "ignored"'
    )
    return Classification(OwnershipKind.UNDECIDED, reason=reason)


def _polymorphic(graph: Graph, subject: Subject) -> tuple[str, str] | None:
    for column in subject.columns:
        stem = column.removesuffix("_id")
        kind = f"{stem}_type"
        if column != stem and (subject.name, column) not in graph.bound and kind in subject.columns:
            return kind, column
    generic = {"object_id", "content_type_id"} <= subject.columns.keys()
    if generic and (subject.name, "object_id") not in graph.bound:
        return "content_type_id", "object_id"
    return None
