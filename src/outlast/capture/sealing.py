"""Sealing beside the stream: compressing and encrypting a large segment in a process of its own, on another core.

A process and not a thread, because age keeps Python's lock. It is told public keys and entries over a pipe and holds
nothing else; it ends with the pipe, however this process ends. Small segments are not worth the way there: a source
that is quiet never has a second process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from outlast.vault.log import Plain, Sealed, seal_parts

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

APART_BYTES = 2 * 1024 * 1024
_GRACE_S = 5


class Sealing:
    """`seal_parts`, here or there. Begun when it is first worth it; for one thread."""

    def __init__(self, apart_bytes: int = APART_BYTES) -> None:
        self._apart_bytes = apart_bytes
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def __call__(self, parts: Sequence[Plain]) -> list[Sealed]:
        if sum([len(plain) for _, plain in parts]) < self._apart_bytes:
            return seal_parts(parts)
        try:
            return self._elsewhere(parts)
        except (EOFError, OSError):  # it was killed (out of memory?): what it would have done is done here
            self.close()
            return seal_parts(parts)

    def _elsewhere(self, parts: Sequence[Plain]) -> list[Sealed]:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs,), name="outlast sealing", daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send(parts)
        found: list[Sealed] = self._pipe.recv()
        return found

    def close(self) -> None:
        if self._pipe is None or self._process is None:
            return
        self._pipe.close()
        self._process.join(_GRACE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()
        self._pipe = self._process = None


def _work(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and hangs up
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    try:
        while True:
            pipe.send(seal_parts(pipe.recv()))
    except (EOFError, OSError):
        return  # the parent hung up, or is gone
