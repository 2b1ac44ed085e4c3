"""How busy a server is: what a restore holds back for."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class Load:
    """`lag_s`: of the standby furthest behind; None where there is none to be seen. `active`: sessions at work."""

    lag_s: float | None
    active: int


def read_load(connection: Session) -> Load:
    try:
        row = connection.execute(statement("load")).fetchone()
    except psycopg.Error as error:
        raise explain(error, "see how busy the server is") from error
    assert row is not None
    return Load(row[0], row[1])
