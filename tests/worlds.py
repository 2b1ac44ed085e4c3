"""Worlds: whole multi-tenant databases made from a seed, so that one number replays any failure.

A world is a set of tables of many shapes around one tenant table, filled with tenants of unequal size. It knows, in SQL
of its own and without any code of Outlast's, whose a row is: so it can fingerprint every tenant, destroy some for good,
and keep writing to others. Statements carry all their values as literals and never depend on the clock, on chance or on
a sequence: the same statements on a copy of the database have the same effect, which is what a workload is checked by.

The shapes are in tests/shapes.py. Typical use:

    world = World.random(seed)
    world.create(url)
    twin = server.copy_database(url)           # what the database would be, had nothing happened
    with Workload(world, url, world.tenants[3:], seed) as workload:
        world.destroy(url, world.tenants[:3])
        ...                                    # restore them
    workload.replay(twin)
    assert world.fingerprints(url) == world.fingerprints(twin)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Self

import psycopg

from tests import shapes
from tests.shapes import KEY_TYPES, Naming, WorldTable, identifier, literal

ORPHAN = "@orphan"
SHARED = "@shared"

Fingerprints = dict[str, dict[str, str]]
"""By tenant's key (and ORPHAN, SHARED), then by table: `rows md5`. Tables without rows of a tenant are absent."""


@dataclass(frozen=True)
class WorldTenant:
    key: str
    label: str
    number: int
    rows: int  # a measure of its size: tables hold about so many rows of it


@dataclass(frozen=True)
class World:
    """A database to be. `tables` stand in the order in which they can be created and filled."""

    seed: int
    key_type: str
    tenant_table: tuple[str, str]
    key_column: str
    label_column: str
    schemas: tuple[str, ...]
    tables: tuple[WorldTable, ...]
    tenants: tuple[WorldTenant, ...]

    @classmethod
    def random(
        cls,
        seed: int,
        *,
        tenants: int = 7,
        rows_max: int = 60,
        key_type: str | None = None,
        names: str | None = None,
        only: Sequence[str] | None = None,
        version: int = 18,
    ) -> Self:
        """A world from a seed. `names` is "plain" or "odd"; `only` picks shapes by name (see shapes.SHAPES)."""
        chance = Random(seed)
        key_type = key_type or chance.choice(list(KEY_TYPES))
        naming = Naming(chance, odd=(names or chance.choice(["plain", "odd", "odd"])) == "odd")
        schemas = tuple(naming.new("public" if n == 0 else f"area{n}", keep=n == 0) for n in range(3))
        root = shapes.Root(
            table=(schemas[0], naming.new("tenant")),
            key=naming.new("id"),
            label=naming.new("label"),
            column=naming.new("tenant_id"),
            key_type=key_type,
            version=version,
        )
        chosen = list(only) if only is not None else _some(chance, list(shapes.SHAPES))
        tables = [shapes.tenant_table(root)]
        for shape in chosen:
            tables += shapes.SHAPES[shape](chance, naming, root, schemas)
        return cls(
            seed,
            key_type,
            root.table,
            root.key,
            root.label,
            schemas,
            tuple(tables),
            tuple(_tenant(chance, key_type, number, rows_max) for number in range(tenants)),
        )

    @property
    def tenant_table_name(self) -> str:
        """As outlast.toml and `--tenant-table` have it: schema.table, a part with a dot or quote in double quotes."""
        return ".".join(_as_name(part) for part in self.tenant_table)

    @property
    def phases(self) -> list[list[str]]:
        """The statements that build and fill the database, by transaction."""
        setup = [f"CREATE SCHEMA {identifier(name)}" for name in self.schemas if name != "public"]
        ddl = [statement for table in self.tables for statement in table.ddl]
        once = [statement for table in self.tables for statement in table.fill_once]
        fill = [
            _with_tenant(statement, tenant)
            for table in self.tables
            for tenant in self.tenants
            for statement in table.fill
        ]
        late = [statement for table in self.tables for statement in table.ddl_late]
        # Shared rows come before the owned ones that point at them.
        return [setup + ddl, once + fill, late]

    def create(self, url: str) -> None:
        """Build and fill an empty database."""
        with psycopg.connect(url) as connection:
            for statements in self.phases:
                for statement in statements:
                    _run(connection, statement)
                connection.commit()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE")

    def fingerprints(self, url: str, *, ignore: Sequence[str] = ()) -> Fingerprints:
        """What every tenant has, as the server itself sees it: count and md5 of the rows' text, table by table."""
        found: Fingerprints = {}
        with psycopg.connect(url) as connection:
            connection.execute("SET search_path = ''")
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for table in self.tables:
                if table.title in ignore:
                    continue
                for tenant, rows, digest in connection.execute(_fingerprint(table).encode()).fetchall():
                    owner = SHARED if table.tenant is None else ORPHAN if tenant is None else tenant
                    found.setdefault(owner, {})[table.title] = f"{rows} {digest}"
        return found

    def destroy(self, url: str, tenants: Sequence[WorldTenant], tables: Sequence[WorldTable] | None = None) -> int:
        """Delete the tenants' rows for good, children before parents, in one transaction; returns how many rows.

        With `tables`, only theirs and those of every table that depends on them: the state a careless script leaves.
        """
        doomed = self.tables if tables is None else self._dependents(tables)
        keys = ", ".join(f"{literal(tenant.key)}::{self.key_type}" for tenant in tenants)
        rows = 0
        with psycopg.connect(url) as connection:
            # Cycles have no order: what the application would break up with NULLs first is deleted at one stroke here.
            connection.execute("SET LOCAL session_replication_role = replica")
            for table in reversed(doomed):
                if table.tenant is None:
                    continue
                where = f"WHERE {table.tenant} IN ({keys})"
                rows += _run(connection, f"DELETE FROM {table.from_clause} {where}")
        return rows

    def _dependents(self, tables: Sequence[WorldTable]) -> list[WorldTable]:
        gone = {table.title for table in tables}
        for table in self.tables:  # parents stand before their children, so that one pass is enough
            if gone & set(table.parents):
                gone.add(table.title)
        return [table for table in self.tables if table.title in gone]

    def work_on(self, tenant: WorldTenant, number: int) -> list[str]:
        """One step of a workload in every table that has any, for one tenant."""
        return [
            _with_tenant(statement.replace("«n»", str(number)), tenant)
            for table in self.tables
            for statement in table.work
        ]

    def pick_part(self, chance: Random) -> list[WorldTable]:
        """A few owned tables other than the tenant table, for a partial destruction."""
        owned = [table for table in self.tables[1:] if table.tenant is not None]
        return chance.sample(owned, min(len(owned), chance.randint(1, 3))) if owned else []


@dataclass
class Workload:
    """A thread that keeps writing to some tenants, and remembers each statement it committed, in order.

    Entering starts it; leaving stops it and raises what it met. `replay` does the same to another database.
    """

    world: World
    url: str
    tenants: Sequence[WorldTenant]
    seed: int
    committed: list[list[str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _started: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._write, name="workload", daemon=True)
        self._thread.start()
        self._started.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(60)
        assert not self._thread.is_alive(), "the workload hangs"
        if error is None and self._failure is not None:
            raise AssertionError("the workload's own writes failed: tenants nobody touched were disturbed") from (
                self._failure
            )

    @property
    def running(self) -> bool:
        return self._failure is None

    def replay(self, url: str) -> None:
        """Do to another database what was done to the first."""
        with psycopg.connect(url) as connection:
            for transaction in self.committed:
                for statement in transaction:
                    _run(connection, statement)
                connection.commit()

    def _write(self) -> None:
        chance = Random(self.seed)
        number = 0
        try:
            with psycopg.connect(self.url) as connection:
                # Nothing a restore does may make another tenant's write wait for long.
                connection.execute("SET lock_timeout = '20s'")
                connection.commit()
                while not self._stop.is_set():
                    number += 1
                    statements = self._transaction(chance, number)
                    for statement in statements:
                        _run(connection, statement)
                    connection.commit()
                    self.committed.append(statements)
                    if number >= 3:
                        self._started.set()
        except BaseException as error:  # noqa: BLE001 - raised again where the block ends
            self._failure = error
        finally:
            self._started.set()

    def _transaction(self, chance: Random, number: int) -> list[str]:
        tenant = chance.choice(list(self.tenants))
        workable = [table for table in self.world.tables if table.work]
        return [
            _with_tenant(statement.replace("«n»", str(number)), tenant)
            for table in chance.sample(workable, min(len(workable), 3))
            for statement in table.work
        ]


def _run(connection: psycopg.Connection, statement: str) -> int:
    try:
        return connection.execute(statement.encode()).rowcount
    except psycopg.Error as error:
        error.add_note(statement)
        raise


def _fingerprint(table: WorldTable) -> str:
    row = "md5(ROW(t.*)::text)"  # a column may be called t, and then t is no row
    digest = f"md5(string_agg({row}, '' ORDER BY {row}))"
    return f"SELECT ({table.tenant or 'NULL'})::text, count(*), {digest} FROM {table.from_clause} GROUP BY 1"


def _with_tenant(statement: str, tenant: WorldTenant) -> str:
    return (
        statement.replace("«tenant»", literal(tenant.key))
        .replace("«label»", literal(tenant.label))
        .replace("«start»", str((tenant.number + 1) * 1_000_000))
        .replace("«rows»", str(tenant.rows))
    )


_LABELS = ("acme", "Zoë & Söhne", "o'brien", "with\ttab", "back\\slash", 'Quo"te')


def _tenant(chance: Random, key_type: str, number: int, rows_max: int) -> WorldTenant:
    label = f"{chance.choice(_LABELS)} {number}"
    # A few large, many small, one empty: as customers are.
    rows = 0 if number == 1 else max(1, int(rows_max / (number + 1) ** chance.uniform(0.5, 1.5)))
    return WorldTenant(KEY_TYPES[key_type](chance, number), label, number, rows)


def _some(chance: Random, names: list[str]) -> list[str]:
    return chance.sample(names, chance.randint(4, 9))


def _as_name(part: str) -> str:
    return '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part


def expected_ownership(world: World) -> Mapping[str, str]:
    """By `schema.table` as Outlast prints it: owned or shared, for every table of the world."""
    return {table.printed: "shared" if table.tenant is None else "owned" for table in world.tables}
