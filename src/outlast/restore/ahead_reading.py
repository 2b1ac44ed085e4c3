"""The process that reads ahead: what is stored of small tenants, opened, checked, and sent off in batches.

What becomes of it, and what the messages are, is ahead.py's, which starts this and imports none of it.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING

from outlast.core.errors import OutlastError
from outlast.restore.ahead import BATCH_TENANTS, Wanted
from outlast.restore.history import Past, past_of
from outlast.vault.reader import Vault
from outlast.vault.store import open_store

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from outlast.core.table import TableName
    from outlast.restore.ahead import Batch, Shape, State
    from outlast.vault.reader import TenantEntry

_BATCHES_AHEAD_MAX = 30
_ROWS_MAX = 5_000
_ROWS_BYTES_MAX = 256 * 1024
"""A tenant's rows up to so many bytes are sent along: with the bounds above at most some 80 MB lie ready."""


def serve(pipe: Connection) -> None:
    """Read what is asked for until all is sent, or who asked is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us hears it, and ends us
    gc.disable()  # what is made here is in no cycle, and the process is short-lived
    with suppress(EOFError, OSError):
        wanted: Wanted = pipe.recv()
        vault = Vault(open_store(wanted.store_url), wanted.pin, wanted.identity)
        _Sender(pipe).send_all(_batches(vault, wanted))
    os._exit(0)  # nothing of ours is to be cleaned up, and the sending thread may wait for a reader for ever


@dataclass(slots=True)
class _Sender:
    """Sends in a thread: while the other side does not look, reading goes on, by a bounded number of batches."""

    pipe: Connection
    failed: bool = False

    def send_all(self, batches: Iterator[Batch]) -> None:
        queue: Queue[Batch | None] = Queue(_BATCHES_AHEAD_MAX)
        thread = Thread(target=self._drain, args=(queue,), daemon=True)
        thread.start()
        for batch in batches:
            if self.failed:
                return
            queue.put(batch)
        queue.put(None)
        thread.join()

    def _drain(self, queue: Queue[Batch | None]) -> None:
        try:
            while (batch := queue.get()) is not None:
                self.pipe.send(batch)
        except OSError:
            os._exit(0)  # nobody wants it any more


def _batches(vault: Vault, wanted: Wanted) -> Iterator[Batch]:
    numbers: dict[Shape, int] = {}
    entries = iter(wanted.entries)
    while some := list(islice(entries, BATCH_TENANTS)):
        known = len(numbers)
        states = [_state(vault, wanted, entry, numbers) for entry in some]
        yield list(numbers)[known:], states


def _state(vault: Vault, wanted: Wanted, entry: TenantEntry, numbers: dict[Shape, int]) -> State | None:
    try:
        past = past_of(vault, wanted.source, entry, wanted.moment)
        rows = _rows(past)
    except OutlastError:
        return None  # whoever needs it reads it again, and is told why it cannot be
    if not past.tables:
        return None
    runs = []
    for name, table in past.tables.items():
        number = numbers.setdefault((name, table.layout, table.types), len(numbers))
        chunks = tuple([(piece.digest, piece.rows) for piece in table.pieces])
        runs.append((number, chunks, table.root, table.firsts, rows.get(name)))
    return past.run, past.root, tuple(runs), past.notes


def _rows(past: Past) -> dict[TableName, tuple[bytes, ...]]:
    """The rows of a small tenant by table; of a large one none."""
    if sum(table.rows for table in past.tables.values()) > _ROWS_MAX:
        return {}
    found = {name: tuple(past.read(table)) for name, table in past.tables.items()}
    return found if sum(len(block) for blocks in found.values() for block in blocks) <= _ROWS_BYTES_MAX else {}
