"""Conflicts that a policy settles: values replaced, rows left out, keys given anew, shared parents put back.

What is decided here stands in the plan, row by row, so that applying it does the same and nothing else.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from outlast.core.conflict import Conflict, ConflictKind, Policy, Resolution
from outlast.core.effect import SAMPLES_MAX, Count, Effect, Operation, merge
from outlast.core.plan import TenantPlan
from outlast.core.row import NULL, escape
from outlast.core.table import OwnershipKind, Table, TableName
from outlast.core.tenant import SHARED
from outlast.restore.difference import rows_of, shown_key
from outlast.restore.live import layout_of
from outlast.restore.scope import Scope
from outlast.sources.postgres.schema import UniqueIndex
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_conflicts import missing_parents
from outlast.sources.postgres.write_rights import require_insert
from outlast.sources.postgres.write_stage import Stage
from outlast.sources.postgres.write_taken import TakenRow, next_values, taken_rows

_TEXTS = ("text", "character varying", "citext", "public.citext")
_INTEGERS = ("smallint", "integer", "bigint")
_SUFFIX = "-restored"
_DEPTH_MAX = 10


def resolve(connection: Session, scope: Scope, stage: Stage, plan: TenantPlan) -> Sequence[Resolution]:
    """How the conflicts over what is staged now are settled, by the policies of the recipe. None: nothing is left."""
    if not scope.recipe.on_conflict:
        return ()
    tables = {table.name: table for table in (*scope.tables, *scope.shared_tables)}
    found: list[Resolution] = []
    for index in scope.catalog.unique_indexes:
        table = tables.get(index.table)
        if table is None or not table.key or table.name not in stage.counts:
            continue
        policy = scope.recipe.policy(index.constraint or index.name)
        if policy is not Policy.ABORT:
            found += _Settling(connection, scope, stage, table, index, policy, plan.resolutions).settle()
    return found


@dataclass(frozen=True, slots=True)
class _Settling:
    """One constraint's conflicts, settled by one policy."""

    connection: Session
    scope: Scope
    stage: Stage
    table: Table
    index: UniqueIndex
    policy: Policy
    before: Sequence[Resolution]

    @property
    def _constraint(self) -> str:
        return self.index.constraint or self.index.name

    def settle(self) -> Iterator[Resolution]:
        column = self._column()
        if column is None and self.policy is not Policy.SKIP:
            return  # it stays a conflict: no column of it can be changed in that way
        columns = () if column is None else (column,)
        rows = taken_rows(self.connection, self.table, self.index, self.stage, self.scope.facts, columns)
        fresh = iter(self._fresh(column, len(rows)))
        for row in rows:
            values = {} if column is None else {column: self._value(row, column, fresh)}
            yield Resolution(
                str(self.table.name),
                self._stored_key(row),
                self._constraint,
                self.policy,
                {name: text.decode("utf-8", "surrogateescape") for name, text in values.items()},
            )

    def _column(self) -> str | None:
        """The column that the policy changes."""
        named = self.index.columns or tuple(
            column.name
            for column in self.table.columns
            if any(re.search(rf"(?<![\w\"]){re.escape(column.name)}(?!\w)", text) for text in self.index.expressions)
        )
        columns = [column for column in self.table.columns if column.name in named]
        if self.policy is Policy.NULL:
            return next((one.name for one in columns if not one.not_null and one.name not in self.table.key), None)
        if self.policy is Policy.SUFFIX:
            return next((one.name for one in reversed(columns) if one.type.partition("(")[0] in _TEXTS), None)
        if self.policy is Policy.REMAP and set(self.table.key) <= set(named):
            return next((one.name for one in columns if one.type == "uuid" or self._sequence(one.name)), None)
        return None

    def _sequence(self, column: str) -> bool:
        return any(use.table == self.table.name and use.column == column for use in self.scope.catalog.sequences)

    def _fresh(self, column: str | None, count: int) -> Sequence[str]:
        """New keys. Of a sequence they are not drawn yet: writing them will raise it past them."""
        if self.policy is not Policy.REMAP or not count:
            return ()
        uses = [one for one in self.scope.catalog.sequences if (one.table, one.column) == (self.table.name, column)]
        if not uses:
            return [str(uuid.uuid4()) for _ in range(count)]
        given = sum(one.table == str(self.table.name) and one.policy is Policy.REMAP for one in self.before)
        return [str(value) for value in next_values(self.connection, uses[0], count, given)]

    def _value(self, row: TakenRow, column: str, fresh: Iterator[str]) -> bytes:
        if self.policy is Policy.NULL:
            return NULL
        if self.policy is Policy.REMAP:
            return next(fresh).encode()
        (text,) = row.values
        base, _, _ = (text or "").partition(_SUFFIX)
        stored = self._stored_key(row)
        round_ = 1 + sum(one.key == stored and one.constraint == self._constraint for one in self.before)
        ending = _SUFFIX + (f"-{round_}" if round_ > 1 else "")
        kind = next(one.type for one in self.table.columns if one.name == column)
        limit = re.search(r"\((\d+)\)", kind)
        kept = base if limit is None else base[: max(0, int(limit[1]) - len(ending))]
        return escape((kept + ending).encode("utf-8", "surrogateescape"))

    def _stored_key(self, row: TakenRow) -> str:
        """The row's key as it is stored, also where it was given another one already."""
        fields = [escape(part.encode("utf-8", "surrogateescape")) for part in row.key]
        key = b"\t".join(fields).decode("utf-8", "surrogateescape")
        for one in self.before:
            if one.table == str(self.table.name) and _new_key(self.table, one) == key:
                return one.key
        return key


def _new_key(table: Table, one: Resolution) -> str:
    old = dict(zip(table.key, one.key.split("\t"), strict=True))
    return "\t".join(one.values.get(name, old[name]) for name in table.key)


def left_out(
    connection: Session, scope: Scope, stage: Stage, plan: TenantPlan, conflicts: Iterable[Conflict]
) -> Iterator[Conflict]:
    """The conflicts, those over parents that a policy left out told as such: `skip` takes nothing else along."""
    tables = {table.name: table for table in scope.catalog.tables}
    keys = {(str(key.table), key.name): key for key in scope.catalog.foreign_keys}
    for one in conflicts:
        key = keys.get((one.table, one.constraint or "")) if one.kind is ConflictKind.PARENT_GONE else None
        skipped = [] if key is None else _skipped(plan, tables[key.references])
        if key is None or not skipped:
            yield one
            continue
        parent = tables[key.references]
        by_key = set(key.referenced_columns) <= set(parent.key)
        values = (
            {tuple(fields[name] for name in key.referenced_columns): by for fields, by in skipped} if by_key else {}
        )
        missing = [
            tuple("" if text is None else _as_field(text) for text in row)
            for row in missing_parents(connection, tables, key, stage, scope.facts)
        ]
        rows = [row for row in missing if row in values]
        if by_key and not rows:
            yield one
            continue
        names = sorted({values[row] for row in rows} if by_key else {by for _, by in skipped})
        policies = " and ".join(f"--on-conflict {name}=skip" for name in names)
        what = f"{len(rows):,} of these {parent.name} rows" if by_key else f"perhaps these {parent.name} rows"
        yield replace(
            one,
            message=f"{one.message}; {what} {'was' if len(rows) == 1 else 'were'} left out by {policies}",
            hint="A row cannot be left out while others point at it: choose another policy than skip (suffix, null,"
            f" remap), or restore without {one.table} (--table names those to restore).",
        )


def _skipped(plan: TenantPlan, table: Table) -> list[tuple[dict[str, str], str]]:
    """The keys of the rows of a table that were left out, and the constraint it was for."""
    return [
        (dict(zip(table.key, one.key.split("\t"), strict=True)), one.constraint)
        for one in plan.resolutions
        if one.policy is Policy.SKIP and one.table == str(table.name)
    ]


def with_shared(connection: Session, scope: Scope, stage: Stage, plan: TenantPlan) -> TenantPlan:
    """Stage the shared rows that staged rows point at and that are gone, as the vault has them, and theirs in turn."""
    if not scope.recipe.with_shared or scope.shared is None:
        return plan
    tables = {table.name: table for table in scope.catalog.tables}
    shared = {table.name for table in tables.values() if table.ownership.kind is OwnershipKind.SHARED}
    effects, changes = [plan.effect], dict(plan.changes)
    for _ in range(_DEPTH_MAX):
        wanted: dict[TableName, set[tuple[tuple[str, ...], tuple[str | None, ...]]]] = {}
        for key in scope.catalog.foreign_keys:
            if key.references in shared and key.table in stage.counts and key.enforced:
                for values in missing_parents(connection, tables, key, stage, scope.facts):
                    wanted.setdefault(key.references, set()).add((key.referenced_columns, values))
        for name in wanted:
            require_insert(connection, tables[name])
        staged = [_stage_shared(scope, stage, tables[name], wanted[name]) for name in sorted(wanted)]
        if not any(count for _, count, _ in staged):
            break
        for name, count, digest in staged:
            if count:
                effects.append(Effect({(SHARED, str(name), Operation.INSERT): count}))
                changes[f"{SHARED} {name}"] = changes.get(f"{SHARED} {name}", "") + digest
    return replace(plan, effect=merge(effects), changes=dict(sorted(changes.items())))


def _stage_shared(
    scope: Scope, stage: Stage, table: Table, wanted: set[tuple[tuple[str, ...], tuple[str | None, ...]]]
) -> tuple[TableName, Count | None, str]:
    assert scope.shared is not None
    past = scope.shared()
    stored = past.tables.get(table.name)
    if stored is None or stored.layout != layout_of(table):
        return table.name, None, ""  # what points at them stays in conflict
    positions = {columns: [table.column_names.index(one) for one in columns] for columns, _ in wanted}
    fields = {
        (columns, tuple(None if one is None else escape(one.encode()) for one in values)) for columns, values in wanted
    }
    found = []
    for row in rows_of(past.read(stored)):
        parts = row.split(b"\t")
        if any((columns, tuple(parts[one] for one in places)) in fields for columns, places in positions.items()):
            found.append(row)
    if not found:
        return table.name, None, ""
    lines = b"".join([b"i\t" + row + b"\n" for row in found])
    stage.fill(table, [lines], Counter({"i": len(found)}), set())
    samples = tuple(shown_key(layout_of(table).key_of(row)) for row in found[:SAMPLES_MAX]) if table.key else ()
    return table.name, Count(len(found), samples=samples), hashlib.sha256(lines).hexdigest()


def _as_field(text: str) -> str:
    """A value as it stands in a resolution's key."""
    return escape(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
