"""Stored rows as policies want them: values replaced, rows left out, new keys carried to all that points at them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from outlast.core.conflict import Policy, Resolution
from outlast.core.row import key_of
from outlast.core.table import Table, TableName
from outlast.sources.postgres.schema import ForeignKey

Values = tuple[bytes, ...]


@dataclass(slots=True)
class Rewrites:
    """All resolutions of one tenant. Tables are asked for parents first, so that new keys have been seen by then."""

    resolutions: Sequence[Resolution]
    foreign_keys: Sequence[ForeignKey]
    _moved: dict[tuple[TableName, tuple[str, ...]], dict[Values, Values]] = field(default_factory=dict)

    def of(self, table: Table) -> Rewriter | None:
        """How rows of a table are rewritten; None where they are not."""
        if not self.resolutions:
            return None
        settled: dict[bytes, Resolution] = {}
        for one in self._of(table):
            key = one.key.encode("utf-8", "surrogateescape")
            settled[key] = _both(settled[key], one) if key in settled else one
        names = table.column_names
        targets = [
            (tuple(names.index(column) for column in columns), self._moved.setdefault((table.name, columns), {}))
            for columns in sorted({key.referenced_columns for key in self.foreign_keys if key.references == table.name})
            if set(columns) <= set(names)
        ]
        # A table that points at itself needs its new keys before its rows are read: they stand in the resolutions
        for one in settled.values():
            self._note(table, one, targets)
        references = []
        for foreign in self.foreign_keys:
            known = self._moved.get((foreign.references, foreign.referenced_columns))
            if foreign.table == table.name and known:
                references.append((tuple(names.index(column) for column in foreign.columns), known))
        if not settled and not references:
            return None
        moving = {position for positions, _ in references for position in positions}
        moving |= {names.index(column) for one in settled.values() for column in one.values}
        return Rewriter(table, settled, references, targets, moves=bool(moving & set(table.key_positions)))

    def _of(self, table: Table) -> Iterator[Resolution]:
        return (one for one in self.resolutions if one.table == str(table.name))

    def _note(
        self, table: Table, one: Resolution, targets: Sequence[tuple[tuple[int, ...], dict[Values, Values]]]
    ) -> None:
        old = dict(zip(table.key, one.key.encode("utf-8", "surrogateescape").split(b"\t"), strict=True))
        new = old | {name: text.encode("utf-8", "surrogateescape") for name, text in one.values.items()}
        for positions, known in targets:
            columns = [table.column_names[position] for position in positions]
            if one.policy is Policy.REMAP and set(columns) <= set(old):
                known[tuple(old[name] for name in columns)] = tuple(new[name] for name in columns)


def _both(first: Resolution, then: Resolution) -> Resolution:
    """Two constraints' conflicts of one row."""
    policy = next((one for one in (Policy.SKIP, Policy.REMAP) if one in (first.policy, then.policy)), then.policy)
    return replace(first, policy=policy, values={**first.values, **then.values})


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Rewrites rows of one table. `moves` says that a row's key may change, and so its place among the others."""

    table: Table
    settled: dict[bytes, Resolution]
    references: Sequence[tuple[tuple[int, ...], dict[Values, Values]]]
    targets: Sequence[tuple[tuple[int, ...], dict[Values, Values]]]
    moves: bool

    def staying(self, rows: Iterable[bytes]) -> Iterator[bytes]:
        """The rows whose key stays as it is, rewritten."""
        key = key_of(self.table.key_positions)
        for row in rows:
            new = self._rewrite(row, key(row))
            if new is not None and (new is row or key(new) == key(row)):
                yield new

    def moved(self, rows: Iterable[bytes]) -> Iterator[bytes]:
        """The rows that get another key."""
        key = key_of(self.table.key_positions)
        for row in rows:
            new = self._rewrite(row, key(row))
            if new is not None and new is not row and key(new) != key(row):
                yield new

    def _rewrite(self, row: bytes, key: bytes) -> bytes | None:
        one = self.settled.get(key) if self.table.key else None
        if one is not None and one.policy is Policy.SKIP:
            return None
        values = row.split(b"\t")
        before = list(values)
        for positions, known in self.references:
            new = known.get(tuple([values[position] for position in positions]))
            if new is not None:
                for position, value in zip(positions, new, strict=True):
                    values[position] = value
        if one is not None:
            names = self.table.column_names
            for name, text in one.values.items():
                values[names.index(name)] = text.encode("utf-8", "surrogateescape")
        if values == before:
            return row
        for positions, known in self.targets:
            old = tuple([before[position] for position in positions])
            now = tuple([values[position] for position in positions])
            if old != now:
                known[old] = now
        return b"\t".join(values)
