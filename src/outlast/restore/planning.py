"""What one tenant needs: what is wanted held against the live rows, and every row that changes staged.

Nothing live is written here. The outcome is a TenantPlan (counts, roots, conflicts) and, in the session's staging
tables, exactly the rows that are inserted, changed and deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from outlast.core.conflict import Conflict, ConflictKind, Resolution
from outlast.core.effect import Effect, Operation, merge
from outlast.core.plan import TenantPlan, TenantState
from outlast.core.recipe import Mode
from outlast.core.row import NULL, escape
from outlast.core.table import Table, TableName
from outlast.core.tenant import Tenant
from outlast.restore.changes import Image, TableChanges, Wanted
from outlast.restore.choosing import Chosen, choose, keys_of
from outlast.restore.difference import rows_of, shown_key
from outlast.restore.history import Past, PastTable
from outlast.restore.live import Live, LiveRun, layout_of
from outlast.restore.projection import Projection, project
from outlast.restore.reversal import Reversal, ReversalWish, ReversedTable
from outlast.restore.rewriting import Rewriter, Rewrites
from outlast.restore.scope import Scope as Scope
from outlast.restore.staging import Staging
from outlast.restore.wishes import StoredWish
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import evaluate_default
from outlast.sources.postgres.write_order import write_order
from outlast.sources.postgres.write_stage import ValueRefusedError
from outlast.vault.chunk import tenant_root


class Images(Protocol):
    """Takes a tenant's before-image, table by table."""

    def table(self, table: Table) -> Image: ...


@dataclass(slots=True)
class _Outcome:
    """One table's part of a plan."""

    base: str
    target: str
    effect: Effect = field(default_factory=Effect)
    digest: str = ""
    operations: frozenset[str] = frozenset()
    conflicts: list[Conflict] = field(default_factory=list)


def plan_tenant(
    reader: Session,
    live: Live,
    stage: Staging,
    scope: Scope,
    past: Past | Reversal,
    images: Images | None = None,
    settled: Sequence[Resolution] = (),
) -> TenantPlan:
    """Compute what changes and stage it. `reader` is in a REPEATABLE READ transaction, which `live` reads in too.

    `settled` are conflicts that a policy has settled already. Conflicts that the live rows of others raise are not
    looked for here: see write_conflicts.find_conflicts.
    """
    wanted = scope.wanted(past)
    tables = scope.tables_of([past.tenant.key])
    live_names = {table.name for table in tables}
    conflicts = [
        _changed(past.tenant, name, f"table {name} is gone, or no tenant owns it any more; {_belong(table)}")
        for name, table in sorted(wanted.items())
        if name not in live_names
    ]
    outcomes: dict[TableName, _Outcome] = {}
    planner = _Planner(reader, live, stage, scope, past, images, Rewrites(settled, scope.catalog.foreign_keys))
    for table in _in_order(scope, tables, settled):
        outcome = planner.plan(table)
        outcomes[table.name] = outcome
        conflicts += outcome.conflicts
    base = {str(name): one.base for name, one in outcomes.items() if one.base}
    target = {str(name): one.target for name, one in outcomes.items() if one.target}
    effect = merge(one.effect for one in outcomes.values())
    conflicts += _newer(scope, past.tenant, effect)
    root = root_over(target)
    return TenantPlan(
        past.tenant,
        TenantState.REFUSED if conflicts else TenantState.PLANNED if effect else TenantState.RIGHT,
        effect,
        dict(sorted(base.items())),
        dict(sorted(target.items())),
        root,
        scope.whole and isinstance(past, Past) and root == past.root,
        tuple(sorted(conflicts, key=lambda one: (one.table, one.kind))),
        (*past.notes, *notes_on(scope, {name: one.operations for name, one in outcomes.items() if one.operations})),
        changes={str(name): one.digest for name, one in sorted(outcomes.items()) if one.digest},
        snapshot=live.snapshot(),
        resolutions=tuple(settled),
    )


def root_over(roots: dict[str, str]) -> str:
    """A tenant's root in hexadecimal, from its tables' roots."""
    return tenant_root((name, bytes.fromhex(root)) for name, root in roots.items()).hex()


def notes_on(scope: Scope, operations: Mapping[TableName, Iterable[str]]) -> tuple[str, ...]:
    """What a person should know about how these tables will be written."""
    notes = []
    for name, done in sorted(operations.items()):
        quiet = name not in scope.facts.loud
        written = scope.facts.firing(name, set(done) - {"d"}, quiet=quiet)
        deleted = scope.facts.firing(name, {"d"} & set(done), quiet=False)
        triggers = list(dict.fromkeys((*written, *deleted)))
        if triggers:
            why = "deletes always fire them" if not written else "they are ENABLE ALWAYS or REPLICA"
            why = scope.facts.loud.get(name, why)
            notes.append(f"triggers of {name} will fire ({why}): {', '.join(triggers)}")
    return tuple(notes)


def _in_order(scope: Scope, tables: Sequence[Table], settled: Sequence[Resolution]) -> Iterator[Table]:
    """By name; where keys are given anew, parents before what points at them."""
    if not settled:
        yield from tables
        return
    by_name = {table.name: table for table in tables}
    for group in write_order(by_name.keys(), scope.catalog.foreign_keys):
        yield from (by_name[name] for name in group)


def _newer(scope: Scope, tenant: Tenant, effect: Effect) -> Iterator[Conflict]:
    """Rows that came since the moment are deleted only where that was asked for."""
    if scope.mode is not Mode.REWIND or scope.recipe.delete_newer:
        return
    for (_, table, operation), count in sorted(effect.counts.items()):
        if operation is Operation.HARD_DELETE:
            rows = f"{count.rows:,} rows of {table} that came" if count.rows > 1 else f"1 row of {table} that came"
            yield Conflict(
                tenant.key,
                table,
                ConflictKind.NEWER_ROWS,
                f"{rows} since would be deleted",
                rows=count.rows,
                keys=count.samples,
                hint="Look at them, and add --delete-newer; or use --mode missing, which deletes nothing.",
            )


def _belong(table: PastTable | ReversedTable) -> str:
    return f"{table.rows:,} stored rows belong there" if isinstance(table, PastTable) else "changed rows belong there"


def _changed(tenant: Tenant, table: TableName, message: str) -> Conflict:
    return Conflict(
        tenant.key,
        str(table),
        ConflictKind.TABLE_CHANGED,
        message,
        hint="Bring the table back to a shape that holds the stored rows, or restore --into a database that has it.",
    )


@dataclass(slots=True)
class _Planner:
    reader: Session
    live: Live
    stage: Staging
    scope: Scope
    past: Past | Reversal
    images: Images | None
    rewrites: Rewrites
    _chosen: Chosen | None = None

    def plan(self, table: Table) -> _Outcome:
        run = self.live.run(table)
        unchanged = _Outcome(run.root, run.root)
        if isinstance(self.past, Reversal):
            return self._reverse(self.past, table, run, unchanged)
        stored = self.scope.stored(self.past).get(table.name)
        if stored is None and (self.scope.mode is Mode.MISSING or not run.pieces):
            return unchanged
        if stored is not None and stored.layout == layout_of(table) and run.root == stored.root:
            return unchanged
        chosen = self._choose(self.past).of(table) if self.scope.recipe.where else None
        if self.scope.recipe.where and chosen is None:
            return unchanged
        projection = self._project(stored, table)
        if not isinstance(projection, Projection):
            unchanged.conflicts += projection
            return unchanged
        rewriter = self.rewrites.of(table)
        wish = self._wish(self.past, stored, run, projection, chosen, rewriter)
        return self._stage(run, wish, retyped=projection.retyped)

    def _wish(
        self,
        past: Past,
        stored: PastTable | None,
        run: LiveRun,
        projection: Projection,
        chosen: Callable[[bytes], bool] | None,
        rewriter: Rewriter | None,
    ) -> StoredWish:
        keep = self.scope.keep(run.table)
        return StoredWish(past, stored, run, projection, self.scope.mode, self._live_rows(run), keep, chosen, rewriter)

    def _reverse(self, reversal: Reversal, table: Table, run: LiveRun, unchanged: _Outcome) -> _Outcome:
        changed = self.scope.reversed(reversal).get(table.name)
        if changed is None:
            return unchanged
        if changed.layout != layout_of(table) or changed.types != tuple(column.type for column in table.columns):
            message = f"{table.name} has other columns or another key now than when {reversal.what} was carried out"
            unchanged.conflicts.append(_changed(self.past.tenant, table.name, message))
            return unchanged
        wish = ReversalWish(changed, run, self._live_rows(run), self.scope.recipe.prefer)
        outcome = self._stage(run, wish)
        if wish.overtaken:
            keys = tuple(shown_key(key) for key in wish.overtaken[:5]) if table.key else ()
            rows = "1 row" if len(wish.overtaken) == 1 else f"{len(wish.overtaken):,} rows"
            outcome.conflicts.append(
                Conflict(
                    self.past.tenant.key,
                    str(table.name),
                    ConflictKind.CHANGED_SINCE,
                    f"{rows} of {table.name} that {reversal.what} changed were changed again since",
                    rows=len(wish.overtaken),
                    keys=keys,
                    hint="--prefer live leaves them as they are now, --prefer vault makes them as they were.",
                )
            )
        return outcome

    def _live_rows(self, run: LiveRun) -> Callable[[], Iterator[bytes]]:
        def rows() -> Iterator[bytes]:
            if run.kept is not None:
                return iter(run.kept)
            return (chunk.data for chunk in self.live.chunks(run.table))

        return rows

    def _project(self, stored: PastTable | None, table: Table) -> Projection | list[Conflict]:
        if stored is None:
            return Projection(tuple(range(len(table.columns))), identity=True)
        projection = project(stored, table, lambda name: self._constant(table, name))
        if isinstance(projection, Projection):
            return projection
        return [
            _changed(self.past.tenant, table.name, f"rows of {table.name} have no place: {one.message}")
            for one in projection
        ]

    def _choose(self, past: Past) -> Chosen:
        """The rows that --where means, and what hangs on them."""
        if self._chosen is None:
            (name,) = self.scope.recipe.tables
            start = {TableName.parse(name): keys_of(self.scope.recipe.where)}
            owned = [table for table in self.scope.catalog.owned if table.key]
            self._chosen = choose(start, owned, self.scope.catalog.foreign_keys, lambda table: self._rows(past, table))
        return self._chosen

    def _rows(self, past: Past, table: Table) -> Iterator[bytes]:
        stored = past.tables.get(table.name)
        projection = None if stored is None else self._project(stored, table)
        live = rows_of(self._live_rows(self.live.run(table))())
        if stored is None or not isinstance(projection, Projection):
            return live
        return chain(rows_of(projection.apply(past.read(stored))), live)

    def _stage(self, run: LiveRun, wish: Wanted, retyped: Sequence[str] = ()) -> _Outcome:
        table = run.table
        changes = TableChanges(run, wish, None if self.images is None else self.images.table(table))
        sent = hashlib.sha256()
        before = self.stage.rows.get(table.name, 0)

        def hashed(blocks: Iterable[bytes]) -> Iterator[bytes]:
            for block in blocks:
                sent.update(block)
                yield block

        try:
            with closing(changes.lines()) as lines:
                first = next(lines, None)
                if first is not None:
                    staged = chain((first,), lines)
                    self.stage.fill(table, hashed(staged) if retyped else staged, changes.counts, changes.touched)
        except ValueRefusedError as error:
            if self.stage.in_transaction:
                raise  # nothing more can be done in it
            return _Outcome(run.root, run.root, conflicts=[self._refused(error, changes)])
        outcome = _Outcome(
            run.root,
            changes.target_root,
            changes.effect(self.past.tenant.key),
            changes.digest,
            frozenset(operation for operation, rows in changes.counts.items() if rows),
        )
        if first is not None and retyped and (before or self._read_back(table) != sent.digest()):
            columns = ", ".join(retyped)
            message = f"rows of {table.name} have no place: {columns} has another type now, and gives other values back"
            outcome.conflicts.append(_changed(self.past.tenant, table.name, message))
        return outcome

    def _read_back(self, table: Table) -> bytes:
        """A hash of what the server makes of the staged rows: a value that a new type cannot hold comes out changed."""
        found = hashlib.sha256()
        for row in self.stage.read(table):
            found.update(row)
        return found.digest()

    def _refused(self, error: ValueRefusedError, changes: TableChanges) -> Conflict:
        key = changes.key_at(error.line)
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
