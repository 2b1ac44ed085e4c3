"""The named SQL statements of this adapter, one `.sql` file each, whose first comment says what it is for."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def statement(name: str) -> bytes:
    """The SQL of `sql/<name>.sql`, as bytes: it is constant text of ours, never composed of input."""
    return (resources.files("outlast.sources.postgres") / "sql" / f"{name}.sql").read_bytes()
