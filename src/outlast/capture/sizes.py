"""How many rows a tenant has in each table: what a share of them is held against. Good to a few per cent, not exact.

The newest backup's manifests, as this host remembers them, and the rows that were inserted since this process began to
follow. Rows deleted are not taken off: what is asked is how much of what there was is gone.
"""

from __future__ import annotations

from outlast.capture.records import Records
from outlast.core.tenant import TenantKey


class Sizes:
    """Callable as capture/tripwire.Sizes. Fed and asked by one thread."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known = bool(records.about("current"))
        self._inserted: dict[TenantKey, dict[str, int]] = {}
        self._last: tuple[TenantKey, dict[str, int]] | None = None

    @property
    def known(self) -> bool:
        """Whether there is a backup that this host remembers; where not, no share can be told."""
        return self._known

    def inserted(self, tenant: TenantKey, table: str, rows: int) -> None:
        """Rows came."""
        tables = self._inserted.setdefault(tenant, {})
        tables[table] = tables.get(table, 0) + rows

    def __call__(self, tenant: TenantKey, table: str) -> int | None:
        if not self._known:
            return None
        if self._last is None or self._last[0] != tenant:
            record = self._records.get(tenant)
            stored = {} if record is None else record.manifest.tables
            self._last = (tenant, {name: one.rows for name, one in stored.items()})
        return self._last[1].get(table, 0) + self._inserted.get(tenant, {}).get(table, 0)
