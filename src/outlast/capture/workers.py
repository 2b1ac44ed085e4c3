"""Worker processes, one a part: started fresh (spawn), told their part over a pipe, heard until they are done.

A process and not a thread, because sealing and cutting keep Python busy; spawn and not fork, because the object store's
client and libpq have threads and sockets of their own that must not be inherited.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from outlast.core.errors import BugError, OutlastError, TransientError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from outlast.capture.part import PartSpec, Report

_GRACE_S = 10


class Workers:
    """Processes that start at once (their imports take a moment) and each run one part when it is given."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes: list[SpawnProcess] = []
        self._pipes: list[Connection] = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), name=f"outlast part {number}", daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def run(self, parts: Sequence[PartSpec], report: Report, meanwhile: Callable[[], None]) -> None:
        """Run the parts, one a process, and `meanwhile` here. The first failure ends all of them and is raised."""
        for pipe, part in zip(self._pipes, parts, strict=False):
            try:
                pipe.send(part)
            except BrokenPipeError as error:
                raise _killed() from error
        meanwhile()
        open_pipes = self._pipes[: len(parts)]
        while open_pipes:
            for ready in wait(open_pipes):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except (EOFError, ConnectionResetError) as error:
                    raise _killed() from error
                if message is None:
                    open_pipes.remove(ready)
                elif isinstance(message, Exception):
                    raise message
                else:
                    report(message)

    def close(self) -> None:
        """End whatever still runs. What a part had put by then lies unreferenced in the vault."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(0 if process.exitcode is None else None)
            if process.exitcode is None:
                process.terminate()
                process.join(_GRACE_S)
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()


def _killed() -> TransientError:
    return TransientError(
        "a worker process of this backup was killed (out of memory?)",
        hint="See dmesg; run the same command again: it takes up what was done.",
    )


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 32 * 1024 * 1024


def _keep_freed_memory() -> None:
    """Let blocks of rows be laid where the last ones lay. The C library would give each one back to the kernel and ask
    for zeroed pages anew, a third of what joining, compressing and sealing cost."""
    try:
        mallopt = ctypes.CDLL(None).mallopt  # glibc's; other C libraries have no such habit
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def prepare_for_rows() -> None:
    """For a process through which rows pass by the million, none of them part of a cycle: looking for cycles every few
    hundred is for nothing."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    _keep_freed_memory()


def _work(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    from outlast.capture.part import capture_part

    prepare_for_rows()
    try:
        part = pipe.recv()
        capture_part(part, pipe.send)
        pipe.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # the parent is gone, or wants no more of us
    except OutlastError as error:
        pipe.send(error)
    except Exception as error:  # noqa: BLE001 - told to the parent, whose error it becomes
        pipe.send(BugError(f"a worker process failed: {type(error).__name__}", hint="Please report this."))
