"""The database of a replay: made, filled, destroyed and judged by plain SQL, without any part of Outlast's own code."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import psycopg

ISSUES_PER_TENANT = 60


@dataclass(frozen=True, slots=True)
class Mark:
    """Rows of one tenant in one table, and a hash over them."""

    rows: int
    md5: str


Fingerprint = Mapping[tuple[str, str], Mark]
"""By tenant key and table."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A tenant that the script is going to destroy."""

    key: str
    slug: str


def build(url: str, *, tenants: int, seed: int) -> None:
    """Make the schema and fill it."""
    with psycopg.connect(url) as connection:
        connection.execute(_sql("schema.sql"))
        # One statement at a time: a parameter cannot stand in a text of several.
        for statement in _sql("fill.sql").split(";\n"):
            if statement.strip():
                parameters = {"tenants": tenants, "issues": tenants * ISSUES_PER_TENANT, "seed": seed}
                used = {name: value for name, value in parameters.items() if f"%({name})s" in statement}
                connection.execute(statement.encode(), used)


def choose(url: str, *, destroyed: int, seed: int) -> list[Doomed]:
    """Whom the script destroys: large and small ones alike, the same for the same seed."""
    with psycopg.connect(url) as connection:
        everyone = [
            Doomed(str(key), slug) for key, slug in connection.execute("SELECT id, slug FROM accounts ORDER BY id")
        ]
    chosen = random.Random(seed).sample(everyone, destroyed)  # noqa: S311 - repeatable on purpose; no secret
    return sorted(chosen, key=lambda tenant: int(tenant.key))


def destroy(url: str, doomed: Sequence[Doomed]) -> None:
    """Run the script, and commit."""
    with psycopg.connect(url) as connection:
        connection.execute(_sql("destroy.sql").encode(), {"doomed": [int(tenant.key) for tenant in doomed]})


def fingerprint(url: str) -> dict[tuple[str, str], Mark]:
    """Every tenant's rows of every table, as the server sees them now."""
    with psycopg.connect(url) as connection:
        found = connection.execute(_sql("fingerprint.sql").encode())
        return {(tenant, table): Mark(rows, md5) for tenant, table, rows, md5 in found}


def size_bytes(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


def _sql(name: str) -> str:
    return files("outlast.replay").joinpath(name).read_text(encoding="utf-8")
