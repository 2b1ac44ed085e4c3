"""Where routed changes go: the seam between routing and what is made of its answer (frames.py, a rehearsal's tally)."""

from __future__ import annotations

from typing import Protocol

from outlast.core.entries import LoggedTable
from outlast.core.table import TableName


class Sink(Protocol):
    """Where routed changes go. Tenants are numbers."""

    def change(self, tenant: int, operation: int, table: LoggedTable, old: bytes | None, new: bytes | None) -> None: ...

    def move(self, origin: int, to: int, table: LoggedTable, key: bytes, new: bytes) -> None: ...

    def soft_deleted(self, tenant: int, table: LoggedTable) -> None:
        """The UPDATE just given set a marker of soft deletion."""

    def doubt(self, table: TableName | None, reason: str, *, lasting: bool = False) -> None:
        """Something of this table cannot be known from here on: it must be read again. `lasting`: the same will be
        said again and again, and means nothing more then."""
