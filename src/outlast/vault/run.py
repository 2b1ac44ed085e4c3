"""A run record: written last, numbered, signed. A backup without one did not happen.

Put-if-absent of the next number is the writer's lock. A record names the heads that its run wrote; every so often one
names all heads (`full`), so that a reader follows a bounded number of them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from outlast.core.errors import CorruptionError, Refused
from outlast.core.moment import Moment
from outlast.vault.folded import FoldedMap, collector_paused
from outlast.vault.manifest import Head
from outlast.vault.marks import Ledger, load_ledger
from outlast.vault.record import FORMAT, digest, encode_record, record_fields, verified_bytes
from outlast.vault.signature import NAMESPACE_RUN, Signer
from outlast.vault.store import AlreadyExistsError, ObjectMissingError, Store

CHAIN_MAX = 32
"""A record is full at the latest after so many that are not: what a reader has to follow."""

_FETCHES_AT_ONCE = 8

V = TypeVar("V")


def run_path(source: str, run: int) -> str:
    return f"{source}/runs/{run:010d}.json"


@dataclass(frozen=True, slots=True)
class Folded:
    """What a run was folded from: the segments `first` to `last` of the log, all of one epoch."""

    epoch: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One backup that happened.

    `heads` and `recipients` are those of this run, or of all runs where `full`; both by prefix. `scope` lists the
    prefixes that were looked at, None meaning all. `sealed` can be opened by the vault's recipients (see RunDetails).
    `folded` is set where the run was made from the log: its moment is then a position, and exact. `mark` is the newest
    mark that the writer saw, by number and hash: dropping it later is noticed.
    """

    source: str
    run: int
    previous: str | None  # SHA-256 of the run object before
    started: datetime
    finished: datetime
    moment: Moment
    full: bool
    index_from: int  # the newest full record up to this one
    heads: Mapping[str, Head]
    recipients: Mapping[str, str]
    sealed: bytes
    scope: tuple[str, ...] | None = None
    tool: str = ""
    folded: Folded | None = None
    mark: tuple[int, str | None] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": self.source,
            "run": self.run,
            "previous": self.previous,
            "started": self.started.isoformat(),
            "finished": self.finished.isoformat(),
            "moment": self.moment.to_json(),
            "kind": "full" if self.full else "delta",
            "index_from": self.index_from,
            "scope": None if self.scope is None else list(self.scope),
            "heads": {prefix: self.heads[prefix].to_json() for prefix in sorted(self.heads)},
            "recipients": dict(sorted(self.recipients.items())),
            "sealed": base64.b64encode(self.sealed).decode("ascii"),
            "tool": self.tool,
            **({} if self.folded is None else {"folded": [self.folded.epoch, self.folded.first, self.folded.last]}),
            **({} if self.mark is None else {"mark": list(self.mark)}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunRecord:
        return cls(
            data["source"],
            data["run"],
            data["previous"],
            datetime.fromisoformat(data["started"]),
            datetime.fromisoformat(data["finished"]),
            Moment.from_json(data["moment"]),
            data["kind"] == "full",
            data["index_from"],
            {prefix: Head.from_json(head) for prefix, head in data["heads"].items()},
            dict(data["recipients"]),
            base64.b64decode(data["sealed"], validate=True),
            None if data["scope"] is None else tuple(data["scope"]),
            data["tool"],
            Folded(*data["folded"]) if "folded" in data else None,
            (data["mark"][0], data["mark"][1]) if "mark" in data else None,
        )


@dataclass(frozen=True, slots=True)
class RunDetails:
    """What a run record says to those who hold a key: names, counts, notices."""

    tenants: tuple[tuple[str, str, str | None], ...]  # prefix, key, label; of new or relabelled tenants, or of all
    rows: int
    orphan_rows: int
    database: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        data = {
            "tenants": self.tenants,
            "rows": self.rows,
            "orphan_rows": self.orphan_rows,
            "database": dict(self.database),
            "notices": self.notices,
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> RunDetails:
        with collector_paused():
            fields = json.loads(data)
            tenants = tuple([(prefix, key, label) for prefix, key, label in fields["tenants"]])
        return cls(tenants, fields["rows"], fields["orphan_rows"], fields["database"], tuple(fields["notices"]))


def encode(record: RunRecord, signer: Signer) -> bytes:
    """The object's bytes."""
    return encode_record(record.to_json(), NAMESPACE_RUN, signer)


def decode(data: bytes, signers: Sequence[str], source: str, run: int) -> RunRecord:
    """Read and verify. Raises CorruptionError, or VaultError for a newer format."""
    what = f"run record {run_path(source, run)}"
    end = verified_bytes(data, NAMESPACE_RUN, signers, what)
    # Cut out of the whole in one go: the record of 200,000 tenants is 48 MB, and each copy of it takes 30 ms
    heads, recipients = _members(data, b'"heads":{', end), _members(data, b'"recipients":{', end)
    fields = record_fields(_without(data, end, heads, recipients), what)
    try:
        record = RunRecord.from_json(fields)
        if heads is not None and recipients is not None:
            record = replace(
                record,
                heads=FoldedMap(data[heads.start : heads.stop], Head.from_json, what),
                recipients=FoldedMap(data[recipients.start : recipients.stop], str, what),
            )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"{what} cannot be read: it is not a run record", code="run-record") from error
    if (record.source, record.run) != (source, run):
        raise CorruptionError(f"{what} is the record of another run ({record.source}, {record.run})", code="run-record")
    return record


def _members(data: bytes, head: bytes, end: int) -> range | None:
    """Where what stands in the object after `head` lies, None where there is none: none of its values has a brace.

    `head` stands nowhere else: in a string its quotes would be escaped.
    """
    start = data.find(head, 0, end) + len(head)
    stop = data.find(b"}", start, end)
    return range(start, stop) if start >= len(head) and stop >= 0 else None


def _without(data: bytes, end: int, *folded: range | None) -> bytes:
    """The line up to `end`, without what lies in these ranges."""
    parts, at = [], 0
    for one in sorted((one for one in folded if one is not None), key=lambda one: one.start):
        parts.append(data[at : one.start])
        at = one.stop
    return b"".join([*parts, data[at:end]])


@dataclass(frozen=True, slots=True)
class RunIndex:
    """Every tenant's newest head as of one run, erased tenants left out. Run 0 is the vault before its first backup.

    `erased` are the public halves of destroyed keys: nothing may be sealed to them again, nor reused that was.
    """

    source: str
    run: int = 0
    record: str | None = None  # SHA-256 of that run's object
    full: int = 0  # the full record that it starts from
    heads: Mapping[str, Head] = field(default_factory=dict)
    recipients: Mapping[str, str] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()
    mark: tuple[int, str | None] | None = None  # the newest mark there is: its number and hash

    def without(self, erased: frozenset[str]) -> RunIndex:
        """The same without the tenants whose key was destroyed."""
        gone = {prefix for prefix, recipient in self.recipients.items() if recipient in erased}
        heads = {prefix: head for prefix, head in self.heads.items() if prefix not in gone}
        recipients = {prefix: recipient for prefix, recipient in self.recipients.items() if prefix not in gone}
        return replace(self, heads=heads, recipients=recipients, erased=erased)


def runs(store: Store, source: str) -> list[int]:
    """The numbers of the runs that are in the store, ascending."""
    found = []
    for item in store.list(f"{source}/runs"):
        name = item.path.rpartition("/")[2].removesuffix(".json")
        if name.isdigit():
            found.append(int(name))
    return sorted(found)


def read_record(store: Store, source: str, run: int, signers: Sequence[str]) -> RunRecord:
    """A run's verified record."""
    return decode(store.get(run_path(source, run)), signers, source, run)


def read_run(store: Store, source: str, run: int, signers: Sequence[str]) -> tuple[RunRecord, str]:
    """The same, and the SHA-256 of its object."""
    data = store.get(run_path(source, run))
    return decode(data, signers, source, run), digest(data)


def load_index(
    store: Store, source: str, signers: Sequence[str], run: int | None = None, ledger: Ledger | None = None
) -> RunIndex:
    """The index at a run (None: the newest), from the newest full record on. Each record's chain is verified."""
    ledger = ledger or load_ledger(store, source, signers)
    if run is None:
        found = runs(store, source)
        if not found:
            return RunIndex(source, erased=ledger.erased, mark=ledger.newest)
        run = found[-1]
    newest, newest_digest = read_run(store, source, run, signers)
    chain = [newest, *records_before(store, newest, signers)]
    heads: dict[str, Head] = {}
    recipients: dict[str, str] = {}
    for record in reversed(chain):
        heads |= _whole(record.heads)
        recipients |= _whole(record.recipients)
    index = RunIndex(source, run, newest_digest, newest.index_from, heads, recipients, mark=ledger.newest)
    return index.without(ledger.erased)


def _whole(members: Mapping[str, V]) -> Mapping[str, V]:
    return members.unfolded if isinstance(members, FoldedMap) else members


def records_before(store: Store, newest: RunRecord, signers: Sequence[str]) -> list[RunRecord]:
    """The records that `newest` builds on, newest first, each the one that its follower names; the last one is full."""
    numbers = range(newest.run - 1, newest.index_from - 1, -1)
    found = []
    expected = newest.previous
    with ThreadPoolExecutor(_FETCHES_AT_ONCE, "records") as pool:
        fetched = pool.map(lambda number: read_run(store, newest.source, number, signers), numbers)
        for number, (record, found_digest) in zip(numbers, fetched, strict=True):
            if found_digest != expected:
                raise CorruptionError(
                    f"run record {run_path(newest.source, number)} is not the one that run {number + 1} followed",
                    hint="Somebody put another in its place; `outlast verify` says more.",
                    code="chain",
                )
            found.append(record)
            expected = record.previous
    if not (found or [newest])[-1].full:
        raise CorruptionError(f"run record {run_path(newest.source, newest.index_from)} is not full", code="chain")
    return found


def commit_run(store: Store, source: str, run: int, data: bytes) -> None:
    """Make the run count. Everything it points to is durable first; the record itself is when `create` returns.

    Raises Refused where the number is taken.
    """
    store.flush()
    path = run_path(source, run)
    try:
        store.create(path, data)
    except AlreadyExistsError as error:
        try:
            ours = store.get(path) == data  # an answer lost on the way: it had arrived
        except ObjectMissingError:
            ours = False
        if not ours:
            raise Refused(
                f"another backup of source {source!r} wrote run {run} while this one was at work",
                hint="One writer at a time: find the other host that backs up here. Nothing is lost; run it again.",
                code="locked",
            ) from error
