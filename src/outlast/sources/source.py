"""Source: the one Protocol by which a backup reads, whatever it reads from, and the values that pass through it.

A database and a tool behind an API are read by the same `capture/backup.py`: it opens a `Reading`, asks what each
tenant has by fingerprints, and reads what changed, block by block. An adapter knows nothing of the vault.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from outlast.core.moment import Moment
from outlast.core.row import KeyKind
from outlast.core.table import Table, TableName
from outlast.core.tenant import Tenant, TenantKey

TRANSACTIONS_MAX = 1 << 31
"""xmin has 32 bits: past this, a row version's number could be another's."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something `check` must say: what it is, which table, how bad, and what to do."""

    level: str  # "error" stops a backup; "warning" weakens a promise; "info"
    code: str
    message: str
    hint: str | None = None
    table: TableName | None = None
    promise: str | None = None  # which promise it weakens: protect, restore, verify …


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of one table and one tenant, in key order, each ending in a newline."""

    tenant: TenantKey
    data: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What row versions a tenant's run consists of, without reading them. Equal: the run is as it was."""

    rows: int
    versions: str
    newer: bool = True  # than what was asked about, or nothing was asked


@dataclass(frozen=True, slots=True)
class Slice:
    """All tenants whose keys stand, in the sweep's order, from `first` on and before `end`; None is no bound.

    Rows without a tenant are a slice of their own, `strays`; a slice without any bound has them as well. Were they in
    the lowest, its filter could not be put to the table at the end of a path, and the whole of it would be joined.
    """

    first: str | None = None
    end: str | None = None
    strays: bool = False

    @property
    def is_lowest(self) -> bool:
        """The one that has the shared tables."""
        return self.first is None and not self.strays


@dataclass(frozen=True, slots=True)
class Basis:
    """Under what fingerprints hold. `first` and `next_` are the 64-bit xmin and xmax of a database's snapshot.

    Neither transactions nor the log may have gone back since: a volume that was put back to an earlier state hands out
    the same numbers again. One that went back, and then past where it was, cannot be told from inside: that takes
    `--full`.
    """

    cluster: str
    first: int
    next_: int
    position: int  # bytes of the log

    def to_json(self) -> dict[str, Any]:
        return {"cluster": self.cluster, "first": self.first, "next": self.next_, "position": self.position}

    def continues(self, about: Mapping[str, Any]) -> bool:
        """Whether what was seen then can be compared with what is seen now; never where it does not say enough."""
        return (
            about.keys() >= {"cluster", "first", "next", "position"}
            and about["cluster"] == self.cluster
            and about["next"] <= self.next_
            and about["position"] <= self.position
            and self.next_ - about["first"] < TRANSACTIONS_MAX
        )


class Source(Protocol):
    """Where data lives. Its text names it in errors, without a secret."""

    def read(self, watcher: Watcher) -> AbstractContextManager[Reading]:
        """The source as it stands now. May be called again; several readings do not disturb each other.

        Raises an OutlastError that names the source; a passing fault is a TransientError or SourceError.
        """


class Watcher(Protocol):
    """Hears how far a backup is. Called from the thread that called `backup` only."""

    def stage(self, name: str, total: int | None) -> None:
        """A stage begins, with its size."""

    def advance(self, amount: int) -> None:
        """That much of the stage is done."""


class Reading(Protocol):
    """A source at one moment: every question is answered as of then, however long it takes."""

    @property
    def moment(self) -> Moment: ...

    @property
    def basis(self) -> Basis: ...

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table whose rows are kept."""

    @property
    def tenant_kind(self) -> KeyKind:
        """How tenants' keys are ordered."""

    @property
    def notices(self) -> tuple[Notice, ...]: ...

    @property
    def described(self) -> Mapping[str, Any]:
        """What the run record says of the source, to those who hold a key."""

    @property
    def counts_for_nothing(self) -> bool:
        """Whether fingerprints are at hand anyway: then a first backup has them too, and reads in one process."""

    @property
    def rows(self) -> Rows: ...

    def tenants(self) -> Mapping[TenantKey, Tenant]: ...

    def fingerprints(
        self,
        tables: Sequence[Table],
        *,
        tenants: Sequence[TenantKey] | None,
        since: int | None,
        sessions: int,
        advance: Callable[[str], None],
    ) -> Iterator[tuple[int, Mapping[TenantKey, Fingerprint]]]:
        """By a table's number, every tenant's fingerprint, in any order. `since` is an earlier basis's `first`."""

    def slices(self, tables: Sequence[Table], tenants: Collection[TenantKey], count: int) -> tuple[Slice, ...]:
        """At most `count` slices that are about equally much work, of bytes and of tenants; none has the strays."""

    def count_rows(self, tables: Sequence[Table]) -> dict[str, int]:
        """Every table's rows, by its name, counted by another way than the one by which they are read."""

    def schema(self) -> Callable[[], Mapping[str, bytes]]:
        """Begin to gather what a restore into nothing needs beside the rows, while they are read.

        What is returned waits for it and gives it in named sections, of which there may be none.
        """

    def settle(self) -> None:
        """Return when nothing that was seen can be undone any more by a crash of the source."""


class Rows(Protocol):
    """A reading's rows, as a worker process can open them for itself. Picklable."""

    def open(self) -> AbstractContextManager[RowReader]: ...


class RowReader(Protocol):
    """One session's worth of reading."""

    def blocks(
        self, table: Table, tenants: Collection[TenantKey], *, share: float, within: Slice | None
    ) -> Iterator[Block]:
        """A table's rows, in (tenant, key) order: of these tenants, or, with `within`, of all that stand in it.

        `share` is how much of the table that is, from 0 to 1: a guess, by which the way of reading is chosen.
        """

    def close(self) -> None:
        """Everything is read: let go of the reading. Closed a second time it does nothing."""
