"""Several objects on their way into the vault at once, and the certainty that all have arrived.

Into a folder they go one by one: handing a small file to another thread costs four times what writing it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from outlast.vault.store import AlreadyExistsError, Store

_AT_ONCE = 8
_BYTES_MAX = 48 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Written:
    """What was put into the vault."""

    objects: int
    size_bytes: int


class Putter:
    """Call it with a path and bytes; `settle` waits until everything given so far lies in the store.

    A failure is raised by the next call, and by `settle`. An object that exists already is fine: these are named by
    their content.
    """

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self._underway: dict[Future[None], int] = {}
        self.written = Written(0, 0)

    def __call__(self, path: str, data: bytes) -> None:
        self.written = Written(self.written.objects + 1, self.written.size_bytes + len(data))
        if not self._store.is_remote:
            self._put(path, data)
            return
        while self._underway and (
            len(self._underway) >= 2 * _AT_ONCE or sum(self._underway.values()) + len(data) > _BYTES_MAX
        ):
            done, _ = wait(self._underway, return_when=FIRST_COMPLETED)
            self._collect(done)
        self._underway[self._pool.submit(self._put, path, data)] = len(data)

    def settle(self) -> None:
        while self._underway:
            done, _ = wait(self._underway)
            self._collect(done)

    def _collect(self, done: set[Future[None]]) -> None:
        for future in done:
            del self._underway[future]
        for future in done:
            future.result()

    def _put(self, path: str, data: bytes) -> None:
        try:
            self._store.create(path, data)
        except AlreadyExistsError:
            return  # the same bytes: a retried request that had arrived the first time


@contextmanager
def putting(store: Store) -> Iterator[Putter]:
    """A putter with threads of its own. Leaving by an error drops what has not started."""
    pool = ThreadPoolExecutor(_AT_ONCE, "put")
    try:
        yield Putter(store, pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
