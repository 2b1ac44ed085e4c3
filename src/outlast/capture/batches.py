"""Delivered transactions, cut into what is routed at a time.

Small ones are looked at together, so that the route map is asked once for all of them; large ones some changes at a
time. Each is given with its changes prepared, in the order of commit, to be routed before the next is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from outlast.capture.routing import Prepared, Router
from outlast.sources.postgres.transactions import Delivered, Transaction

BATCH_CHANGES = 2_000

Batch = tuple[Transaction, Iterable[list[Prepared]]]


def batches(router: Router, delivered: Sequence[Delivered]) -> Iterator[Batch]:
    """Every transaction with its changes. Messages between transactions are passed over: nobody of ours writes any."""
    waiting: list[tuple[Transaction, list[Prepared]]] = []
    count = 0
    for item in delivered:
        if not isinstance(item, Transaction):
            continue
        alone = item.streamed or item.messages or item.change_count > BATCH_CHANGES
        if alone or count >= BATCH_CHANGES:
            yield from _together(router, waiting)
            count = 0
        if alone:
            yield item, _in_blocks(router, item)
            continue
        prepared: list[Prepared] = []
        for block in item.blocks():
            prepared = prepared + router.prepare(*block) if prepared else router.prepare(*block)
        waiting.append((item, prepared))
        count += len(prepared)
    yield from _together(router, waiting)


def _together(router: Router, waiting: list[tuple[Transaction, list[Prepared]]]) -> Iterator[Batch]:
    router.fetch(one for _, prepared in waiting for one in prepared)
    for transaction, prepared in waiting:
        yield transaction, [prepared] if prepared else []
    waiting.clear()


def _in_blocks(router: Router, transaction: Transaction) -> Iterator[list[Prepared]]:
    for relations, changes in transaction.blocks():
        for start in range(0, len(changes), BATCH_CHANGES):
            prepared = router.prepare(relations, changes[start : start + BATCH_CHANGES])
            router.fetch(prepared)
            yield prepared
