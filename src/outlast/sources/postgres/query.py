"""How a table is read: the columns, the joins by which a row finds its tenant, and the order rows come in.

The order is one that Python computes too (core/row.py): integers by number, everything else by the bytes of the text
that COPY sends. A tenant filter is never put under a COLLATE, or its index would be lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from outlast.core.errors import BugError
from outlast.core.row import KeyKind
from outlast.core.table import Column, OwnershipKind, Step, Table, TableName
from outlast.core.tenant import ORPHAN, RESERVED, TenantKey
from outlast.sources.source import Slice

_ORDERED_BY_BYTES = ("text", "character varying", "name")
_INTEGERS = ("smallint", "integer", "bigint")
_EQUAL_OPERATOR = "pg_catalog.="
_EQUAL = sql.SQL("{} OPERATOR(pg_catalog.=) {}")
_BYTE_ORDER = sql.SQL('{} COLLATE "C"')


def identifier(name: TableName) -> sql.Identifier:
    return sql.Identifier(name.schema, name.name)


def column(name: str) -> sql.Composed:
    """A column of the table that is read; it is always called `t`."""
    return sql.SQL("{}.{}").format(sql.Identifier("t"), sql.Identifier(name))


def select_list(table: Table) -> sql.Composed:
    return sql.SQL(", ").join([column(one.name) for one in table.columns])


def _equal(left: sql.Composable, operator: str, right: sql.Composable) -> sql.Composed:
    schema, _, symbol = operator.rpartition(".")
    # An operator's name is made of symbols only, and comes from the catalog: there is nothing in it to quote.
    return sql.SQL("{} OPERATOR({}.{}) {}").format(left, sql.Identifier(schema), sql.SQL(symbol), right)


def source(name: TableName, paths: Mapping[str, Sequence[Step]], *, only: bool = False) -> sql.Composed:
    """FROM clause: a table as `t`, and a LEFT JOIN for each step of each path: `p1`, `p2` … for the path called p."""
    parts: list[sql.Composable] = [sql.SQL("FROM {}{} AS t").format(_only(only=only), identifier(name))]
    for alias, path in paths.items():
        here = "t"
        for number, step in enumerate(path, start=1):
            there = f"{alias}{number}"
            operators = step.operators or (_EQUAL_OPERATOR,) * len(step.columns)
            matches = sql.SQL(" AND ").join(
                [
                    _equal(sql.Identifier(here, ours), operator, sql.Identifier(there, theirs))
                    for ours, operator, theirs in zip(step.columns, operators, step.to_columns, strict=True)
                ]
            )
            parts.append(
                sql.SQL("LEFT JOIN {}{} AS {} ON {}").format(
                    _only(only=step.only), identifier(step.to), sql.Identifier(there), matches
                )
            )
            here = there
    return sql.SQL(" ").join(parts)


def _only(*, only: bool) -> sql.SQL:
    return sql.SQL("ONLY ") if only else sql.SQL("")


def _source(table: Table) -> sql.Composed:
    return source(table.name, {"p": table.ownership.path}, only=table.only)


def tenant_expression(table: Table) -> sql.Composed | None:
    """The tenant's key as the source's own type; None for a table that no tenant owns."""
    ownership = table.ownership
    if ownership.kind is not OwnershipKind.OWNED:
        return None
    if ownership.tenant_column is None:
        raise BugError(f"table {table.name} is owned but has no tenant column")
    return owner("p", ownership.path, ownership.tenant_column)


def owner(alias: str, path: Sequence[Step], tenant_column: str) -> sql.Composed:
    """The tenant's key at the end of a path that `source` joined under this alias."""
    here = f"{alias}{len(path)}" if path else "t"
    return sql.SQL("{}").format(sql.Identifier(here, tenant_column))


def _ordered(one: Column) -> list[sql.Composable]:
    """ORDER BY terms of one column, as core/row.py orders it: NULLs last, then by number or by bytes."""
    name = column(one.name)
    nulls = [] if one.not_null else [sql.SQL("pg_catalog.num_nulls({})").format(name)]
    return [*nulls, _by_bytes(one)]


def _by_bytes(one: Column) -> sql.Composed:
    name = column(one.name)
    base = one.type.partition("(")[0]
    if base == "uuid":
        return name  # its own order is that of its text
    if base in _ORDERED_BY_BYTES:
        return _BYTE_ORDER.format(name)
    # format() calls the type's output function, as COPY does; a cast to text differs for boolean, inet and char(n)
    return _BYTE_ORDER.format(sql.SQL("pg_catalog.format('%s', {})").format(name))


def _key_terms(table: Table) -> list[sql.Composable]:
    by_name = {one.name: one for one in table.columns}
    if not table.key:
        return [term for one in table.columns for term in _ordered(one)]
    terms: list[sql.Composable] = []
    for name, kind in zip(table.key, table.key_kinds, strict=True):
        terms += [column(name)] if kind is KeyKind.INTEGER else _ordered(by_name[name])
    return terms


def key_kind(tenant_key_type: str) -> KeyKind:
    """How tenants are ordered, by the type of their key."""
    return KeyKind.INTEGER if tenant_key_type in _INTEGERS else KeyKind.TEXT


def _tenant_order(tenant: sql.Composed, tenant_key_type: str) -> sql.Composed:
    if tenant_key_type in (*_INTEGERS, "uuid"):
        return tenant
    return _BYTE_ORDER.format(sql.SQL("{}::text").format(tenant))


def _tenant_text(table: Table, tenant: sql.Composed, tenant_key_type: str) -> sql.Composable:
    """The tenant's key as the first field of a row: as text, but without a cast where COPY sends the same anyway.

    A cast makes a value of varying length of it, which the sort carries in front of everything that it compares. What a
    path ends in can be compared with the tenant's key: with a number or a uuid, and then its text is the same as well.
    """
    types = {one.name: one.type.partition("(")[0] for one in table.columns}
    own = types.get(table.ownership.tenant_column or "")
    if table.ownership.path:
        own = tenant_key_type if tenant_key_type in (*_INTEGERS, "uuid") else None
    return tenant if own in (*_INTEGERS, *_ORDERED_BY_BYTES, "uuid") else sql.SQL("{}::text").format(tenant)


def array(values: Sequence[str], type_name: str) -> sql.Composed:
    """An array literal: COPY takes no parameters, and a list of thousands must not be thousands of tokens."""
    quoted = ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return sql.SQL("{}::{}[]").format(sql.Literal("{" + quoted + "}"), sql.SQL(type_name))


def _filter(
    tenant: sql.Composed | None, tenants: Sequence[TenantKey] | None, *, orphans: bool, key_type: str
) -> sql.Composed:
    if tenant is None or tenants is None:
        return sql.Composed([])
    choices: list[sql.Composable] = []
    if len(tenants) == 1:
        literal = sql.SQL("{}::{}").format(sql.Literal(tenants[0]), sql.SQL(key_type))
        choices.append(_EQUAL.format(tenant, literal))
    elif tenants:
        choices.append(sql.SQL("{} OPERATOR(pg_catalog.=) ANY ({})").format(tenant, array(tenants, key_type)))
    if orphans:
        choices.append(sql.SQL("{} IS NULL").format(tenant))
    if not choices:
        return sql.SQL(" WHERE false").format()
    return sql.SQL(" WHERE ") + sql.SQL(" OR ").join(choices)


def owned_rows(table: Table, tenant_key_type: str, tenants: Sequence[TenantKey]) -> sql.Composed:
    """FROM and WHERE of the rows that belong to these tenants; the table is called `t`."""
    orphans = ORPHAN in tenants
    named = [tenant for tenant in tenants if tenant not in RESERVED]
    chosen = _filter(tenant_expression(table), named, orphans=orphans, key_type=tenant_key_type)
    return _source(table) + sql.SQL(" ") + chosen


def _within(tenant: sql.Composed | None, slice_: Slice, key_type: str) -> sql.Composed:
    bounds = [
        sql.SQL("{} OPERATOR({}) {}").format(
            _tenant_order(tenant, key_type),
            sql.SQL(operator),
            sql.SQL("{}::{}").format(sql.Literal(bound), _bound_type(key_type)),
        )
        for operator, bound in (("pg_catalog.>=", slice_.first), ("pg_catalog.<", slice_.end))
        if tenant is not None and bound is not None
    ]
    if tenant is not None and slice_.strays:
        bounds = [sql.SQL("{} IS NULL").format(tenant)]
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(bounds) if bounds else sql.Composed([])


def _bound_type(key_type: str) -> sql.SQL:
    return sql.SQL(key_type if key_type in (*_INTEGERS, "uuid") else "text")


def rows_query(
    table: Table,
    tenant_key_type: str,
    tenants: Sequence[TenantKey] | Slice | None = None,
    *,
    orphans: bool = False,
) -> sql.Composed:
    """SELECT of the table's rows in (tenant, key) order. Owned tables have the tenant's key as text in front.

    `tenants` None means every row. `orphans` adds, to a list of tenants, the rows whose path to a tenant is broken.
    """
    tenant = tenant_expression(table)
    order = _key_terms(table)
    selected: sql.Composable = select_list(table)
    if tenant is not None:
        order.insert(0, _tenant_order(tenant, tenant_key_type))
        selected = sql.SQL("{}, {}").format(_tenant_text(table, tenant, tenant_key_type), selected)
    # A table of constants only has one row at the most to order; ORDER BY needs at least one term.
    ordered = sql.SQL(" ORDER BY ") + sql.SQL(", ").join(order) if order else sql.Composed([])
    return (
        sql.SQL("SELECT {} ").format(selected)
        + _source(table)
        + (
            _within(tenant, tenants, tenant_key_type)
            if isinstance(tenants, Slice)
            else _filter(tenant, tenants, orphans=orphans, key_type=tenant_key_type)
        )
        + ordered
    )


def count_query(table: Table) -> sql.Composed:
    """The number of all rows, without a look at whose they are."""
    return sql.SQL("SELECT count(*) ") + source(table.name, {}, only=table.only)


def sample_query(table: Table, percent: float) -> sql.Composed:
    """Per tenant: its key as text, and its rows in a sample of the table's pages."""
    tenant = tenant_expression(table)
    assert tenant is not None
    sampled = sql.SQL("SELECT {} AS tenant FROM {}{} AS t TABLESAMPLE SYSTEM ({})").format(
        tenant, _only(only=table.only), identifier(table.name), sql.Literal(percent)
    )
    return sql.SQL("SELECT tenant::text, count(*) FROM (") + sampled + sql.SQL(") AS sampled GROUP BY tenant")


def _newest(table: Table) -> sql.Composed:
    """How many transactions ago the row, or one that its path goes through, was written: the newest of them."""
    aliases = ["t", *(f"p{number}" for number in range(1, len(table.ownership.path) + 1))]
    ages = [sql.SQL("pg_catalog.age({}.xmin)").format(sql.Identifier(alias)) for alias in aliases]
    return ages[0] if len(ages) == 1 else sql.SQL("least({})").format(sql.SQL(", ").join(ages))


def fingerprint_query(
    table: Table, tenant_key_type: str, tenants: Sequence[TenantKey] | None = None, since: int | None = None
) -> sql.Composed:
    """Per tenant: its key as text, its rows, two sums over (row version, key) hashes, and whether any is newer than
    the transaction `since`, which is true where that is None. See sweep.fingerprints."""
    by_name = {one.name: one for one in table.columns}
    hashed: list[sql.Composable] = [sql.SQL("t.xmin")]
    if table.key:
        for name, kind in zip(table.key, table.key_kinds, strict=True):
            hashed.append(column(name) if kind is KeyKind.INTEGER else _by_bytes(by_name[name]))
    else:
        hashed += [sql.SQL("pg_catalog.format('%s', {})").format(column(one.name)) for one in table.columns]
        hashed += [sql.SQL("pg_catalog.num_nulls({})").format(column(one.name)) for one in table.columns]
    version = sql.SQL("pg_catalog.hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(hashed))
    tenant = tenant_expression(table)
    newest, newer = sql.SQL("NULL").format(), sql.SQL("true").format()
    if since is not None:
        newest = _newest(table)
        # Row versions carry 32 bits of the number. One that came round looks newer than it is, never older.
        newer = sql.SQL("min(newest) <= pg_catalog.age({}::pg_catalog.xid)").format(sql.Literal(str(since % (1 << 32))))
    return (
        sql.SQL("SELECT tenant::text, count(*), sum(version)::text, bit_xor(version), {} FROM (").format(newer)
        + sql.SQL("SELECT {} AS tenant, {} AS version, {} AS newest ").format(
            tenant or sql.SQL("NULL"), version, newest
        )
        + _source(table)
        + _filter(tenant, tenants, orphans=False, key_type=tenant_key_type)
        + sql.SQL(") AS versions GROUP BY tenant")
    )
