"""Which of a tenant's rows were written since a snapshot: for naming what made a plan stale."""

from __future__ import annotations

from psycopg import sql

from outlast.core.table import Table
from outlast.core.tenant import TenantKey
from outlast.sources.postgres.query import owned_rows
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_proof import shown_key
from outlast.sources.postgres.write_stage import explained

_SAMPLES_MAX = 10

# A row's xmin has 32 bits: it is the newest transaction of that number which is not in the future.
_XMIN = (
    "(newest - ((newest % 4294967296) - t.xmin::pg_catalog.text::pg_catalog.int8 + 4294967296) % 4294967296)"
    "::pg_catalog.text::pg_catalog.xid8"
)


def rows_since(
    connection: Session, catalog: Catalog, table: Table, tenant: TenantKey, snapshot: str
) -> tuple[int, tuple[str, ...]]:
    """How many live rows of the tenant were inserted or updated since the snapshot (pg_snapshot), and keys of some."""
    owned = owned_rows(table, catalog.tenant_key_type, [tenant])
    query = sql.SQL(
        "SELECT count(*), (pg_catalog.array_agg(shown ORDER BY shown))[1:{most}] FROM ("
        "SELECT {shown} AS shown, {xmin} AS xid {owned}) AS r WHERE NOT"
        " pg_catalog.pg_visible_in_snapshot(r.xid, {snapshot}::pg_catalog.pg_snapshot)"
    )
    newest = sql.SQL("pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8")
    xmin = sql.SQL(_XMIN.replace("newest", "{newest}")).format(newest=newest)
    with explained(f"look for changed rows of table {table.name}"):
        row = connection.execute(
            query.format(
                most=sql.Literal(_SAMPLES_MAX),
                shown=shown_key(table, "t"),
                xmin=xmin,
                owned=owned,
                snapshot=sql.Literal(snapshot),
            )
        ).fetchone()
    assert row is not None
    return int(row[0]), tuple(key for key in row[1] or () if key is not None)
