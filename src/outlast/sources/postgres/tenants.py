"""Who the tenants are: every key of the tenant table, with its label."""

from __future__ import annotations

import psycopg
from psycopg import sql

from outlast.core.tenant import Tenant, TenantKey
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session


def read_tenants(session: Session, catalog: Catalog) -> dict[TenantKey, Tenant]:
    """Every tenant of the tenant table, by key, at the session's snapshot."""
    label = sql.Identifier(catalog.tenant_label) if catalog.tenant_label else sql.SQL("NULL")
    query = sql.SQL("SELECT {}::text, {}::text FROM {}").format(
        sql.Identifier(catalog.tenant_key), label, identifier(catalog.tenant_table)
    )
    try:
        found = session.execute(query).fetchall()
    except psycopg.Error as error:
        raise explain(error, f"read the tenants in {catalog.tenant_table}") from error
    return {TenantKey(key): Tenant(TenantKey(key), name) for key, name in found}
