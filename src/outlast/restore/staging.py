"""Where planning puts the rows that are to be written: a session's staging tables, or, in a group, memory first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Protocol

from outlast.core.table import Table, TableName
from outlast.sources.postgres.write import Stage


class NotGroupableError(Exception):
    """This tenant needs what only a transaction of its own can have: more memory, or a look at what was staged."""


class Staging(Protocol):
    """What planning needs of a stage: one tenant's rows go in, table by table."""

    @property
    def rows(self) -> dict[TableName, int]:
        """Rows staged now, by table; tables without any are absent."""

    def fill(self, table: Table, blocks: Iterable[bytes]) -> int:
        """Stage rows of a table, once: blocks of whole lines. Returns their number."""

    def read(self, table: Table) -> Iterator[bytes]:
        """The staged rows as the server gives them back."""


class GroupStage:
    """The rows of several small tenants on their way into one stage: each tenant's own until it is `accepted`.

    Raises NotGroupableError past `size_bytes_max`, and for what the server would have to say about one tenant's rows.
    """

    def __init__(self, size_bytes_max: int) -> None:
        self._left_bytes = size_bytes_max
        self._tables: dict[TableName, Table] = {}
        self._accepted: dict[TableName, list[bytes]] = defaultdict(list)
        self._current: dict[TableName, tuple[list[bytes], int]] = {}

    @property
    def rows(self) -> dict[TableName, int]:
        return {table: rows for table, (_, rows) in self._current.items()}

    def fill(self, table: Table, blocks: Iterable[bytes]) -> int:
        kept: list[bytes] = []
        rows = 0
        for block in blocks:
            self._left_bytes -= len(block)
            if self._left_bytes < 0:
                raise NotGroupableError
            kept.append(block)
            rows += block.count(b"\n")
        if rows:
            self._tables[table.name] = table
            self._current[table.name] = kept, rows
        return rows

    def read(self, table: Table) -> Iterator[bytes]:
        raise NotGroupableError

    def begin(self) -> None:
        """Forget what is staged of a tenant that was not accepted."""
        for blocks, _ in self._current.values():
            self._left_bytes += sum(map(len, blocks))
        self._current.clear()

    def accept(self) -> None:
        """The current tenant's rows belong to the group."""
        for table, (blocks, _) in self._current.items():
            self._accepted[table] += blocks
        self._current.clear()

    def send(self, stage: Stage) -> None:
        """Stage the whole group's rows: one COPY a table. Raises ValueRefusedError."""
        for table, blocks in self._accepted.items():
            stage.fill(self._tables[table], [b"".join(blocks)])
