"""What was read last and may be read again soon, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")


class Recent(Generic[K]):
    """The newest values by key, as many as fit into `size_bytes_max`, but always the last one. Not locked."""

    def __init__(self, size_bytes_max: int) -> None:
        self._size_bytes_max = size_bytes_max
        self._size_bytes = 0
        self._values: OrderedDict[K, bytes] = OrderedDict()

    def get(self, key: K) -> bytes | None:
        return self._values.get(key)

    def keep(self, key: K, value: bytes) -> None:
        self._size_bytes += len(value) - len(self._values.pop(key, b""))
        self._values[key] = value
        while self._size_bytes > self._size_bytes_max and len(self._values) > 1:
            _, oldest = self._values.popitem(last=False)
            self._size_bytes -= len(oldest)
