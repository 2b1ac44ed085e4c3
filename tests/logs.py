"""A small follower without a server: a model of a database, whose transactions it writes into a vault's log.

Two tables: items, which have a tenant, and notes, which find theirs through an item. Every transaction keeps a copy of
what the database then held, so that any moment read out of the vault can be compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from outlast.capture.fold import FoldResult, fold
from outlast.core.change import OP_DELETE, OP_INSERT, OP_TRUNCATE, OP_UPDATE
from outlast.core.entries import Edges, EntryWriter, LoggedTable
from outlast.core.moment import Lsn, Moment
from outlast.core.row import KeyKind
from outlast.core.table import TableName
from outlast.core.tenant import Tenant, TenantKey
from outlast.state.local import LocalState
from outlast.vault.chunk import Chunker, table_root, tenant_root
from outlast.vault.keys import key_path
from outlast.vault.log import LogEnd, LogReader, SegmentDraft, SegmentWriter
from outlast.vault.segment import Gap, SchemaChange, SegmentDetails, TransactionSummary
from tests.tuples import SAME, Value, key_tuple, tuple_of
from tests.vaults import SOURCE, START, VaultWriter

ITEMS = TableName("public", "items")
NOTES = TableName("public", "notes")
COLUMNS = (("id", "bigint"), ("name", "text"))
EDGES = Edges(((NOTES, ("name",), ITEMS, ("id",)),))

Rows = dict[int, str]
State = dict[str, dict[TableName, Rows]]
"""By tenant and table: each row's name by its id. A note's name is its item's id."""


def logged(name: TableName, columns: tuple[tuple[str, str], ...] = COLUMNS) -> LoggedTable:
    return LoggedTable(name, columns, ("id",), (KeyKind.INTEGER,), "d", (0,))


@dataclass
class Committed:
    """A transaction that the log has, and the database after it."""

    xid: int
    commit: int
    end: int
    time: datetime
    state: State


@dataclass
class LogWorld:
    """Change the database by the verbs, `commit`, `flush` what was committed into a segment, `sweep` a run."""

    vault: VaultWriter
    tenants: tuple[str, ...] = ("1", "2", "3")
    state: State = field(default_factory=dict)
    committed: list[Committed] = field(default_factory=list)
    position: int = 1000
    epoch: int = 1
    base_run: int | None = None
    end: LogEnd = field(default_factory=LogEnd)
    columns: tuple[tuple[str, str], ...] = COLUMNS
    clock: datetime = START

    def __post_init__(self) -> None:
        self.state = self.state or {tenant: {ITEMS: {}, NOTES: {}} for tenant in self.tenants}
        self.recipients: dict[str, str] = {}
        self.writer = SegmentWriter(self.vault.store, self.vault.keys, SOURCE)
        self.tables = {name: logged(name) for name in (ITEMS, NOTES)}
        self._xid = 700
        self._at = self._written = self.position
        self._pending: list[tuple[TransactionSummary, list[tuple[str, Callable[[EntryWriter], None]]]]] = []
        self._changes: list[tuple[str, Callable[[EntryWriter], None]]] = []
        self._effect: dict[str, dict[str, dict[str, int]]] = {}
        self._moves = 0
        self._named: set[str] = set()
        self._gaps: list[Gap] = []
        self._schema: list[SchemaChange] = []

    # Changes

    def owner(self, table: TableName, key: int) -> str:
        return next(tenant for tenant in self.state if key in self.state[tenant][table])

    def insert(self, tenant: str, table: TableName, key: int, name: str) -> None:
        self.state[tenant][table][key] = name
        self._say(tenant, OP_INSERT, table, None, [key, name])

    def update(self, table: TableName, key: int, name: str, new_key: int | None = None) -> None:
        tenant = self.owner(table, key)
        before = self.state[tenant][table].pop(key)
        self.state[tenant][table][key if new_key is None else new_key] = name
        old = None if new_key is None else key_tuple([key, None])
        value: Value = SAME if name == before else name
        self._say(tenant, OP_UPDATE, table, old, [key if new_key is None else new_key, value])

    def delete(self, table: TableName, key: int) -> None:
        tenant = self.owner(table, key)
        del self.state[tenant][table][key]
        self._say(tenant, OP_DELETE, table, key_tuple([key, None]), None)

    def truncate(self, table: TableName) -> None:
        for tenant in self.state:
            if self.state[tenant][table]:
                self.state[tenant][table].clear()
                self._say(tenant, OP_TRUNCATE, table, None, None)

    def move(self, key: int, to: str, name: str | None = None) -> None:
        """An item goes to another tenant, and its notes with it, of which nothing is said."""
        giver = self.owner(ITEMS, key)
        before = self.state[giver][ITEMS].pop(key)
        self.state[to][ITEMS][key] = before if name is None else name
        for note, item in list(self.state[giver][NOTES].items()):
            if item == str(key):
                self.state[to][NOTES][note] = self.state[giver][NOTES].pop(note)
        number, table = self._moves, self.tables[ITEMS]
        self._moves += 1
        new = tuple_of([key, SAME if name is None else name])
        peers = self.vault.prefix(to), self.vault.prefix(giver)
        old = str(key).encode()
        self._changes.append((giver, lambda writer: writer.move_out(table, number, old, peers[0], EDGES)))
        self._changes.append((to, lambda writer: writer.move_in(table, number, old, new, peers[1], EDGES)))
        for tenant in (giver, to):
            self._count(tenant, table.name, "move")

    def gap(self, reason: str) -> None:
        """Something happened that the log does not carry, at the end of the next transaction."""
        self._gaps.append(Gap(Lsn(self._at + 110), reason))

    def add_column(self, table: TableName) -> None:
        """ALTER TABLE … ADD COLUMN extra text, in the transaction at hand. Rows of before have NULL."""
        columns = (("id", "bigint", 0, "\\N"), ("name", "text", 1, "\\N"), ("extra", "text", None, "\\N"))
        self._schema.append(SchemaChange(Lsn(self._at + 110), self._xid + 1, table, columns, ("id",)))
        self.tables[table] = logged(table, (*COLUMNS, ("extra", "text")))

    def _say(self, tenant: str, operation: int, table: TableName, old: bytes | None, new: list[Value] | None) -> None:
        described = self.tables[table]
        if new is not None:
            new = [*new, *([None] * (len(described.columns) - 2))]
        data = None if new is None else tuple_of(new)
        self._changes.append((tenant, lambda writer: writer.change(operation, described, old, data)))
        words = {OP_INSERT: "insert", OP_UPDATE: "update", OP_DELETE: "hard-delete", OP_TRUNCATE: "truncate"}
        self._count(tenant, table, words[operation])

    def _count(self, tenant: str, table: TableName, operation: str) -> None:
        counts = self._effect.setdefault(self.vault.prefix(tenant), {}).setdefault(str(table), {})
        counts[operation] = counts.get(operation, 0) + 1

    # Transactions, segments, runs

    def commit(self, time: datetime | None = None) -> Committed:
        self._xid += 1
        commit, self._at = self._at + 100, self._at + 110
        self.clock = time or self.clock + timedelta(seconds=1)
        done = Committed(self._xid, commit, self._at, self.clock, copy.deepcopy(self.state))
        self.committed.append(done)
        summary = TransactionSummary(self._xid, Lsn(commit), Lsn(self._at), self.clock, 0, True, self._effect)
        self._pending.append((summary, self._changes))
        self._changes, self._effect, self._moves = [], {}, 0
        return done

    def flush(self) -> None:
        """One segment with all that was committed."""
        pending, self._pending = self._pending, []
        self._write(pending, self._at)

    def flush_in_parts(self, sizes: list[int], *, last: bool = True) -> None:
        """Segments in which the last transaction lies in parts of so many changes; not `last`: it is cut short."""
        *whole, (summary, changes) = self._pending
        rest, part, before = changes, 0, Lsn(self._at).value - 110
        for size in sizes:
            head, rest = rest[:size], rest[size:]
            cut = TransactionSummary(summary.xid, summary.commit, summary.end, summary.time, part, False, {})
            self._write([*whole, (cut, head)], before)
            whole, part = [], part + 1
        if last:
            done = TransactionSummary(
                summary.xid, summary.commit, summary.end, summary.time, part, True, summary.effect
            )
            self._write([*whole, (done, rest)], self._at)
            self._pending = []
        else:
            self._pending = [(summary, changes)]

    def _write(
        self,
        transactions: list[tuple[TransactionSummary, list[tuple[str, Callable[[EntryWriter], None]]]]],
        position: int,
    ) -> None:
        writers: dict[str, EntryWriter] = {}
        for summary, changes in transactions:
            for tenant, write in changes:
                writer = writers.setdefault(tenant, EntryWriter())
                if writer.commit != summary.commit.value:
                    since = summary.time - datetime(2000, 1, 1, tzinfo=UTC)
                    writer.begin(
                        summary.commit.value,
                        summary.end.value,
                        summary.xid,
                        int(since.total_seconds() * 1_000_000),
                        summary.part,
                    )
                write(writer)
        fresh = [tenant for tenant in writers if tenant not in self._named]
        self._named.update(fresh)
        draft = SegmentDraft(
            epoch=self.epoch,
            slot="outlast_main",
            system="7",
            timeline=1,
            base_run=self.base_run,
            start=Lsn(self._written),
            position=Lsn(position),
            as_of=self.clock,
            frames={
                self.vault.prefix(tenant): (self.recipient(tenant), writer.data) for tenant, writer in writers.items()
            },
            details=SegmentDetails(
                tuple(summary for summary, _ in transactions),
                tuple((self.vault.prefix(tenant), tenant, self.vault.labels.get(tenant)) for tenant in fresh),
                tuple(self._schema),
                tuple(self._gaps),
            ),
        )
        self._schema, self._gaps = [], []
        self.end = self.writer.write(draft, self.end).end
        self._written = position

    def recipient(self, tenant: str) -> str:
        """The tenant's key: of the newest run, or made here."""
        known = self.vault.vault().index(SOURCE).recipients.get(self.vault.prefix(tenant))
        if known is None and tenant not in self.recipients:
            key = self.vault.keys.new_key(Tenant(TenantKey(tenant), self.vault.labels.get(tenant)))
            self.vault.store.create(key_path(SOURCE, self.vault.prefix(tenant), key.recipient), key.wrapped)
            self.recipients[tenant] = key.recipient
        return known or self.recipients[tenant]

    def sweep(self, *, without_last: bool = False) -> int:
        """A run of what the database holds. `without_last`: its snapshot does not see the last transaction, though that
        lies before it in the log (it waits for a standby)."""
        state, seen = self.state, f"{self._xid + 1}:{self._xid + 1}:"
        if without_last:
            state = self.committed[-2].state
            seen = f"{self._xid}:{self._xid + 1}:{self._xid}"
        moment = Moment(self.clock, Lsn(self._at), Lsn(self._at), seen)
        return self.vault.back_up({tenant: tables_of(state[tenant]) for tenant in state}, moment)

    def begin(self) -> None:
        """The first base, and the log's beginning."""
        self.base_run = self.sweep()
        self._named.update(self.state)
        self._write([], self._at)

    def fold(self, state: LocalState) -> FoldResult:
        """Fold what was flushed; the next sweep builds on that."""
        result = fold(self.vault.vault(), SOURCE, self.vault.keys, state)
        vault = self.vault.vault()
        for entry in vault.entries(SOURCE):
            self.vault.manifests[entry.tenant.key] = (entry.head, vault.manifest(SOURCE, entry))
        return result

    def reader(self) -> LogReader:
        return LogReader(self.vault.store, self.vault.pin.signers)


def tables_of(tables: Mapping[TableName, Rows]) -> dict[str, list[bytes]]:
    """A tenant's rows as a sweep gives them."""
    return {
        str(table): [f"{key}\t{rows[key]}\n".encode() for key in sorted(rows)] for table, rows in tables.items() if rows
    }


def swept_root(tables: Mapping[str, list[bytes]]) -> str:
    """The root that a sweep of these rows gives."""
    found = []
    for name, rows in tables.items():
        chunker = Chunker(lambda row: row.split(b"\t")[0])
        chunks = [*chunker.add(b"".join(rows), len(rows)), *chunker.finish()] if rows else []
        if chunks:
            found.append((name, table_root((chunk.digest, chunk.rows) for chunk in chunks)))
    return tenant_root(found).hex()
