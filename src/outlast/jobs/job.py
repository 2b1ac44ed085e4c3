"""A job: one restore of many tenants, cut into batches that any worker can take. Pure values and their bytes.

What is done is never read from here: a batch that runs again finds its tenants right, and changes nothing.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from outlast.core.errors import OutlastError, Refused, TransientError
from outlast.core.plan import TenantPlan
from outlast.core.tenant import TenantKey

FORMAT = 1
QUEUE_FILE = "jobs.sqlite"
"""Where a host's own queue is, in its folder of local state."""

BATCH_TENANTS_MAX = 100
_BATCH_TENANTS_MIN = 10
_BATCHES_A_LANE = 4  # so that the last ones to work do not work for long alone


class JobState(StrEnum):
    RUNNING = "running"  # waiting for workers, or at work
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Header:
    """What stands in the queue's database in the clear: it names no tenant. `fingerprint` tells equal requests."""

    id: str
    source: str
    tenants: int
    batches: int
    created: datetime
    host: str
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "id": self.id,
            "source": self.source,
            "tenants": self.tenants,
            "batches": self.batches,
            "created": self.created.isoformat(),
            "host": self.host,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        if data.get("format") != FORMAT:
            raise OutlastError(
                "cannot read a job in the queue: another version of Outlast made it",
                hint="Run the same version everywhere, or cancel that job with the one that made it.",
                code="job-format",
            )
        return cls(
            data["id"],
            data["source"],
            data["tenants"],
            data["batches"],
            datetime.fromisoformat(data["created"]),
            data["host"],
            data["fingerprint"],
        )


@dataclass(frozen=True, slots=True)
class Document:
    """What a worker has to know, sealed to the vault's recipients. `plan`: a Plan's bytes; `shown`: apply as shown."""

    plan: bytes
    shown: bool
    keys: tuple[TenantKey, ...]
    batch_tenants: int

    @property
    def batches(self) -> int:
        return -(-len(self.keys) // self.batch_tenants)

    def batch(self, number: int) -> Sequence[TenantKey]:
        """The tenants of a batch, counted from 0."""
        return self.keys[number * self.batch_tenants : (number + 1) * self.batch_tenants]

    def to_bytes(self) -> bytes:
        plan = b64encode(self.plan).decode("ascii")
        fields = {"plan": plan, "shown": self.shown, "keys": self.keys, "batch_tenants": self.batch_tenants}
        return json.dumps(fields).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        fields = json.loads(data)
        keys = tuple(TenantKey(key) for key in fields["keys"])
        return cls(b64decode(fields["plan"]), fields["shown"], keys, fields["batch_tenants"])


def batch_tenants(tenants: int, lanes: int) -> int:
    """How many tenants a batch has: enough to share transactions, few enough to be shared among workers."""
    wanted = -(-tenants // (_BATCHES_A_LANE * lanes))
    return max(_BATCH_TENANTS_MIN, min(BATCH_TENANTS_MAX, wanted))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one batch: each tenant's plan, the errors that ended single ones, and the live shape met."""

    tenants: tuple[TenantPlan, ...]
    errors: tuple[OutlastError, ...] = ()
    shape: str = ""

    def ordered(self, keys: Iterable[TenantKey]) -> Outcome:
        """The same with the tenants in this order, which names all of them."""
        known = {tenant.tenant.key: tenant for tenant in self.tenants}
        return Outcome(tuple(known[key] for key in keys), self.errors, self.shape)

    def to_bytes(self) -> bytes:
        fields = {
            "tenants": [tenant.to_record() for tenant in self.tenants],
            "errors": [_error_record(error) for error in self.errors],
            "shape": self.shape,
        }
        return json.dumps(fields).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        fields = json.loads(data)
        return cls(
            tuple(TenantPlan.from_record(record) for record in fields["tenants"]),
            tuple(_error_of(record) for record in fields["errors"]),
            fields["shape"],
        )


_KINDS: Mapping[str, type[OutlastError]] = {"refused": Refused, "transient": TransientError, "failed": OutlastError}


def _error_record(error: OutlastError) -> dict[str, Any]:
    kind = next(name for name, known in _KINDS.items() if isinstance(error, known))
    return {"kind": kind, "message": error.message, "hint": error.hint, "code": error.code}


def _error_of(record: Mapping[str, Any]) -> OutlastError:
    return _KINDS[record["kind"]](record["message"], hint=record["hint"], code=record["code"])


def joined(outcomes: Iterable[Outcome]) -> Outcome:
    """One outcome that has all of them."""
    tenants: list[TenantPlan] = []
    errors: list[OutlastError] = []
    shape = ""
    for outcome in outcomes:
        tenants += outcome.tenants
        errors += outcome.errors
        shape = shape or outcome.shape
    return Outcome(tuple(tenants), tuple(errors), shape)
