"""How each table's rows find their tenant in the change stream, decided once from the catalog. Pure.

A row either carries its tenant's key, or points at a row of another table that leads further. Values that are equal for
the server but not the same text (numeric, char(n), citext …) are brought to one form before they are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from outlast.core.entries import Edges
from outlast.core.table import OwnershipKind, Table, TableName
from outlast.sources.postgres.schema import Catalog

Canonical = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Referenced:
    """Columns of a table by which others point at its rows. `lasting`: the server keeps a row that is pointed at."""

    columns: tuple[str, ...]
    canonical: tuple[Canonical | None, ...]
    lasting: bool

    @property
    def exact(self) -> bool:
        return not any(self.canonical)


@dataclass(frozen=True, slots=True)
class Pointer:
    """By these columns a row points at its parent: `to` and its `referenced` columns, in that order. `sure`: the server
    has seen to it that the parent of every row is there (a key that is NOT VALID says nothing of older rows)."""

    columns: tuple[str, ...]
    to: TableName
    referenced: Referenced
    sure: bool = False


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One root table. Neither `tenant_column` nor `pointer`: shared by all tenants."""

    table: Table
    tenant_column: str | None
    pointer: Pointer | None
    referenced: tuple[Referenced, ...]
    label_column: str | None = None  # of the tenant table
    rooted: bool = False  # the server holds every row's tenant column to the tenant table


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """All tables that are followed, by name, and how their rows hang together."""

    tables: Mapping[TableName, TablePlan]
    edges: Edges
    ignored: frozenset[TableName] = frozenset()

    def ways(self) -> dict[str, str]:
        """In words, by table, the way by which its rows find their tenant, through all tables between, and by which
        columns they are pointed at: where two looks give the same words, what the map has by the one holds for the
        other as well."""
        return {str(name): " ".join([*self._pointed_at(name), *self._steps(name)]) for name in self.tables}

    def _pointed_at(self, name: TableName) -> Iterator[str]:
        for referenced in self.tables[name].referenced:
            yield f"has {', '.join(referenced.columns)}"

    def _steps(self, name: TableName) -> Iterator[str]:
        seen = set[TableName]()
        while name not in seen:
            seen.add(name)
            plan = self.tables.get(name)
            if plan is None or plan.pointer is None:
                yield "unknown" if plan is None else f"by {plan.tenant_column}"
                return
            to = plan.pointer
            yield f"through {', '.join(to.columns)} to {to.to} ({', '.join(to.referenced.columns)})"
            name = to.to

    def reach(self, name: TableName) -> set[TableName]:
        """The tables whose rows find their tenant through this one."""
        found = set[TableName]()
        for one in self.tables:
            seen, at = {one}, one
            while (plan := self.tables.get(at)) is not None and plan.pointer is not None:
                at = plan.pointer.to
                if at == name:
                    found.add(one)
                if at in seen:
                    break
                seen.add(at)
        return found


def plan_routes(catalog: Catalog) -> RoutePlan:
    """From the catalog as outlast.toml classifies it. Tables that are ignored or not decided are left out."""
    types = {table.name: {column.name: column.type for column in table.columns} for table in catalog.tables}
    pointers: dict[TableName, Pointer] = {}
    for table in catalog.owned:
        if table.ownership.path:
            pointers[table.name] = _pointer(catalog, table, types)
    referenced: dict[TableName, list[Referenced]] = {}
    for pointer in pointers.values():
        known = referenced.setdefault(pointer.to, [])
        same = next((one for one in known if one.columns == pointer.referenced.columns), None)
        if same is None:
            known.append(pointer.referenced)
        elif same.lasting and not pointer.referenced.lasting:
            known[known.index(same)] = pointer.referenced
    tables = {
        table.name: TablePlan(
            table,
            None if table.ownership.path else table.ownership.tenant_column,
            pointers.get(table.name),
            tuple(referenced.get(table.name, ())),
            catalog.tenant_label if table.name == catalog.tenant_table else None,
            _rooted(catalog, table),
        )
        for table in catalog.tables
        if table.ownership.kind in (OwnershipKind.OWNED, OwnershipKind.SHARED)
    }
    edges = tuple(
        (name, pointer.columns, pointer.to, pointer.referenced.columns) for name, pointer in sorted(pointers.items())
    )
    ignored = frozenset(table.name for table in catalog.tables if table.ownership.kind is OwnershipKind.IGNORED)
    return RoutePlan(tables, Edges(edges), ignored)


def _rooted(catalog: Catalog, table: Table) -> bool:
    column = (table.ownership.tenant_column,)
    return table.name == catalog.tenant_table or any(
        key.table == table.name and key.columns == column and key.references == catalog.tenant_table and key.enforced
        for key in catalog.foreign_keys
    )


def _pointer(catalog: Catalog, table: Table, types: Mapping[TableName, Mapping[str, str]]) -> Pointer:
    step = table.ownership.path[0]
    pairs = sorted(zip(step.to_columns, step.columns, strict=True))  # one order of columns, whoever points at them
    theirs, ours = tuple(one for one, _ in pairs), tuple(other for _, other in pairs)
    canonical = tuple(
        _canonical(types[step.to].get(one, ""), types[table.name].get(other, ""))
        for one, other in zip(theirs, ours, strict=True)
    )
    keys = [
        key
        for key in catalog.foreign_keys
        if key.table == table.name and key.enforced and key.references == step.to and set(key.columns) == set(ours)
    ]
    sure = any(key.validated and not key.period for key in keys)
    return Pointer(ours, step.to, Referenced(theirs, canonical, lasting=bool(keys)), sure)


def _canonical(*types: str) -> Canonical | None:
    """How two columns that are compared come to have one text; None where equal is the same text anyway."""
    bases = {kind.partition("(")[0].rpartition(".")[2].strip('"') for kind in types}
    for base, canonical in _CANONICAL.items():
        if base in bases:
            return canonical
    return None


def _number(text: bytes) -> bytes:
    try:
        value = Decimal(text.decode("ascii"))
    except (InvalidOperation, UnicodeDecodeError):
        return text
    return format(value.normalize() + 0, "f").encode() if value.is_finite() else text


def _float(text: bytes) -> bytes:
    return b"0" if text == b"-0" else text


def _padded(text: bytes) -> bytes:
    return text.rstrip(b" ")


def _caseless(text: bytes) -> bytes:
    return text.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")


_CANONICAL: Mapping[str, Canonical] = {
    "numeric": _number,
    "citext": _caseless,
    "character": _padded,
    "double precision": _float,
    "real": _float,
}
