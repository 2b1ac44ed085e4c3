"""What a catalog makes necessary to say: what stops a backup, and what weakens a promise. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from outlast.core.table import OwnershipKind, Table
from outlast.sources.postgres.facts import Facts, Relation
from outlast.sources.postgres.schema import ForeignKey, Notice
from outlast.sources.postgres.signature import unsteady_types


def of_catalog(facts: Facts, tables: tuple[Table, ...], absent: Iterable[str]) -> tuple[Notice, ...]:
    """Every notice about the database and its tables, the errors first."""
    found = [*_of_database(facts)]
    found += [
        Notice(
            "warning",
            "absent-table",
            f"outlast.toml lists the table {name}, which is not in the database",
            "Take the line out, or find out who dropped the table.",
        )
        for name in absent
    ]
    for table, relation in zip(tables, facts.tables, strict=True):
        found += _of_ownership(table, relation, facts.foreign_keys)
        if table.ownership.kind in (OwnershipKind.OWNED, OwnershipKind.SHARED):
            found += _of_table(facts, table, relation)
    for relation in facts.relations:
        found += _of_other(relation)
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(found, key=lambda notice: order[notice.level]))


def _of_database(facts: Facts) -> Iterator[Notice]:
    if facts.has_large_objects:
        yield Notice(
            "error",
            "large-objects",
            "the database has large objects (pg_largeobject), which belong to no table and so to no tenant",
            "Move them into a bytea column of an owned table, or remove them with vacuumlo if nothing uses them.",
            promise="protect",
        )
    if not facts.timeline:
        yield Notice(
            "warning",
            "timeline-unknown",
            "the server does not tell its timeline, so every backup reads every table again",
            "GRANT pg_monitor TO this role (or EXECUTE on pg_control_system() and pg_current_wal_insert_lsn()).",
            promise="protect",
        )


def _of_ownership(table: Table, relation: Relation, foreign_keys: tuple[ForeignKey, ...]) -> Iterator[Notice]:
    ownership = table.ownership
    if ownership.kind is OwnershipKind.UNDECIDED:
        yield Notice(
            "error",
            "unclassified",
            f"table {table.name} is not classified: {ownership.reason}",
            f'Say under [tables] in outlast.toml what "{table.name}" is.',
            table.name,
            "protect",
        )
    elif ownership.kind is OwnershipKind.IGNORED:
        yield Notice(
            "info", "ignored", f"table {table.name} is not backed up: {ownership.reason}", None, table.name, "protect"
        )
    elif ownership.kind is OwnershipKind.OWNED:
        broken = breakable_columns(table, foreign_keys)
        if broken:
            yield Notice(
                "warning",
                "nullable-path",
                f"a row of {table.name} whose {', '.join(broken)} is NULL belongs to no tenant",
                "Such rows are kept under @orphan, and no tenant's restore brings them back. Add NOT NULL if it holds.",
                table.name,
                "restore",
            )


def breakable_columns(table: Table, foreign_keys: tuple[ForeignKey, ...]) -> tuple[str, ...]:
    """The columns of this table by which it finds its tenant and which may be NULL."""
    ownership = table.ownership
    wanted = ownership.path[0].columns if ownership.path else (ownership.tenant_column,)
    return tuple(column.name for column in table.columns if column.name in wanted and not column.not_null)


def _of_table(facts: Facts, table: Table, relation: Relation) -> Iterator[Notice]:
    if relation.has_foreign:
        yield Notice(
            "error",
            "foreign-partition",
            f"a partition of {table.name} is a foreign table: its rows are another server's and carry no version",
            'Detach it, or write "ignored" for the whole table.',
            table.name,
            "protect",
        )
    columns = [column for column in facts.live_columns(relation.oid) if not column.generated]
    unsteady = unsteady_types(facts.types, tuple(column.type_oid for column in columns))
    if unsteady:
        yield Notice(
            "warning",
            "unsteady-text",
            f"{table.name} has columns whose text depends on other objects ({', '.join(unsteady)}): it is read whole "
            "at every backup, and a restore elsewhere needs the same objects",
            None,
            table.name,
            "protect",
        )
    if relation.other_storage:
        yield Notice(
            "warning",
            "other-storage",
            f"{table.name} is not a heap table (another access method): it is read whole at every backup",
            None,
            table.name,
            "protect",
        )
    if relation.unlogged:
        yield Notice(
            "warning",
            "unlogged",
            f"{table.name} is unlogged: a crash of the server empties it, and a standby does not have its rows",
            "ALTER TABLE … SET LOGGED if its rows matter.",
            table.name,
            "protect",
        )
    if relation.has_rule:
        yield Notice(
            "warning",
            "rewrite-rule",
            f"{table.name} has a rewrite rule: a restore whose rows it rewrites is refused",
            "Replace the rule by a trigger.",
            table.name,
            "restore",
        )
    if not table.key:
        yield Notice(
            "info",
            "no-key",
            f"{table.name} has no primary key and no unique index of NOT NULL columns: whole rows are compared",
            "Add a primary key: changes are then found faster and updates are seen as updates.",
            table.name,
            "restore",
        )


def _of_other(relation: Relation) -> Iterator[Notice]:
    if relation.kind == "f":
        yield Notice(
            "warning",
            "foreign-table",
            f"foreign table {relation.name} is not backed up: its rows are another server's",
            "Back up that server.",
            relation.name,
            "protect",
        )
    elif relation.kind == "m":
        yield Notice(
            "info",
            "materialized-view",
            f"materialized view {relation.name} is not backed up; after a restore run REFRESH MATERIALIZED VIEW",
            None,
            relation.name,
            "restore",
        )
