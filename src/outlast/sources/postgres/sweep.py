"""The sweep: rows out of a table in (tenant, key) order, cut by tenant as they arrive.

A row stays the bytes that COPY sent. Python touches blocks, not rows: a block's tenant is proven by the prefix that is
taken off every line of it, in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from outlast.core.errors import BugError, Refused, SourceError
from outlast.core.row import NULL, unescape
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import ORPHAN, RESERVED, SHARED, TenantKey
from outlast.sources.postgres.copy_out import Lines, copy_out
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.query import count_query, fingerprint_query, rows_query, sample_query
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.snapshot import read_in_bulk
from outlast.sources.source import Block as Block
from outlast.sources.source import Fingerprint as Fingerprint
from outlast.sources.source import Slice

if TYPE_CHECKING:
    from outlast.sources.postgres.schema import Catalog


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
    for lines in copy_out(connection, statement, f"read table {table.name}"):
        if owned:
            yield from _by_tenant(lines, table)
        else:
            bare = map(itemgetter(slice(lines.head, None)), lines.rows)
            yield Block(SHARED, b"\n".join([*bare, b""]), len(lines.rows))


def _by_tenant(lines: Lines, table: Table) -> Iterator[Block]:
    rows, head = lines.rows, lines.head
    start, count = 0, len(rows)
    while start < count:
        prefix = rows[start][head : rows[start].index(b"\t", head) + 1]
        end = _end_of(lines, start, prefix)
        tenants_own = rows if end - start == count else rows[start:end]
        yield Block(_tenant(prefix, table), _without(prefix, tenants_own, head, table), end - start)
        start = end


def _end_of(lines: Lines, start: int, prefix: bytes) -> int:
    """Where the tenant's rows end: they stand together, so that a bisection finds it."""
    rows, head = lines.rows, lines.head
    size = head + len(prefix)
    low, high = start + 1, len(rows)
    if rows[high - 1][head:size] == prefix:
        return high
    while low < high:
        middle = (low + high) // 2
        if rows[middle][head:size] == prefix:
            low = middle + 1
        else:
            high = middle
    return low


def _without(prefix: bytes, rows: list[bytes], head: int, table: Table) -> bytes:
    """The rows without the prefix, which is looked for before every one of them."""
    size = head + len(prefix)
    # By itemgetter and map, whose loops are not Python's: a third less for each of millions of rows.
    if list(map(itemgetter(slice(head, size)), rows)).count(prefix) != len(rows):
        raise BugError(f"rows of table {table.name} did not arrive ordered by tenant")
    return b"\n".join([*map(itemgetter(slice(size, None)), rows), b""])


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
