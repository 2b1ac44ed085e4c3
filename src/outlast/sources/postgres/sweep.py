"""The sweep: rows out of a table in (tenant, key) order, cut by tenant as they arrive.

A row stays the bytes that COPY sent. Python touches blocks, not rows: each block's tenant is proven by comparing its
length before and after the tenant's prefix is taken off every line.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq, sql

from outlast.core.errors import BugError, Refused, SourceError
from outlast.core.row import NULL, unescape
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import ORPHAN, RESERVED, SHARED, TenantKey
from outlast.sources.postgres.query import count_query, fingerprint_query, rows_query, sample_query
from outlast.sources.postgres.session import Session, explain
from outlast.sources.postgres.snapshot import read_in_bulk
from outlast.sources.source import Block as Block
from outlast.sources.source import Fingerprint as Fingerprint
from outlast.sources.source import Slice

if TYPE_CHECKING:
    from outlast.sources.postgres.schema import Catalog

_BLOCK_ROWS_MAX = 2000
_BLOCK_BYTES_MAX = 512 * 1024


def sweep(
    connection: Session,
    catalog: Catalog,
    table: Table,
    tenants: Sequence[TenantKey] | Slice | None = None,
    *,
    orphans: bool = False,
) -> Iterator[Block]:
    """Read a table's rows, of the tenants named (None: all, orphans included), as blocks in (tenant, key) order.

    Runs inside the caller's transaction and sees its snapshot. All rows of a shared table belong to `@shared`.
    Abandoning the iterator cancels the COPY. Raises an OutlastError that names the table.
    """
    query = rows_query(table, catalog.tenant_key_type, tenants, orphans=orphans)
    statement = b"COPY (" + query.as_bytes(connection) + b") TO STDOUT"
    owned = table.ownership.kind is OwnershipKind.OWNED
    for rows in _copied(connection, statement, table):
        if owned:
            yield from _by_tenant(rows, table)
        else:
            yield Block(SHARED, b"".join(rows), len(rows))


def _copied(connection: Session, statement: bytes, table: Table) -> Iterator[list[memoryview]]:
    """The rows of a COPY, in lists of a bounded size."""
    pgconn = connection.pgconn
    _start(connection, statement, table)
    get = pgconn.get_copy_data
    rows: list[memoryview] = []
    size = before = 0
    complete = False
    try:
        while True:
            length, row = get(1)
            if length > 0:
                rows.append(row)
                size += length
                if size >= _BLOCK_BYTES_MAX or len(rows) >= _BLOCK_ROWS_MAX:
                    yield rows
                    rows, size = [], 0
            elif length == 0:
                if size == before:  # nothing came since the last time: until then it pays to look without waiting
                    _wait(pgconn)
                before = size
                pgconn.consume_input()
            else:
                break
        if rows:
            yield rows
        _finish(connection, table)
        complete = True
    except psycopg.Error as error:
        complete = True  # nothing is left to cancel
        raise explain(error, f"read table {table.name}") from error
    finally:
        if not complete and pgconn.status == pq.ConnStatus.OK:
            pgconn.get_cancel().cancel()
            while pgconn.get_copy_data(0)[0] > 0:
                pass
            while pgconn.get_result():
                pass


def _start(connection: Session, statement: bytes, table: Table) -> None:
    pgconn = connection.pgconn
    if pgconn.transaction_status not in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.IDLE):
        raise BugError(f"cannot read table {table.name}: the connection is busy or its transaction has failed")
    doing = f"read table {table.name}"
    try:
        pgconn.send_query(statement)
        result = _result(pgconn)
    except psycopg.Error as error:
        raise explain(error, doing) from error
    if result is None or result.status != pq.ExecStatus.COPY_OUT:
        failed = psycopg.errors.error_from_result(result) if result else psycopg.OperationalError("no answer")
        while _result(pgconn):
            pass
        raise explain(failed, doing) from failed


def _result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        _wait(pgconn)
        pgconn.consume_input()
    return pgconn.get_result()


def _wait(pgconn: pq.abc.PGconn) -> None:
    # Waiting here, and not inside libpq, is what lets an interrupt from the keyboard through.
    select.select([pgconn.socket], [], [])


def _finish(connection: Session, table: Table) -> None:
    pgconn = connection.pgconn
    failed: psycopg.Error | None = None
    while (result := _result(pgconn)) is not None:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            failed = psycopg.errors.error_from_result(result)
    if failed is not None:
        raise explain(failed, f"read table {table.name}") from failed


def _by_tenant(rows: list[memoryview], table: Table) -> Iterator[Block]:
    start, count = 0, len(rows)
    while start < count:
        first = bytes(rows[start])
        prefix = first[: first.index(b"\t") + 1]
        end = _end_of(rows, start, prefix)
        yield Block(_tenant(prefix, table), _without(prefix, rows[start:end], table), end - start)
        start = end


def _end_of(rows: list[memoryview], start: int, prefix: bytes) -> int:
    """Where the tenant's rows end: they stand together, so that a bisection finds it."""
    size = len(prefix)
    low, high = start + 1, len(rows)
    if rows[high - 1][:size] == prefix:
        return high
    while low < high:
        middle = (low + high) // 2
        if rows[middle][:size] == prefix:
            low = middle + 1
        else:
            high = middle
    return low


def _without(prefix: bytes, rows: list[memoryview], table: Table) -> bytes:
    """The rows without the prefix, which is proven to have stood before every one of them.

    A newline is nowhere but at a row's end: so as many parts as rows, and the prefix before the first, is one for each.
    """
    parts = b"".join(rows).split(b"\n" + prefix)
    if len(parts) != len(rows) or not parts[0].startswith(prefix):
        raise BugError(f"rows of table {table.name} did not arrive ordered by tenant")
    parts[0] = parts[0][len(prefix) :]
    return b"\n".join(parts)


def _tenant(prefix: bytes, table: Table) -> TenantKey:
    field = prefix[:-1]
    if field == NULL:
        return ORPHAN
    tenant = TenantKey(unescape(field).decode("utf-8", "surrogateescape"))
    if tenant in RESERVED:
        raise Refused(
            f"cannot read table {table.name}: a tenant's key is {tenant!r}, a name that Outlast keeps for itself",
            hint="Rename that tenant's key; @shared, @orphan, @schema and @all are reserved.",
        )
    return tenant


def fingerprints(
    connection: Session,
    catalog: Catalog,
    table: Table,
    tenants: Sequence[TenantKey] | None = None,
    since: int | None = None,
) -> dict[TenantKey, Fingerprint]:
    """Which row versions each tenant has in a table, computed by the server without sending a row.

    Two equal fingerprints mean equal rows, as long as the table's signature is equal too, the server is the same
    cluster on the same timeline, and fewer than 2^31 transactions passed (docs/ARCHITECTURE.md, "Why an unchanged
    fingerprint is an unchanged run"). Callers must check those. `since` is a snapshot's 64-bit xmin: what is not newer
    was there when that snapshot was taken, and found its tenant then as it does now.
    """
    found = _asked(connection, fingerprint_query(table, catalog.tenant_key_type, tenants, since), table)
    owned = table.ownership.kind is OwnershipKind.OWNED
    result: dict[TenantKey, Fingerprint] = {}
    for tenant, rows, total, mixed, newer in found:
        if not isinstance(tenant, str | None) or not isinstance(rows, int):
            raise SourceError(f"cannot read table {table.name}: the server answered with unexpected types")
        key = SHARED if not owned else ORPHAN if tenant is None else TenantKey(tenant)
        # A row whose path breaks off may have had a tenant before: the parent that is gone cannot say so.
        strayed = key == ORPHAN and bool(table.ownership.path)
        result[key] = Fingerprint(rows, f"{total}/{mixed}", newer is not False or strayed)
    return result


def count_rows(connection: Session, table: Table) -> int:
    """All rows of a table, counted over the table itself and by no index."""
    read_in_bulk(connection, bulk=True)
    ((count,),) = _asked(connection, count_query(table), table)
    assert isinstance(count, int)
    return count


def sample_tenants(connection: Session, table: Table, percent: float) -> dict[TenantKey, int]:
    """The tenants met in a sample of a table's pages, and how often. Only for a table that has the tenant's column."""
    found = _asked(connection, sample_query(table, percent), table)
    return {TenantKey(tenant): rows for tenant, rows in found if tenant is not None}


def _asked(connection: Session, query: sql.Composed, table: Table) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(query).fetchall()
    except psycopg.Error as error:
        raise explain(error, f"read table {table.name}") from error
