"""What runs beside the answering of requests: forwarders, watch, paging; only in the instance that has the lead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

from outlast.relay.forwarding import Forwarder, Watch
from outlast.state.lead import Duty, Lead, lead_of
from outlast.web.services import Services

_ASKED_EVERY_S = 0.5

log = logging.getLogger("outlast.web")


async def lead(found: Services) -> None:
    """Run the loops whenever the lead is ours, until cancelled."""
    one = lead_of(found.database, Duty.RELAY)
    try:
        while True:
            if await asyncio.to_thread(one.take):
                await _work(found, one)
                log.warning("the lead is lost: another instance passes on and pages")
            await asyncio.sleep(_ASKED_EVERY_S)
    finally:
        one.leave()


async def _work(found: Services, one: Lead) -> None:
    loops: list[Coroutine[Any, Any, object]] = [
        Forwarder(line, found.database, found.commits, found.pager).run() for line in found.lines
    ]
    loops.append(Watch(found.lines, found.database, found.commits, found.pager, switched=found.switched).run())
    loops += [start() for start in found.background]  # type: ignore[misc]
    tasks = [asyncio.create_task(_kept(each)) for each in loops]
    try:
        while await asyncio.to_thread(one.take):
            await asyncio.sleep(_ASKED_EVERY_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _kept(work: Coroutine[Any, Any, object]) -> None:
    """A loop that ends by a bug takes the process with it: it is started anew, and nobody waits in silence."""
    try:
        await work
    except Exception:
        log.exception("a loop of the relay ended; so does the process")
        os.kill(os.getpid(), signal.SIGTERM)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel it, and wait until it has cleaned up."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
