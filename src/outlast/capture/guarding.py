"""What the tripwire is told: facts out of routed transactions, and out of those that have not committed yet.

A streamed transaction's facts go out as they come, by what the route map knows at that time, and are not sent again at
its commit; a subtransaction that is rolled back takes its own back. What is done with them is the tripwire's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from outlast.capture.frames import Did
from outlast.capture.incident import Incident
from outlast.capture.numbering import Numbering
from outlast.capture.routing import Router
from outlast.capture.sizes import Sizes
from outlast.capture.tripwire import Fact
from outlast.core.change import OP_DELETE, OP_INSERT, OP_TRUNCATE, OP_UPDATE, Change, Relation
from outlast.core.effect import Operation
from outlast.core.moment import Lsn
from outlast.core.soft_delete import SoftDeleteMarkers
from outlast.core.table import TableName
from outlast.core.tenant import ALL, RESERVED, TenantKey
from outlast.sources.postgres.transactions import Transaction, time_of

_LOSSES = frozenset({Operation.HARD_DELETE, Operation.SOFT_DELETE, Operation.TRUNCATE})


class Listener(Protocol):
    """Who judges (sentry.py). Every call returns at once and raises nothing."""

    @property
    def tombstone(self) -> str | None: ...

    @property
    def incident(self) -> Incident | None: ...

    def observe(self, facts: Sequence[Fact], *, lag_s: float = 0.0) -> None: ...

    def committed(self, xid: int, at: datetime, commit: Lsn) -> None: ...

    def aborted(self, xid: int) -> None: ...

    def withdraw(self, facts: Sequence[Fact]) -> None: ...

    def dropped(self, table: str, xid: int, at: datetime | None, *, lag_s: float = 0.0) -> None: ...

    def tick(self) -> None: ...


class Guard:
    """A transactions.Observer, and the way from routed changes to facts. Without a listener it does nothing."""

    def __init__(self, listener: Listener | None = None, sizes: Sizes | None = None) -> None:
        self.listener = listener
        self._place: tuple[int, datetime] | None = None  # where the stream is, and the server's clock then
        self._sizes = sizes
        self._router: Router | None = None
        self._numbers: Numbering | None = None
        self._told: dict[int, dict[int, list[Fact]]] = {}

    def use(self, router: Router, numbers: Numbering) -> None:
        """Ask these whose a row is."""
        self._router, self._numbers = router, numbers

    def label(self, tenant: TenantKey) -> str | None:
        """What people call a tenant of which a fact was told."""
        if self._numbers is None or tenant in RESERVED:
            return None
        return self._numbers.of(self._numbers.number_of(tenant.encode("utf-8", "surrogateescape"))).tenant.label

    def at(self, transaction: Transaction, server_time: datetime | None) -> None:
        """The stream has come to this transaction; both times are the server's."""
        if self.listener is not None and server_time is not None:
            self._place = transaction.time_us, server_time

    def caught_up(self) -> None:
        """All that the server had has been seen."""
        self._place = None

    @property
    def lag_s(self) -> float:
        """How far behind the server the stream is read."""
        if self._place is None:
            return 0.0
        time_us, server_time = self._place
        return max(0.0, (server_time - time_of(time_us)).total_seconds())

    def label_of(self, tenant: TenantKey) -> str | None:
        """The label under which a tenant is known here."""
        return None if self._numbers is None else self._numbers.label_of(tenant)

    def saw(self, transaction: Transaction, did: Sequence[Did]) -> None:
        """A transaction was routed, or (nothing done) is in the vault already."""
        listener = self.listener
        if listener is None:
            return
        if self._sizes is not None:
            for one in did:
                if one.operation is Operation.INSERT and one.tenant >= 0:
                    self._sizes.inserted(self._key(one.tenant), one.table, one.rows)
        told = transaction.streamed and self._told.pop(transaction.xid, None) is not None
        if told:
            listener.committed(transaction.xid, transaction.time, transaction.commit)
        facts = [
            self._fact(transaction.xid, one.tenant, one.table, one.operation, one.rows, transaction)
            for one in did
            if (one.operation in _LOSSES and not told)
            or one.operation is Operation.TRUNCATE  # of a partitioned table: only now it is known to be the whole of it
            or (one.operation is Operation.INSERT and one.table == listener.tombstone and not told)
        ]
        if facts:
            listener.observe(facts, lag_s=self.lag_s)

    def dropped(self, table: TableName, transaction: Transaction | None = None) -> None:
        """A followed table is gone: by a transaction, or (none is known) as a look at the catalog shows."""
        if self.listener is not None:
            xid, time = (0, None) if transaction is None else (transaction.xid, transaction.time)
            self.listener.dropped(str(table), xid, time, lag_s=self.lag_s)

    def tick(self) -> int:
        """Let time pass; gives how many tenants are losing rows just now."""
        if self.listener is None:
            return 0
        self.listener.tick()
        incident = self.listener.incident
        return 0 if incident is None else incident.tenants

    # transactions.Observer ---------------------------------------------------------------------------------------

    def provisional(self, xid: int, subxid: int, relations: Mapping[int, Relation], changes: Sequence[Change]) -> None:
        listener, router = self.listener, self._router
        if listener is None or router is None:
            return
        counts: dict[tuple[int, str, Operation], int] = {}
        last: int | None = None
        for change in changes:
            if change[1] != last:
                relation, last = relations[change[1]], change[1]
                table, markers = router.table_of(relation), SoftDeleteMarkers.of(relation)
            if table is None or (change[0] == OP_UPDATE and markers is None):
                continue
            operation = self._loss(relation, change, str(table), markers)
            if operation is None:
                continue
            tenant = router.tenant_of(relation, change) if operation is not Operation.TRUNCATE else None
            place = (-1 if tenant is None else tenant, str(table), operation)
            counts[place] = counts.get(place, 0) + 1
        facts = [self._fact(xid, *place, rows, None) for place, rows in counts.items()]
        if facts:
            self._told.setdefault(xid, {}).setdefault(subxid, []).extend(facts)
            listener.observe(facts, lag_s=self.lag_s)

    def aborted(self, xid: int, subxid: int | None) -> None:
        listener = self.listener
        if listener is None:
            return
        if subxid is None:
            if self._told.pop(xid, None) is not None:
                listener.aborted(xid)
        elif (facts := self._told.get(xid, {}).pop(subxid, None)) is not None:
            listener.withdraw(facts)

    def committed(self, xid: int) -> None:
        """Told when it is routed: its commit is known there."""

    def _loss(
        self, relation: Relation, change: Change, table: str, markers: SoftDeleteMarkers | None
    ) -> Operation | None:
        operation, _, old, new = change
        if operation == OP_DELETE:
            return Operation.HARD_DELETE
        if operation == OP_TRUNCATE:
            return Operation.TRUNCATE if str(relation.name) == table else None
        if operation == OP_UPDATE and new is not None:
            return Operation.SOFT_DELETE if markers is not None and markers.marks(old, new) else None
        assert self.listener is not None
        return Operation.INSERT if operation == OP_INSERT and table == self.listener.tombstone else None

    def _fact(
        self,
        xid: int,
        tenant: int,
        table: str,
        operation: Operation,
        rows: int,
        transaction: Transaction | None,
    ) -> Fact:
        key = self._key(tenant)
        if transaction is None:
            return Fact(xid, None, None, True, key, table, operation, rows)
        return Fact(xid, transaction.time, transaction.commit, False, key, table, operation, rows)

    def _key(self, tenant: int) -> TenantKey:
        assert self._numbers is not None
        return ALL if tenant < 0 else self._numbers.of(tenant).tenant.key
