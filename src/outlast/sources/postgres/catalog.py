"""The catalog of a database, read in a handful of set-based queries and classified: never one query a table.

Owns what the server's catalog means for Outlast: keys, foreign keys, sequences, triggers, and what must be said
aloud. Who owns a table is ownership.py's, when a row could read differently is signature.py's. The signature of a
table is defined there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

from outlast.core.errors import UsageError
from outlast.core.row import KeyKind
from outlast.core.table import Ownership, Table, TableName
from outlast.sources.postgres import notices
from outlast.sources.postgres.classification import Classification
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.facts import Facts, Relation, read_facts
from outlast.sources.postgres.graph import Graph, Subject
from outlast.sources.postgres.ownership import derive, resolve
from outlast.sources.postgres.schema import Catalog, UniqueIndex
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.signature import Storage, signature
from outlast.sources.postgres.ties import Ask, settle


@dataclass(frozen=True, slots=True)
class OwnershipSettings:
    """What outlast.toml says about tenants. `tables` None (only `init`) takes the proposal for every table; otherwise a
    table that is not listed is undecided. `tenant_key` is needed only where the tenant table has several keys."""

    tenant_table: str
    tenant_label: str | None = None
    tables: Mapping[str, str] | None = field(default=None)
    tenant_key: str | None = None


def read_catalog(connection: Session, settings: OwnershipSettings, ask: Ask | None = None) -> Catalog:
    """Read and classify the database that `connection` is in, inside its transaction.

    Where the proposal is taken, `ask` lets the data settle ties between paths (agreement.py); else they stay open.
    Raises UsageError where the settings name what does not exist, SourceError where the catalog cannot be read. A table
    that is not decided is no error here: it is a notice of level "error", and stops a backup.
    """
    try:
        facts = read_facts(connection)
    except psycopg.Error as error:
        raise explain(error, "read the catalog") from error
    return classify(facts, settings, ask)


def classify(facts: Facts, settings: OwnershipSettings, ask: Ask | None = None) -> Catalog:
    """The catalog out of what was read. Pure, apart from `ask` and the random part of a signature that promises
    nothing."""
    tenant = _tenant_relation(facts, settings)
    key = _tenant_key(facts, tenant, settings)
    _check_label(facts, tenant, settings)
    graph = _graph(facts, tenant, key)
    if settings.tables is None:
        classified = derive(graph) if ask is None else settle(graph, ask)
        absent: tuple[str, ...] = ()
    else:
        classified, absent = _listed(graph, settings.tables)
    owners = resolve(graph, classified)
    tables = tuple(_table(facts, relation, owners) for relation in facts.tables)
    column = facts.column(tenant.oid, key)
    return Catalog(
        database=facts.database,
        database_oid=facts.database_oid,
        server_version=facts.server_version,
        system_identifier=facts.system_identifier,
        timeline=facts.timeline,
        encoding=facts.encoding,
        tenant_table=tenant.name,
        tenant_key=key,
        tenant_key_type=column.type,
        tenant_label=settings.tenant_label,
        tables=tables,
        foreign_keys=facts.foreign_keys,
        unique_indexes=_unique_indexes(facts),
        sequences=facts.sequences,
        triggers=facts.triggers,
        leading_columns=tuple(
            (facts.by_oid[index.table_oid].name, index.column_names[0])
            for index in facts.indexes
            if index.btree and index.predicate is None and index.column_names
        ),
        notices=notices.of_catalog(facts, tables, absent),
    )


def _tenant_relation(facts: Facts, settings: OwnershipSettings) -> Relation:
    try:
        wanted = TableName.parse(settings.tenant_table)
    except ValueError as error:
        raise UsageError(
            f"the tenant table {settings.tenant_table!r} is no table name", hint="Write table or schema.table."
        ) from error
    for relation in facts.tables:
        if relation.name == wanted:
            return relation
    bare = [relation for relation in facts.tables if relation.name.name == settings.tenant_table]
    if len(bare) == 1:
        return bare[0]
    named = ", ".join(str(relation.name) for relation in (bare or facts.tables)[:10])
    raise UsageError(
        f"there is no table {wanted} in database {facts.database}"
        if not bare
        else f"several schemas have a table {settings.tenant_table}",
        hint=f"Name the table that has one row a customer. There are: {named}." if named else "The database is empty.",
    )


_EXACT_TYPES = frozenset({"smallint", "integer", "bigint", "uuid", "text", "character varying", "name"})
_KEY_TYPES = _EXACT_TYPES | {"character", "numeric", "citext"}


def _tenant_key(facts: Facts, tenant: Relation, settings: OwnershipSettings) -> str:
    if settings.tenant_key is not None:
        keys = [settings.tenant_key]
        singles = [index.column_names[0] for index in facts.keys(tenant) if len(index.column_names) == 1]
        if settings.tenant_key not in singles:
            raise UsageError(
                f"{tenant.name}.{settings.tenant_key} is no key: it must be NOT NULL with a unique index of its own",
                hint=f"Its single-column keys are: {', '.join(singles) or 'none'}.",
            )
    else:
        keys = [name for index in facts.keys(tenant)[:1] for name in index.column_names]
    if len(keys) != 1:
        what = f"has the key ({', '.join(keys)})" if keys else "has no key"
        raise UsageError(
            f"the tenant table {tenant.name} {what}, and a tenant must be known by one column",
            hint="Name a column with a unique index of its own as tenant_key in outlast.toml.",
        )
    kind = facts.base_type(facts.column(tenant.oid, keys[0]).type_oid)
    if kind not in _KEY_TYPES:
        raise UsageError(
            f"the tenant's key {tenant.name}.{keys[0]} is of type {kind}, by which tenants cannot be told apart safely",
            hint="Name an integer, uuid or text column with a unique index as tenant_key in outlast.toml.",
        )
    return keys[0]


def _check_label(facts: Facts, tenant: Relation, settings: OwnershipSettings) -> None:
    names = [column.name for column in facts.live_columns(tenant.oid)]
    if settings.tenant_label is not None and settings.tenant_label not in names:
        raise UsageError(
            f"the tenant table {tenant.name} has no column {settings.tenant_label!r} to take labels from",
            hint=f"Its columns are: {', '.join(names)}.",
        )


def _graph(facts: Facts, tenant: Relation, key: str) -> Graph:
    subjects = {}
    for relation in facts.tables:
        columns = {column.name: column.public for column in facts.live_columns(relation.oid)}
        primary = next((index.column_names for index in facts.indexes_of(relation.oid) if index.primary), ())
        subjects[relation.name] = Subject(
            relation.name,
            columns,
            primary,
            relation.only,
            relation.extension,
            relation.extension_config,
            tuple(
                index.column_names
                for index in facts.indexes_of(relation.oid)
                if index.unique and index.predicate is None and index.column_names
            ),
        )
    column = facts.column(tenant.oid, key)
    exact = facts.base_type(column.type_oid) in _EXACT_TYPES and not column.loose_collation
    return Graph(tenant.name, key, column.type, subjects, facts.foreign_keys, exact)


def _listed(graph: Graph, tables: Mapping[str, str]) -> tuple[dict[TableName, Classification], tuple[str, ...]]:
    """The entries of outlast.toml by table, and the names of those that are not in the database."""
    classified: dict[TableName, Classification] = {}
    absent = []
    for text, entry in tables.items():
        try:
            name = TableName.parse(text)
        except ValueError as error:
            raise UsageError(f"outlast.toml: {text!r} is no table name", hint="Write schema.table.") from error
        classification = Classification.parse(text, entry)
        if name in graph.subjects:
            classified[name] = classification
        else:
            absent.append(text)
    return classified, tuple(absent)


def _table(facts: Facts, relation: Relation, owners: Mapping[TableName, Ownership]) -> Table:
    ownership = owners[relation.name]
    columns = tuple(column.public for column in facts.live_columns(relation.oid) if not column.generated)
    key = next((index.column_names for index in facts.keys(relation)), ())
    kinds = tuple(facts.key_kind(facts.column(relation.oid, name)) for name in key)
    return Table(
        name=relation.name,
        columns=columns,
        key=key,
        key_kinds=kinds,
        ownership=ownership,
        oid=relation.oid,
        only=relation.only,
        partitioned=relation.partitioned,
        signature=_signature(facts, relation, ownership, key, kinds),
        size_bytes=relation.size_bytes,
    )


def _signature(
    facts: Facts, relation: Relation, ownership: Ownership, key: tuple[str, ...], kinds: tuple[KeyKind, ...]
) -> str:
    attributes = facts.columns_of(relation.oid)
    path = tuple(facts.by_name[step.to] for step in ownership.path)
    owner_oid = path[-1].oid if path else relation.oid
    computed = [
        column
        for column in facts.live_columns(owner_oid)
        if column.name == ownership.tenant_column and column.generated == "v"
    ]
    storage = Storage(
        server=(facts.system_identifier, str(facts.timeline), str(facts.server_version), facts.encoding),
        steady=facts.timeline > 0 and not relation.other_storage and not relation.has_foreign and not computed,
        table=(relation.oid, relation.file_number, relation.only),
        partitions=relation.partitions,
        columns=tuple(column.described for column in attributes),
        types=tuple(column.type_oid for column in attributes if not column.dropped and not column.generated),
    )
    return signature(storage, facts.types, ownership, tuple(one.oid for one in path), key, kinds)


def _unique_indexes(facts: Facts) -> tuple[UniqueIndex, ...]:
    return tuple(
        UniqueIndex(
            name=index.name,
            table=facts.by_oid[index.table_oid].name,
            expressions=index.expressions,
            columns=index.column_names or None,
            predicate=index.predicate,
            primary=index.primary,
            nulls_not_distinct=index.nulls_not_distinct,
            deferrable=not index.immediate,
            exclusion=index.exclusion,
            constraint=index.constraint,
        )
        for index in facts.indexes
        if (index.unique or index.exclusion) and index.table_oid in facts.by_oid
    )
