"""Where planning puts the rows that are to be written: a session's staging tables, or, in a group, memory first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Protocol

from outlast.core.table import Table, TableName
from outlast.sources.postgres.write_stage import Stage


class NotGroupableError(Exception):
    """This tenant needs what only a transaction of its own can have: more memory, or a look at what was staged."""


class Staging(Protocol):
    """What planning needs of a stage: one tenant's rows go in, table by table."""

    @property
    def rows(self) -> dict[TableName, int]:
        """Rows staged now, by table; tables without any are absent."""

    @property
    def in_transaction(self) -> bool:
        """Whether rows are staged inside a transaction, which an error ends."""

    def fill(self, table: Table, lines: Iterable[bytes], counts: Counter[str], touched: set[str]) -> int:
        """Stage rows of a table, once: blocks of whole lines, as Stage.fill takes them. Returns their number."""

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
        self._what: dict[TableName, tuple[Counter[str], set[str]]] = {}  # of the current tenant
        self._counts: dict[TableName, Counter[str]] = defaultdict(Counter)
        self._touched: dict[TableName, set[str]] = defaultdict(set)

    @property
    def rows(self) -> dict[TableName, int]:
        return {table: rows for table, (_, rows) in self._current.items()}

    @property
    def accepted(self) -> tuple[TableName, ...]:
        """The tables of which the group has rows."""
        return tuple(self._accepted)

    @property
    def in_transaction(self) -> bool:
        return False

    def fill(self, table: Table, lines: Iterable[bytes], counts: Counter[str], touched: set[str]) -> int:
        kept: list[bytes] = []
        rows = 0
        for block in lines:
            self._left_bytes -= len(block)
            if self._left_bytes < 0:
                raise NotGroupableError
            kept.append(block)
            rows += block.count(b"\n")
        if rows:
            self._tables[table.name] = table
            self._current[table.name] = kept, rows
            self._what[table.name] = Counter(counts), set(touched)
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
            counts, touched = self._what[table]
            self._counts[table] += counts
            self._touched[table] |= touched
        self._current.clear()

    def send(self, stage: Stage) -> None:
        """Stage the whole group's rows: one COPY a table. Raises ValueRefusedError."""
        for table, blocks in self._accepted.items():
            stage.fill(self._tables[table], [b"".join(blocks)], self._counts[table], self._touched[table])
