"""The proof before commit: the transaction did what was rehearsed, to the rows that were rehearsed, and nothing else.

Three witnesses agree. The rows: each rehearsed key is gone, or changed in the same columns to the same values. The
server's row counters, as a difference from BEGIN: with those keys proven, equal sums leave no room for another row. And
where counters leave room (a row touched twice, a savepoint rolled back: they count what came to nothing, too), the
table's own row versions: all that this transaction wrote, and how many rows there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.row import fields
from outlast.core.tenant import TenantKey
from outlast.rehearsal.finding import number_text
from outlast.rehearsal.observed import Doubt, RowCounters, row_digest
from outlast.rehearsal.receipt import Field, KeyedRow, KeyedTable, moment_of
from outlast.rehearsal.taking import Difference, Taken, keys_text
from outlast.sources.postgres.keyed import count_rows, own_rows, rows_by_key
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session

_SLACK_US = 2_000_000
_DAY_US = 86_400_000_000
_DATE_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Clock:
    """How much later it is than when the script was rehearsed, and how exactly that is known."""

    shift_us: int
    tolerance_us: int = _SLACK_US

    def same(self, was: int, now: int, *, date: bool) -> bool:
        off = abs(now - was - self.shift_us)
        return off < _DAY_US if date else off <= self.tolerance_us


@dataclass(frozen=True, slots=True)
class Outcome:
    """One table after the script: what became of each taken row, and what was inserted, by tenant."""

    taken: Taken
    updated: Mapping[bytes, bytes] = field(default_factory=dict)
    inserted: tuple[tuple[TenantKey, bytes], ...] = ()

    @property
    def deleted(self) -> Iterator[tuple[TenantKey, bytes]]:
        for row in self.taken.keyed.rows:
            if row.before is not None and not row.after:
                yield row.tenant, self.taken.rows[row.key]


@dataclass(slots=True)
class Proof:
    """Holds a table's rows after the script against the receipt. `differences` is empty where all is as rehearsed."""

    connection: Session
    catalog: Catalog
    clock: Clock
    accepts: tuple[str, ...] = ()
    counted: Mapping[str, int] = field(default_factory=dict)  # rows before the script, of tables with slack
    differences: list[Difference] = field(default_factory=list)

    def table(self, taken: Taken, *, slack: bool) -> Outcome:
        """`slack`: the counters of this table leave room for rows that are not rehearsed."""
        keyed = taken.keyed
        expected = {row.key: row for row in keyed.rows}
        drawn = self._drawn(taken)
        known = [key for key, row in expected.items() if row.before is not None or not drawn]
        found: dict[bytes, bytes] = {}
        if known and keyed.key:
            rows = rows_by_key(self.connection, taken.table, keyed.columns, sorted(known), lock=False)
            found = {row.key: row.row for row in rows}
        updated = self._kept(taken, expected, found)
        new = {key: found[key] for key, row in expected.items() if row.before is None and key in found and not drawn}
        self._inserted(keyed, expected, new)
        missing = [row for row in keyed.rows if row.before is None and row.after and row.key not in new]
        inserted = [(expected[key].tenant, row) for key, row in new.items()]
        if missing or slack:
            inserted += self._own(taken, expected, new, missing)
        if slack:
            self._total(keyed, inserted)
        return Outcome(taken, updated, tuple(inserted))

    def _drawn(self, taken: Taken) -> bool:
        """Whether keys of new rows come from a sequence: then production draws other numbers."""
        fed = {use.column for use in self.catalog.sequences if use.table == taken.table.name}
        return not taken.keyed.key or bool(fed & set(taken.keyed.key))

    def _kept(
        self, taken: Taken, expected: Mapping[bytes, KeyedRow], found: Mapping[bytes, bytes]
    ) -> dict[bytes, bytes]:
        """Rows that were there: gone or changed as rehearsed. Returns those that are still there."""
        name = taken.keyed.table
        rows = [row for row in expected.values() if row.before is not None]
        still = [row.key for row in rows if not row.after and row.key in found]
        gone = [row.key for row in rows if row.after and row.key not in found]
        self._tell(name, still, "should be gone and are not")
        self._tell(name, gone, "should be there and are gone")
        wrong: dict[str, list[bytes]] = {}
        for row in rows:
            if row.after and row.key in found:
                for column in self._unlike(taken.keyed, row, taken.rows[row.key], found[row.key]):
                    wrong.setdefault(column, []).append(row.key)
        for column, keys in sorted(wrong.items()):
            self._tell(name, keys, f"did not become what was rehearsed in column {column}")
        return {row.key: found[row.key] for row in rows if row.after and row.key in found}

    def _unlike(self, keyed: KeyedTable, row: KeyedRow, before: bytes, after: bytes) -> Iterator[str]:
        changed = {one.column: one for one in row.fields}
        for place, (was, now) in enumerate(zip(fields(before), fields(after), strict=True)):
            one = changed.get(place)
            if was != now if one is None else not self._like(keyed, one, now):
                yield keyed.columns[place]

    def _like(self, keyed: KeyedTable, rehearsed: Field, now: bytes) -> bool:
        if row_digest(now) == rehearsed.digest:
            return True
        moment = moment_of(now)
        if moment is not None and rehearsed.moment_us is not None:
            return self.clock.same(rehearsed.moment_us, moment, date=len(now) == _DATE_LENGTH)
        column = f"{keyed.table}.{keyed.columns[rehearsed.column]}"
        return any(one in (Doubt.REPEAT.value, f"{Doubt.REPEAT.value}: {column}") for one in self.accepts)

    def _inserted(self, keyed: KeyedTable, expected: Mapping[bytes, KeyedRow], new: Mapping[bytes, bytes]) -> None:
        """New rows whose keys are the rehearsed ones have the rehearsed values, but for what a sequence gives."""
        fed = {use.column for use in self.catalog.sequences if str(use.table) == keyed.table}
        wrong: dict[str, list[bytes]] = {}
        for key, row in new.items():
            values = fields(row)
            for one in expected[key].fields:
                if keyed.columns[one.column] not in fed and not self._like(keyed, one, values[one.column]):
                    wrong.setdefault(keyed.columns[one.column], []).append(key)
        for column, keys in sorted(wrong.items()):
            self._tell(keyed.table, keys, f"were inserted with another value in column {column}")

    def _own(
        self,
        taken: Taken,
        expected: Mapping[bytes, KeyedRow],
        new: Mapping[bytes, bytes],
        missing: Sequence[KeyedRow],
    ) -> list[tuple[TenantKey, bytes]]:
        """All that this transaction wrote to the table: the rehearsed rows, and as many new ones of each tenant."""
        keyed = taken.keyed
        there = {key for key, row in expected.items() if row.before is not None and row.after} | set(new)
        written = list(own_rows(self.connection, taken.table, keyed.columns))
        others = [(tenant, key, row) for tenant, key, row in written if not keyed.key or key not in there]
        changed = [key for _, key, _ in others if key in taken.rows]
        self._tell(keyed.table, changed, "were written and should be gone")
        wanted = Counter(row.tenant for row in missing)
        came = Counter(tenant for tenant, _, _ in others)
        for tenant in sorted(wanted.keys() | came.keys()):
            if wanted[tenant] != came[tenant]:
                told = f"{number_text(came[tenant], 'row')} of tenant {tenant} written to {keyed.table} beyond"
                told += f" those rehearsed by key, and {wanted[tenant]:,} were rehearsed"
                self.differences.append(Difference(told, keyed.table, abs(wanted[tenant] - came[tenant])))
        return [(tenant, row) for tenant, _, row in others]

    def _total(self, keyed: KeyedTable, inserted: Sequence[object]) -> None:
        """As many rows fewer or more as were rehearsed: nothing else was deleted."""
        before = self.counted[keyed.table]
        gone = sum(row.before is not None and not row.after for row in keyed.rows)
        table = next(table for table in self.catalog.tables if str(table.name) == keyed.table)
        now = count_rows(self.connection, table.name, only=table.only)
        if now != before + len(inserted) - gone:
            off = before + len(inserted) - gone - now
            told = f"{number_text(abs(off), 'row')} of {keyed.table} {'gone' if off > 0 else 'there'} beyond those"
            self.differences.append(Difference(f"{told} rehearsed", keyed.table, abs(off)))

    def _tell(self, table: str, keys: Sequence[bytes], what: str) -> None:
        if keys:
            told = f"{number_text(len(keys), 'row')} of {table} {what} (key {keys_text(keys)})"
            self.differences.append(Difference(told, table, len(keys)))


def net_counters(keyed: KeyedTable) -> RowCounters:
    """What the server counts for these rows if each is touched once and nothing is rolled back."""
    inserted = sum(row.before is None and row.after for row in keyed.rows)
    updated = sum(row.before is not None and row.after for row in keyed.rows)
    return RowCounters(inserted, updated, sum(row.before is not None and not row.after for row in keyed.rows))


def counter_differences(
    expected: Mapping[str, RowCounters], counted: Mapping[str, RowCounters], free: frozenset[str] = frozenset()
) -> Iterator[Difference]:
    """Where the server counted something else. `free` are tables that are proven otherwise."""
    for table in sorted(expected.keys() | counted.keys()):
        wanted, done = expected.get(table, RowCounters()), counted.get(table, RowCounters())
        if wanted != done and table not in free:
            told = f"{table}: {_counters(done)}, and rehearsed were {_counters(wanted)}"
            yield Difference(told, table, abs(done.deleted - wanted.deleted) + abs(done.updated - wanted.updated))


def _counters(one: RowCounters) -> str:
    parts = [
        f"{number:,} {word}"
        for number, word in ((one.inserted, "inserted"), (one.updated, "updated"), (one.deleted, "deleted"))
        if number
    ]
    return ", ".join(parts) or "nothing written"
