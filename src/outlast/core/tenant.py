"""A tenant: one customer, whose rows must be recoverable alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

TenantKey = NewType("TenantKey", str)
"""The tenant's key as the source's text (`48213`, a UUID, a slug), or one of the reserved keys below."""

SHARED = TenantKey("@shared")
"""Reference data that many tenants point at."""

ORPHAN = TenantKey("@orphan")
"""Rows of owned tables whose path to a tenant is broken: customer data with a key of its own."""

SCHEMA = TenantKey("@schema")
"""The source's schema, as pg_dump wrote it: what makes a restore into nothing possible."""

ALL = TenantKey("@all")
"""What happened to all tenants at once (TRUNCATE): it has a log, and no manifest."""

RESERVED = frozenset({SHARED, ORPHAN, SCHEMA, ALL})

_MOVING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor or turns the direction of its text: a customer chooses its own name."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant's key and its label (`acme`), which is what people type and read. As text without control characters."""

    key: TenantKey
    label: str | None = None

    def __str__(self) -> str:
        told = f"{self.label} ({self.key})" if self.label and self.label != self.key else str(self.key)
        return _MOVING.sub(lambda found: repr(found[0])[1:-1], told)
