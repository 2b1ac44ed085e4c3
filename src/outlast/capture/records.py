"""What this host remembers of each tenant between backups, and how it moves on only when a run record stands.

While a backup runs, what it wrote is kept as *pending*, named by the run it is meant for. When the run record is in
the vault, pending becomes current. After a crash the vault tells which it was: the record is there (pending is made
current) or it is not (pending is what the next backup takes up instead of reading and sealing it again).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from outlast.core.errors import BugError
from outlast.core.tenant import Tenant, TenantKey
from outlast.state.local import LocalState
from outlast.vault.manifest import Head, Manifest

PENDING_AGE_MAX = timedelta(hours=12)
"""An interrupted backup's objects are taken up within this; `prune` lets unreferenced ones lie for longer."""


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """One tenant as its newest manifest has it. `seen` is the census's digest of each run, by table."""

    tenant: Tenant
    prefix: str
    recipient: str
    head: Head
    stored: bytes  # the manifest as it was sealed; parsed only where it is needed
    seen: Mapping[str, bytes]

    @property
    def manifest(self) -> Manifest:
        """With every chunk naming its pack, so that a later manifest can point to it."""
        return Manifest.from_bytes(self.stored).placed(self.head.pack)

    def to_bytes(self) -> bytes:
        fields = {
            "tenant": self.tenant.key,
            "label": self.tenant.label,
            "prefix": self.prefix,
            "recipient": self.recipient,
            "head": self.head.to_json(),
            "seen": {table: digest.hex() for table, digest in self.seen.items()},
        }
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n" + self.stored

    @classmethod
    def from_bytes(cls, data: bytes) -> TenantRecord:
        line, _, stored = data.partition(b"\n")
        fields: dict[str, Any] = json.loads(line)
        return cls(
            Tenant(TenantKey(fields["tenant"]), fields["label"]),
            fields["prefix"],
            fields["recipient"],
            Head.from_json(fields["head"]),
            stored,
            {table: bytes.fromhex(digest) for table, digest in fields["seen"].items()},
        )


class Records:
    """The records of one source in this host's state."""

    def __init__(self, state: LocalState, source: str) -> None:
        self._state = state
        self._current = f"{source}/record"  # "tenant" and "pending" were an earlier form's: what is there is not read
        self._pending = f"{source}/pending-record"
        self._about = f"{source}/about"

    def get(self, tenant: TenantKey) -> TenantRecord | None:
        value = self._state.get(self._current, tenant)
        return None if value is None else TenantRecord.from_bytes(value)

    def label(self, tenant: TenantKey) -> str | None:
        """The label under which the vault knows the tenant; None too where it does not know it."""
        record = self.get(tenant)
        return None if record is None else record.tenant.label

    def all(self) -> Iterator[TenantRecord]:
        return (TenantRecord.from_bytes(value) for _, value in self._state.items(self._current))

    def pending(self) -> Iterator[TenantRecord]:
        return (TenantRecord.from_bytes(value) for _, value in self._state.items(self._pending))

    def add_pending(self, records: Iterable[TenantRecord]) -> None:
        self._state.put_all([(self._pending, record.tenant.key, record.to_bytes()) for record in records])

    def drop_pending(self, tenants: Iterable[TenantKey] | None = None) -> None:
        """Forget what an interrupted backup had written: of these tenants, or all of it."""
        if tenants is not None:
            self._state.remove_all(self._pending, tenants)
            return
        self._state.clear(self._pending)
        self._state.remove_all(self._about, ["pending"])

    def about(self, name: str) -> dict[str, Any]:
        """`current`: the run that the records stand for. `pending`: the run that was being written."""
        value = self._state.get(self._about, name)
        if value is None:
            return {}
        about = json.loads(value)
        if not isinstance(about, dict):
            raise BugError(f"the local state's note {name!r} is not an object")
        return about

    def set_pending(self, about: Mapping[str, Any]) -> None:
        self._state.put(self._about, "pending", json.dumps(about).encode())

    def promote(self, about: Mapping[str, Any]) -> None:
        """Pending records become current and stand for the run that `about` describes. One transaction."""
        self._state.move(self._pending, self._current, [(self._about, "current", json.dumps(about).encode())])

    def forget_current(self) -> None:
        """Forget what was seen: the next backup reads everything again."""
        self._state.clear(self._current)
        self._state.remove_all(self._about, ["current"])


def recover(records: Records, run: int, record: str | None, vault: str, now: datetime) -> None:
    """Bring the records to where the vault is: its newest run is `run`, whose record has the SHA-256 `record`.

    `vault` tells one vault from another. Afterwards `current` stands for that very run, or nothing is remembered;
    pending is what an interrupted try at the next run had put, not long ago, or empty.
    """
    pending = records.about("pending")
    if pending and pending.get("record") == record and pending["run"] == run:
        records.promote(pending)
    elif pending and (
        (pending["run"], pending.get("base"), pending.get("vault")) != (run + 1, record, vault)
        or now - datetime.fromisoformat(pending["started"]) > PENDING_AGE_MAX
    ):
        records.drop_pending()  # what had been put lies unreferenced, until `prune` sweeps it
    current = records.about("current")
    if (current.get("run", 0), current.get("record")) != (run, record):
        records.forget_current()
