"""How often Python looks for garbage while a stream of changes is read: its default costs half of the time of a busy
follower, and a sixth of a rehearsal's reading.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_COLLECT_AFTER = 50_000


@contextmanager
def rare_collections() -> Iterator[None]:
    """What is kept until a flush, or of a rehearsal, is no garbage: Python need not look it all through again and
    again for cycles."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
