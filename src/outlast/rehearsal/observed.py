"""What a rehearsal saw: the value that is judged against an intent, shown, and bound into a receipt. Pure.

The rows' changes are an Effect, read from the log of the copy. Beside it stands what no decoding can see: schema,
sequences, locks, and so on. How it is seen is observe.py's, what it is worth verdict.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from outlast.core.effect import Effect
from outlast.core.tenant import SHARED, Tenant, TenantKey

DIGEST_BYTES = 16


def row_digest(row: bytes) -> bytes:
    """What a row is recognised by: of its COPY line without the newline, columns in TouchedTable's order."""
    return hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest()


class Doubt(StrEnum):
    """Why a copy may tell less than production would: the names by which an intent accepts such a point."""

    PART = "part-of-the-tenants"
    VERSION = "other-version"
    EXTENSION = "missing-extension"
    COLLATION = "missing-collation"
    SCHEMA = "schema-incomplete"
    OBJECTS = "large-objects"
    CLONE = "foreign-clone"
    AGE = "clone-too-old"
    ROUTING = "unknown-tenant"
    REPEAT = "not-repeatable"
    BLIND = "unseen-writes"
    ATTEMPT = "outside-call"
    KEYS = "too-many-keys"


@dataclass(frozen=True, slots=True, order=True)
class Inconclusive:
    """One point on which the copy could not tell. `what` names the object: an extension, a collation, a table."""

    doubt: Doubt
    what: str

    def __str__(self) -> str:
        return f"{self.doubt.value}: {self.what}"


class Alteration(StrEnum):
    ADDED = "added"
    DROPPED = "dropped"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One object of the catalog that is not as it was. `kind`: table, column, index, constraint, trigger, function …

    `name` is qualified (`public.sites.plan` for a column). `irreversible`: data went with it, or was rewritten into a
    type that may hold less. `rows` are those that a dropped table or column had, by tenant, as of the copy.
    """

    alteration: Alteration
    kind: str
    name: str
    before: str = ""
    after: str = ""
    irreversible: bool = False
    rows: Mapping[TenantKey, int] = field(default_factory=dict)

    def __str__(self) -> str:
        change = f": {self.before} -> {self.after}" if self.alteration is Alteration.CHANGED and self.before else ""
        return f"{self.kind} {self.name} {self.alteration.value}{change}"


@dataclass(frozen=True, slots=True, order=True)
class Lock:
    """A lock on a table that the script's transaction held at its end (or that was seen while a command ran)."""

    table: str
    mode: str  # as pg_locks names it: RowExclusiveLock, AccessExclusiveLock …


@dataclass(frozen=True, slots=True)
class SequenceMove:
    """A sequence that stands elsewhere. None: it had not been used."""

    name: str
    before: int | None
    after: int | None

    @property
    def back(self) -> bool:
        """Whether numbers come a second time."""
        return self.before is not None and (self.after is None or self.after < self.before)


@dataclass(frozen=True, slots=True)
class Truncated:
    """A table that TRUNCATE emptied, with the rows that it had just before, by tenant."""

    table: str
    rows: Mapping[TenantKey, int]


@dataclass(frozen=True, slots=True)
class TouchedRow:
    """A row that the script changed, by the net of what it did: its key as COPY fields joined by tabs, and digests
    (16 bytes, see `row_digest`) of the row before (None: it was not there) and after (None: it is gone).

    `tenant` owns the row, before the change where it was there. `changed` has, of an inserted or updated row, what the
    change set: the place of each column in the table's `columns`, and the COPY field that it then had. `run` holds
    production's rows against it.
    """

    key: bytes
    before: bytes | None
    after: bytes | None
    tenant: TenantKey = SHARED
    changed: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class TouchedTable:
    """The rows of one table that were changed, by key. `columns` are those that the digests cover, in their order.

    A table without a key has its whole rows for keys.
    """

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[TouchedRow, ...]


@dataclass(frozen=True, slots=True)
class RowCounters:
    """What pg_stat_xact_user_tables counted in the script's transaction: partitions count for their root."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something that the script tried to reach beyond the database, and that was not let through."""

    kind: str  # dblink, foreign-server, program, file, cron, subscription
    what: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """On what, as whom and how the script ran."""

    source: str
    moment: str  # as a person names it again: run:7, or an LSN
    as_of: datetime
    age_s: float
    copy: str  # "vault", "clone-url" or "clone-command"
    server: str  # the copy's version, as it names itself
    role: str
    settings: Mapping[str, str] = field(default_factory=dict)  # of the role and the database
    command: tuple[str, ...] = ()  # after `--`; empty for a .sql file
    only: tuple[str, ...] = ()  # tenants of a copy of a part
    isolated: bool = True  # no network, and no other server's socket
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """All that one rehearsal saw. `error` says why the script failed; then the rest is what it did up to there.

    `counters` is None for a command, whose transactions are its own. `transactions` are those that it committed.
    """

    circumstances: Circumstances
    effect: Effect
    tenants: Mapping[TenantKey, Tenant] = field(default_factory=dict)  # that were touched, as named after the script
    formerly: Mapping[TenantKey, Tenant] = field(default_factory=dict)  # all, as named before it
    schema: tuple[SchemaChange, ...] = ()
    inconclusive: tuple[Inconclusive, ...] = ()
    truncated: tuple[Truncated, ...] = ()
    rewritten: tuple[str, ...] = ()  # tables with another relfilenode than before, TRUNCATE's included
    locks: tuple[Lock, ...] = ()
    sequences: tuple[SequenceMove, ...] = ()
    touched: tuple[TouchedTable, ...] = ()
    counters: Mapping[str, RowCounters] | None = None
    began: datetime | None = None  # the copy's own time when the script's transaction began
    transactions: int = 0
    large_objects: int = 0  # made, changed or removed
    notified: tuple[str, ...] = ()  # channels
    attempts: tuple[Attempt, ...] = ()
    unguarded: tuple[str, ...] = ()  # statements that cannot run in a transaction
    error: str | None = None
    wal_bytes: int = 0
    script_seconds: float = 0.0
    capture_seconds: float = 0.0  # from the script's end until all of its effect was read
    notes: tuple[str, ...] = ()

    @property
    def irreversible(self) -> tuple[SchemaChange, ...]:
        return tuple(change for change in self.schema if change.irreversible)
