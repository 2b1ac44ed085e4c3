"""Reading what is stored of many small tenants in a process of its own, ahead of need.

Opening what is sealed, checking it and parsing it keeps Python busy for a third of such a restore, and another process
can begin with it while this one still starts up. Nothing depends on it: what does not come from there (a tenant that
cannot be read, one that is large, all of them where the process was killed) is read here, by the same code. What the
process does is ahead_reading.py's. Whatever is heavy is imported late: it is started before anything else is.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from outlast.core.table import TableName
    from outlast.restore.difference import Layout
    from outlast.restore.history import Past, PastTable
    from outlast.vault.keys import Identity
    from outlast.vault.reader import TenantEntry, VaultPin

    Shape = tuple[TableName, Layout, tuple[str, ...]]
    """What is the same for one table of most tenants, and is sent once: its name, its layout, its columns' types."""

    Run = tuple[int, tuple[tuple[bytes, int], ...], str, tuple[bytes, ...], tuple[bytes, ...] | None]
    """One table of one tenant: its shape's number, its chunks' digests and rows, its root, its chunks' first keys, and
    its rows by chunk, or None where whoever needs them has to read them. Plain tuples: objects take several times as
    long to send."""

    State = tuple[int, str, tuple[Run, ...], tuple[str, ...]]  # run, root, tables, notes
    Batch = tuple[list[Shape], list[State | None]]
    """Shapes that are new, numbered on from those of earlier batches; and states in the order they were asked for, None
    for a tenant that could not be read."""

    Read = Callable[[TenantEntry], Past]

TENANTS_MIN = 100
"""With fewer, starting a process costs what it saves."""

BATCH_TENANTS = 10
_GRACE_S = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """These tenants' states as of their run, which is shown as `moment`, out of the vault as this command trusts it.

    It goes over a pipe to the process, with the key, and nowhere else.
    """

    store_url: str
    pin: VaultPin
    identity: Identity
    source: str
    moment: str
    entries: Sequence[TenantEntry]


class ReadingAhead:
    """The process, seen from here: starts at once, and is told later what to read. A context manager that ends it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # for the reasons in capture/workers.py
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="outlast reading ahead", daemon=True)
        self._process.start()
        theirs.close()
        self._lock = Lock()
        self._due: Iterator[TenantEntry] = iter(())  # asked for, and not received yet
        self._ready: dict[str, State | None] = {}  # by the tenant's folder
        self._shapes: list[Shape] = []
        self._moment = ""

    def begin(self, wanted: Wanted) -> None:
        self._moment = wanted.moment
        self._due = iter(wanted.entries)
        with suppress(OSError):  # it was killed: nothing will come from it, and all is read here
            self._pipe.send(wanted)

    def past(self, entry: TenantEntry, read: Read) -> Past:
        """The tenant's state, once; what does not come from the process is what `read` gives. For any thread."""
        with self._lock:
            while entry.prefix not in self._ready and self._receive():
                pass
            state = self._ready.pop(entry.prefix, None)
        return read(entry) if state is None else self._past(entry, state, read)

    def close(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join(_GRACE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> bool:
        """Take in the next batch; False where there is none any more."""
        entries = list(islice(self._due, BATCH_TENANTS))
        if not entries:
            return False
        try:
            shapes, states = self._pipe.recv()
        except (EOFError, OSError):
            self._due = iter(())
            return False
        self._shapes += shapes
        self._ready.update(zip([entry.prefix for entry in entries], states, strict=True))
        return True

    def _past(self, entry: TenantEntry, state: State, read: Read) -> Past:
        from outlast.restore.difference import Piece
        from outlast.restore.history import Past, PastTable

        run, root, runs, notes = state
        tables: dict[TableName, PastTable] = {}
        kept: dict[TableName, tuple[bytes, ...] | None] = {}
        for number, chunks, table_root, firsts, rows in runs:
            name, layout, types = self._shapes[number]
            pieces = tuple([Piece(digest, count) for digest, count in chunks])
            first_key = firsts[0] if firsts else b""
            tables[name] = PastTable(name, layout, types, pieces, first_key, table_root, firsts)
            kept[name] = rows

        def rows_of(table: PastTable, numbers: Sequence[int]) -> Iterator[bytes]:
            rows = kept[table.name]
            if rows is None:
                return read(entry).read(table, numbers)
            return iter([rows[number] for number in numbers])

        return Past(entry.tenant, run, self._moment, root, tables, rows_of, notes)


def _serve(pipe: Connection) -> None:
    from outlast.restore.ahead_reading import serve

    serve(pipe)
