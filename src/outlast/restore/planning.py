"""What one tenant needs put back: the stored state held against the live one, and the missing rows staged.

Nothing live is written here. The outcome is a TenantPlan (counts, roots, conflicts) and, in the session's staging
tables, exactly the rows that are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from outlast.core.effect import Effect, merge
from outlast.core.plan import Conflict, ConflictKind, TenantPlan, TenantState
from outlast.core.row import NULL, escape
from outlast.core.table import Table, TableName
from outlast.restore.history import Past, PastTable
from outlast.restore.live import Live, LiveRun, layout_of
from outlast.restore.missing import MissingRows
from outlast.restore.projection import Projection, project
from outlast.restore.staging import Staging
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write import ValueRefusedError
from outlast.sources.postgres.write_facts import WriteFacts, evaluate_default
from outlast.vault.chunk import tenant_root


@dataclass(frozen=True, slots=True)
class Scope:
    """What a restore looks at: the live catalog, what it says about writing, and the tables asked for."""

    catalog: Catalog
    facts: WriteFacts
    tables: tuple[Table, ...]
    chosen: frozenset[TableName] | None = None  # --table; None: all

    @property
    def whole(self) -> bool:
        return self.chosen is None

    def stored(self, past: Past) -> dict[TableName, PastTable]:
        """The tenant's stored tables that this restore is about."""
        return {name: table for name, table in past.tables.items() if self.chosen is None or name in self.chosen}


@dataclass(slots=True)
class _Outcome:
    """One table's part of a plan."""

    base: str
    target: str
    effect: Effect = field(default_factory=Effect)
    conflicts: list[Conflict] = field(default_factory=list)


def plan_tenant(reader: Session, live: Live, stage: Staging, scope: Scope, past: Past) -> TenantPlan:
    """Compute what is missing and stage it. `reader` is in a REPEATABLE READ transaction, which `live` reads in too;
    `stage` has its own session.

    Conflicts that the live rows of others raise are not looked for here: see write_conflicts.find_conflicts.
    """
    stored = scope.stored(past)
    live_names = {table.name for table in scope.tables}
    conflicts = [
        _changed(past, name, f"table {name} is gone, or no tenant owns it any more; {rows:,} stored rows belong there")
        for name, rows in sorted((name, table.rows) for name, table in stored.items())
        if name not in live_names
    ]
    base: dict[str, str] = {}
    target: dict[str, str] = {}
    effects: list[Effect] = []
    for table in scope.tables:
        outcome = _Table(reader, live, stage, scope, past).plan(stored.get(table.name), live.run(table))
        conflicts += outcome.conflicts
        effects.append(outcome.effect)
        base |= {str(table.name): outcome.base} if outcome.base else {}
        target |= {str(table.name): outcome.target} if outcome.target else {}
    effect = merge(effects)
    root = root_over(target)
    state = TenantState.REFUSED if conflicts else TenantState.PLANNED if effect else TenantState.RIGHT
    exact = scope.whole and root == past.root
    return TenantPlan(
        past.tenant, state, effect, base, target, root, exact, tuple(conflicts), notes_on(scope, stage.rows)
    )


def root_over(roots: dict[str, str]) -> str:
    """A tenant's root in hexadecimal, from its tables' roots."""
    return tenant_root((name, bytes.fromhex(root)) for name, root in roots.items()).hex()


def notes_on(scope: Scope, tables: Iterable[TableName]) -> tuple[str, ...]:
    """What a person should know about how these tables will be written."""
    notes = []
    for name in sorted(tables):
        triggers = scope.facts.triggers.get(name)
        if triggers:
            why = scope.facts.loud.get(name, "they are ENABLE ALWAYS or REPLICA")
            notes.append(f"triggers of {name} will fire ({why}): {', '.join(triggers)}")
    return tuple(notes)


def _changed(past: Past, table: TableName, message: str) -> Conflict:
    return Conflict(
        past.tenant.key,
        str(table),
        ConflictKind.TABLE_CHANGED,
        message,
        hint="Bring the table back to a shape that holds the stored rows, or restore --into a database that has it.",
    )


@dataclass(frozen=True, slots=True)
class _Table:
    reader: Session
    live: Live
    stage: Staging
    scope: Scope
    past: Past

    def plan(self, stored: PastTable | None, live: LiveRun) -> _Outcome:
        unchanged = _Outcome(live.root, live.root)
        if stored is None or not stored.pieces:
            return unchanged
        if stored.layout == layout_of(live.table) and live.root == stored.root:
            return unchanged
        projection = project(stored, live.table, lambda name: self._constant(live.table, name))
        if isinstance(projection, Projection):
            return self._stage(live, self._missing(stored, live, projection), projection)
        unchanged.conflicts += [
            _changed(self.past, live.table.name, f"rows of {live.table.name} have no place: {one.message}")
            for one in projection
        ]
        return unchanged

    def _missing(self, stored: PastTable, live: LiveRun, projection: Projection) -> MissingRows:
        def live_rows() -> Iterator[bytes]:
            if live.kept is not None:
                return iter(live.kept)
            return (chunk.data for chunk in self.live.chunks(live.table))

        return MissingRows(self.past, stored, live, projection, live_rows)

    def _stage(self, live: LiveRun, missing: MissingRows, projection: Projection) -> _Outcome:
        sent = hashlib.sha256()

        def hashed(blocks: Iterable[bytes]) -> Iterator[bytes]:
            for block in blocks:
                sent.update(block)
                yield block

        table = live.table
        try:
            with closing(missing.rows()) as rows:
                staged = self.stage.fill(table, hashed(rows) if projection.retyped else rows)
        except ValueRefusedError as error:
            return _Outcome(live.root, live.root, conflicts=[self._refused(error, missing)])
        outcome = _Outcome(live.root, missing.target_root, missing.effect(self.past.tenant.key, staged))
        if staged and projection.retyped and self._read_back(table) != sent.digest():
            columns = ", ".join(projection.retyped)
            message = f"rows of {table.name} have no place: {columns} has another type now, and gives other values back"
            outcome.conflicts.append(_changed(self.past, table.name, message))
        return outcome

    def _read_back(self, table: Table) -> bytes:
        """A hash of what the server makes of the staged rows: a value that a new type cannot hold comes out changed."""
        found = hashlib.sha256()
        for row in self.stage.read(table):
            found.update(row)
        return found.digest()

    def _refused(self, error: ValueRefusedError, missing: MissingRows) -> Conflict:
        key = missing.key_at(error.line)
        return Conflict(
            self.past.tenant.key,
            str(error.table),
            ConflictKind.VALUE_REFUSED,
            error.message,
            error.column,
            1,
            () if key is None else (key,),
            hint="Bring the column back to a type that takes the value, or restore --into another database.",
        )

    def _constant(self, table: Table, column: str) -> bytes | None:
        """The COPY field that rows stored before `column` was added have in it, or None where that cannot be known."""
        added = self.scope.facts.added.get((table.name, column))
        if next(one for one in table.columns if one.name == column).identity:
            return None
        if added is None:
            return NULL
        text = added.missing
        if text is None:
            if added.default is None or added.default.startswith("NULL"):
                return NULL
            text = evaluate_default(self.reader, added.default)
        return None if text is None else escape(text.encode("utf-8", "surrogateescape"))
