"""Which database a session is in: the cluster's own number and the database's oid, as before-images name it."""

from __future__ import annotations

import psycopg

from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement


def which_database(session: Session) -> str:
    """`7551…/16384`; without the number where the role may not read it."""
    try:
        server = session.execute(statement("catalog_server")).fetchone()
        assert server is not None
        oid, may_read_control = server[1], server[5]
        number = session.execute(statement("catalog_identifier")).fetchone() if may_read_control else None
    except psycopg.Error as error:
        raise explain(error, "ask which database this is") from error
    return f"{number[0] if number else ''}/{oid}"


def is_same_database(one: str, other: str) -> bool:
    """Whether two may be the same: a number that one of the roles could not read does not count."""
    (number, oid), (other_number, other_oid) = (text.split("/", 1) for text in (one, other))
    return oid == other_oid and (number == other_number or not number or not other_number)
