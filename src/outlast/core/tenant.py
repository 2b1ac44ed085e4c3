"""A tenant: one customer, whose rows must be recoverable alone."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant's key and its label (`acme`), which is what people type and read."""

    key: TenantKey
    label: str | None = None

    def __str__(self) -> str:
        return f"{self.label} ({self.key})" if self.label and self.label != self.key else str(self.key)
