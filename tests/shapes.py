"""The shapes that tables of real multi-tenant databases have, as SQL: the parts that tests/worlds.py puts together.

A shape is a function that gives one or more tables. Statements hold placeholders that a world fills in: «tenant» (the
key, quoted), «label», «rows» (how many, about), «start» (a number from which a million are this tenant's alone), «n» (a
workload's count). Nothing depends on the clock or on a sequence, so that a workload can be replayed.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class WorldTable:
    """A table of a world. `owner` is SQL that gives a row's tenant, NULL for an orphan; None: the table is shared.

    In `owner` the mark § stands for the table's alias, so that a path can be made of paths.
    """

    schema: str
    name: str
    ddl: tuple[str, ...]
    owner: str | None
    fill: tuple[str, ...] = ()  # for each tenant
    fill_once: tuple[str, ...] = ()
    ddl_late: tuple[str, ...] = ()  # after the fill: sequences, constraints that the fill would have to obey
    work: tuple[str, ...] = ()  # one step of a workload, for a tenant
    parents: tuple[str, ...] = ()  # titles of the tables that its rows cannot do without
    only: bool = False

    @property
    def title(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def printed(self) -> str:
        """As Outlast prints it: a part is quoted only where it holds a dot or a quote."""
        parts = [self.schema, self.name]
        return ".".join(identifier(part) if "." in part or '"' in part else part for part in parts)

    @property
    def tenant(self) -> str | None:
        return self.owner_of("t")

    def owner_of(self, alias: str) -> str | None:
        return None if self.owner is None else self.owner.replace("§", alias)

    @property
    def from_clause(self) -> str:
        return f"{'ONLY ' if self.only else ''}{self.title} AS t"


@dataclass(frozen=True)
class Root:
    """The tenant table, and the column by which others point at it."""

    table: tuple[str, str]
    key: str
    label: str
    column: str
    key_type: str
    version: int

    @property
    def title(self) -> str:
        return f"{identifier(self.table[0])}.{identifier(self.table[1])}"

    @property
    def column_quoted(self) -> str:
        return identifier(self.column)

    @property
    def reference(self) -> str:
        """The definition of a tenant column on another table."""
        return f"{identifier(self.column)} {self.key_type} NOT NULL REFERENCES {self.title} ({identifier(self.key)})"

    @property
    def own(self) -> str:
        """SQL for the tenant of a row that has the column itself."""
        return f"§.{identifier(self.column)}"


@dataclass
class Naming:
    """Gives names that differ from each other; odd ones need quotes, and more than quotes."""

    chance: random.Random
    odd: bool
    given: set[str] = field(default_factory=set)

    def new(self, plain: str, *, keep: bool = False) -> str:
        name = plain if keep or not self.odd else self.chance.choice(_ODD).replace("NAME", plain)
        name = name[:60]
        while name in self.given:
            name = f"{name[:57]}_{len(self.given)}"
        self.given.add(name)
        return name


_ODD = (
    "NAME",
    "NAME",
    "NaMe NAME",
    "with space NAME",
    'quo"te NAME',
    "dot.NAME",
    "ünïcode NAME",
    "semi;NAME--",
    "per%s NAME",
    "back\\NAME",
    "apos'NAME",
    "{NAME}",
    "$1 NAME",
    "1NAME",
    "tab\tNAME",
    "/* NAME",
    "NAME, x",
    "(NAME)",
    "t",
    "p1",
    "tenant",
    "select",
    "order",
    "user",
    "table",
    "日本NAME",
)


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_TEXT_KEYS = ("acme", "Ä b", "o'k", "tab\tx", "back\\", "%s", "ACME", "@home", "a,b", "{x}", "new\nline")


def _text_key(chance: random.Random, number: int) -> str:
    return f"{chance.choice(_TEXT_KEYS)}{number}"


KEY_TYPES: dict[str, Callable[[random.Random, int], str]] = {
    "bigint": lambda chance, number: str(chance.randint(1, 10**12) * 100 + number),
    "integer": lambda chance, number: str((chance.randint(1, 10**6) * 100 + number) * chance.choice([1, -1])),
    "uuid": lambda chance, number: str(uuid.UUID(int=chance.getrandbits(120) * 256 + number)),
    "text": _text_key,
}

# Data columns: a type, and SQL that makes a value of the bigint g.
_DATA: tuple[tuple[str, str], ...] = (
    (
        "text",
        (
            "(CASE g % 7 WHEN 0 THEN '' WHEN 1 THEN NULL WHEN 2 THEN E'tab\\there\\nand \\\\N \\\\.'"
            " WHEN 3 THEN repeat(md5(g::text), 150) ELSE md5(g::text) END)"
        ),
    ),
    ("numeric", "(CASE g % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN NULL ELSE g * 1.10 END)::numeric"),
    ("jsonb", "jsonb_build_object('n', g, E'\\t\"', E'\\\\N', 'none', NULL)"),
    ("bytea", "decode(md5(g::text) || '5c4e0a09', 'hex')"),
    ("timestamptz", "(CASE g % 9 WHEN 0 THEN 'infinity' ELSE '2020-01-01 UTC'::timestamptz + g * interval '1 s' END)"),
    ("text[]", "ARRAY[md5(g::text), NULL, '\\N', '', E'\\t']"),
    ("double precision", "(CASE g % 11 WHEN 0 THEN '-0' ELSE g::float8 / 3 END)"),
    ("boolean", "(CASE g % 3 WHEN 0 THEN NULL ELSE g % 3 = 1 END)"),
    ("date", "(CASE g % 8 WHEN 0 THEN '0044-03-15 BC' ELSE date '2000-01-01' + (g % 10000)::int END)"),
    ("int4range", "int4range((g % 1000)::int, (g % 1000)::int + 5)"),
    ("varchar(40)", "md5(g::text)::varchar(40)"),
)

# Keys of a table: a type, and SQL that makes a different one of each bigint g.
_IDS: tuple[tuple[str, str], ...] = (
    ("bigint", "g"),
    ("integer", "g::integer"),
    ("uuid", "md5(g::text)::uuid"),
    ("text", "('k ' || md5(g::text) || CASE g % 3 WHEN 0 THEN E'\\t\\\\' WHEN 1 THEN 'Ä' ELSE '' END)"),
    ("numeric", "(g * 1.50)::numeric"),
    ("timestamptz", "('2000-01-01 UTC'::timestamptz + g * interval '1 s')"),
)


@dataclass(frozen=True)
class _Id:
    column: str
    type: str
    made: str


@dataclass(frozen=True)
class _Data:
    """Some data columns: their definitions, their names, and what to insert for g."""

    definitions: str
    names: str
    made: str
    first: str
    first_made: str


def _id(chance: random.Random, naming: Naming, types: Sequence[str] | None = None) -> _Id:
    type_name, made = chance.choice([one for one in _IDS if types is None or one[0] in types])
    return _Id(identifier(naming.new("id")), type_name, made)


def _data(chance: random.Random, naming: Naming, at_least: int = 1) -> _Data:
    chosen = chance.sample(_DATA, chance.randint(at_least, 4))
    names = [identifier(naming.new(f"data{number}")) for number in range(len(chosen))]
    return _Data(
        ", ".join(f"{name} {one[0]}" for name, one in zip(names, chosen, strict=True)),
        ", ".join(names),
        ", ".join(one[1] for one in chosen),
        names[0],
        chosen[0][1],
    )


_ROWS = "generate_series(«start»::bigint + 1, «start»::bigint + «rows») AS line(g)"
_NEW = "(SELECT «start»::bigint + 500000 + «n» AS g) AS one"
_RECENT = "«start»::bigint + 500000 + «n» - 2"
_OLD = "«start»::bigint + 500000 + «n» - 5"


def tenant_table(root: Root) -> WorldTable:
    key, label = identifier(root.key), identifier(root.label)
    return WorldTable(
        *root.table,
        ddl=(
            f"CREATE TABLE {root.title} ({key} {root.key_type} PRIMARY KEY, {label} text NOT NULL UNIQUE, plan text)",
        ),
        owner=f"§.{key}",
        fill=(f"INSERT INTO {root.title} VALUES («tenant», «label», 'basic')",),
        work=(f"UPDATE {root.title} SET plan = 'plan «n»' WHERE {key} = «tenant»",),
    )


def _schema(chance: random.Random, schemas: Sequence[str]) -> str:
    return schemas[0] if chance.random() < 0.6 else chance.choice(list(schemas))


def _title(schema: str, name: str) -> str:
    return f"{identifier(schema)}.{identifier(name)}"


@dataclass(frozen=True)
class _Extra:
    """One more column of a table: its name, its definition, and SQL for its value of g."""

    name: str
    definition: str
    made: str


def _first(column: str, title: str, where: str) -> str:
    return f"(SELECT {column} FROM {title} WHERE {where} ORDER BY {column} LIMIT 1)"


def _direct(
    chance: random.Random,
    naming: Naming,
    root: Root,
    schemas: Sequence[str],
    plain: str,
    *,
    extra: Sequence[_Extra] = (),
    constraints: str = "",
    key: _Id | None = None,
    primary: str | None = None,
    after: str = "",
    more: Sequence[str] = (),
) -> tuple[WorldTable, _Id, _Data]:
    """A table with a tenant column, a key of its own (`primary`: another primary key, "" for none) and some data."""
    schema, name = _schema(chance, schemas), naming.new(plain)
    title, one, data, column = (
        _title(schema, name),
        key or _id(chance, naming),
        _data(chance, naming),
        root.column_quoted,
    )
    names = ", ".join([one.column, column, data.names, *[each.name for each in extra]])
    made = ", ".join([one.made, "«tenant»", data.made, *[each.made for each in extra]])
    primary = f", PRIMARY KEY ({one.column})" if primary is None else primary
    definitions = ", ".join(
        [f"{one.column} {one.type} NOT NULL", root.reference, data.definitions, *[each.definition for each in extra]]
    )
    table = WorldTable(
        schema,
        name,
        ddl=(f"CREATE TABLE {title} ({definitions}{primary}{constraints}){after}", *more),
        owner=root.own,
        fill=(f"INSERT INTO {title} ({names}) SELECT {made} FROM {_ROWS}",),
        work=(
            f"INSERT INTO {title} ({names}) SELECT {made} FROM {_NEW}",
            (
                f"UPDATE {title} SET {data.first} = (SELECT {data.first_made} FROM {_NEW}) WHERE {column} = «tenant»"
                f" AND {one.column} = {_first(one.column, title, f'{column} = «tenant»')}"
            ),
            (
                f"DELETE FROM {title} WHERE {one.column} = (SELECT {one.made} FROM (SELECT {_OLD} AS g) AS one)"
                f" AND {column} = «tenant»"
            ),
        ),
        parents=(root.title,),
    )
    return table, one, data


def _kept(table: WorldTable) -> WorldTable:
    """The table with a workload that deletes nothing: others point at its rows."""
    return replace(table, work=table.work[:2])


def _child(
    chance: random.Random,
    naming: Naming,
    schemas: Sequence[str],
    parent: WorldTable,
    keys: Sequence[tuple[str, str]],
    plain: str,
    *,
    nullable: bool = False,
    lost: str | None = None,
    extra: Sequence[_Extra] = (),
) -> tuple[WorldTable, _Id]:
    """A table that finds its tenant through `parent`, by a foreign key to the `keys` (column, type) of it.

    With `lost`, SQL for the parent's key of g, the foreign key is NOT VALID and some rows point at nothing.
    """
    schema, name = _schema(chance, schemas), naming.new(plain)
    title, one, data = _title(schema, name), _id(chance, naming), _data(chance, naming)
    ours = [identifier(naming.new(f"{plain}_of")) for _ in keys]
    theirs = [column for column, _ in keys]
    null = "" if nullable else " NOT NULL"
    references = [f"{our} {key[1]}{null}" for our, key in zip(ours, keys, strict=True)]
    definitions = ", ".join(
        [f"{one.column} {one.type} PRIMARY KEY", data.definitions, *references, *[each.definition for each in extra]]
    )
    foreign = f"FOREIGN KEY ({', '.join(ours)}) REFERENCES {parent.title} ({', '.join(theirs)})"
    alias = f"p{len(naming.given)}"
    matches = " AND ".join(f"{alias}.{their} = §.{our}" for our, their in zip(ours, theirs, strict=True))
    names = ", ".join([one.column, data.names, *ours, *[each.name for each in extra]])
    made = ", ".join([one.made, data.made, *theirs, *[each.made for each in extra]])
    parent_rows = f"FROM {parent.title} AS p WHERE {parent.owner_of('p')} = «tenant»"
    order = ", ".join(theirs)
    filled = (
        f"SELECT {order}, «start»::bigint + row_number() OVER (ORDER BY {order}) * 3 + k AS g"
        f" {parent_rows.replace(' AS p WHERE', ' AS p CROSS JOIN generate_series(0, 2) AS k WHERE')}"
    )
    worked = f"SELECT {order}, «start»::bigint + 500000 + «n» AS g {parent_rows} ORDER BY {order} LIMIT 1"
    table = WorldTable(
        schema,
        name,
        ddl=(f"CREATE TABLE {title} ({definitions}, {foreign})",),
        owner=f"(SELECT {parent.owner_of(alias)} FROM {parent.title} AS {alias} WHERE {matches})",
        fill=(f"INSERT INTO {title} ({names}) SELECT {made} FROM ({filled}) AS line WHERE g % 4 <> 0",),
        work=(
            f"INSERT INTO {title} ({names}) SELECT {made} FROM ({worked}) AS line",
            (
                f"UPDATE {title} SET {data.first} = (SELECT {data.first_made} FROM {_NEW})"
                f" WHERE {one.column} = (SELECT {one.made} FROM (SELECT {_RECENT} AS g) AS one)"
            ),
            f"DELETE FROM {title} WHERE {one.column} = (SELECT {one.made} FROM (SELECT {_OLD} AS g) AS one)",
        ),
        parents=(parent.title,),
    )
    if nullable:
        names = f"{one.column}, {data.names}"
        orphans = f"INSERT INTO {title} ({names}) SELECT {one.made}, {data.made} FROM generate_series(1, 5) AS line(g)"
        table = replace(table, fill_once=(orphans,))
    if lost is not None:
        names = f"{one.column}, {data.names}, {ours[0]}"
        gone = f"(SELECT {lost} FROM (SELECT 900000 + line.g AS g) AS one)"
        dangling = f"INSERT INTO {title} ({names}) SELECT {one.made}, {data.made}, {gone} FROM generate_series(11, 14)"
        table = replace(
            table,
            ddl=(f"CREATE TABLE {title} ({definitions})",),
            fill_once=(f"{dangling} AS line(g)",),
            ddl_late=(f"ALTER TABLE {title} ADD {foreign} NOT VALID",),
        )
    return table, one


def direct(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A table with the tenant's column; a view and a materialized view look at it."""
    table, one, _ = _direct(chance, naming, root, schemas, "items")
    view, stored = naming.new("item_view"), naming.new("item_store")
    views = (
        f"CREATE VIEW {_title(table.schema, view)} AS SELECT * FROM {table.title}",
        f"CREATE MATERIALIZED VIEW {_title(table.schema, stored)} AS SELECT {one.column} FROM {table.title}",
    )
    return [replace(table, ddl=(*table.ddl, *views))]


def chain(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A path of one to three foreign keys, each table with a key of its own type."""
    parent, one, _ = _direct(chance, naming, root, schemas, "chain0")
    tables = [_kept(parent)]
    for step in range(chance.randint(1, 3)):
        child, one = _child(chance, naming, schemas, tables[-1], [(one.column, one.type)], f"chain{step + 1}")
        tables[-1] = _kept(tables[-1])
        tables.append(child)
    return tables


def composite(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A key of two columns, and a table that finds its tenant by both of them."""
    second = _Extra(
        part := identifier(naming.new("part")), f"{part} text NOT NULL", "(CASE g % 2 WHEN 0 THEN 'ö' ELSE E'a\tb' END)"
    )
    one = _id(chance, naming)
    parent, one, _ = _direct(
        chance, naming, root, schemas, "pairs", extra=[second], key=one, primary=f", PRIMARY KEY ({part}, {one.column})"
    )
    child, _ = _child(chance, naming, schemas, parent, [(one.column, one.type), (part, "text")], "pair_lines")
    return [_kept(parent), child]


def keyed_by_tenant(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Keys that begin with the tenant, as shared databases that shard have them, referenced as a whole."""
    one = _id(chance, naming)
    column = root.column_quoted
    parent, one, _ = _direct(
        chance, naming, root, schemas, "sharded", key=one, primary=f", PRIMARY KEY ({column}, {one.column})"
    )
    schema, name, data = _schema(chance, schemas), naming.new("sharded_lines"), _data(chance, naming)
    title, number, of = _title(schema, name), identifier(naming.new("number")), identifier(naming.new("sharded_of"))
    child = WorldTable(
        schema,
        name,
        ddl=(
            (
                f"CREATE TABLE {title} ({column} {root.key_type} NOT NULL, {of} {one.type} NOT NULL, {number} smallint,"
                f" {data.definitions}, PRIMARY KEY ({column}, {of}, {number}),"
                f" FOREIGN KEY ({column}, {of}) REFERENCES {parent.title} ({column}, {one.column}) ON DELETE CASCADE)"
            ),
        ),
        owner=root.own,
        fill=(
            (
                f"INSERT INTO {title} ({column}, {of}, {number}, {data.names})"
                f" SELECT «tenant», {one.made}, k, {data.made} FROM {_ROWS}, generate_series(-1, 1) AS k"
            ),
        ),
        parents=(parent.title,),
    )
    return [_kept(parent), child]


def tree(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A table that points at itself, and one that does so under a path: parents may sort after their children."""
    one = _id(chance, naming)
    up = identifier(naming.new("parent"))
    above = (
        f"(SELECT {one.made} FROM (SELECT «start»::bigint + («start»::bigint + «rows» + line.g) / 2 - «start»::bigint"
    )
    above += " + (line.g - «start»::bigint) % 2 AS g) AS above WHERE g > line.g AND g <= «start»::bigint + «rows»)"
    table, one, _ = _direct(chance, naming, root, schemas, "tree", key=one)
    reference = f"ALTER TABLE {table.title} ADD COLUMN {up} {one.type} REFERENCES {table.title} ({one.column})"
    hang = (
        f"UPDATE {table.title} AS t SET {up} = made.above FROM (SELECT {one.made} AS id, {above} AS above FROM {_ROWS})"
    )
    hang += f" AS made WHERE t.{one.column} = made.id"
    trunk = replace(table, ddl=(*table.ddl, reference), fill=(*table.fill, hang))
    child, own = _child(chance, naming, schemas, trunk, [(one.column, one.type)], "leaf")
    next_to = identifier(naming.new("next_leaf"))
    linked = f"ALTER TABLE {child.title} ADD COLUMN {next_to} {own.type} REFERENCES {child.title} ({own.column})"
    link = (
        f"UPDATE {child.title} AS t SET {next_to} = n.following FROM (SELECT t.{own.column} AS id,"
        f" lead(t.{own.column}) OVER (ORDER BY t.{own.column}) AS following FROM {child.title} AS t"
        f" WHERE {child.tenant} = «tenant») AS n WHERE n.id = t.{own.column}"
    )
    leaf = replace(child, ddl=(*child.ddl, linked), fill=(*child.fill, link))
    return [_kept(trunk), leaf]


def nullable_path(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A path whose foreign key may be NULL: some rows belong to no tenant."""
    parent, one, _ = _direct(chance, naming, root, schemas, "maybe")
    child, own = _child(chance, naming, schemas, parent, [(one.column, one.type)], "maybe_lines", nullable=True)
    grandchild, _ = _child(chance, naming, schemas, child, [(own.column, own.type)], "maybe_parts")
    return [_kept(parent), _kept(child), grandchild]


def reference_data(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Tables without tenants that many point at, one of them through another."""
    schema = _schema(chance, schemas)
    region, country = naming.new("region"), naming.new("country")
    region_title, country_title = _title(schema, region), _title(schema, country)
    regions = WorldTable(
        schema,
        region,
        ddl=(f"CREATE TABLE {region_title} (id integer PRIMARY KEY, name text NOT NULL UNIQUE)",),
        owner=None,
        fill_once=(f"INSERT INTO {region_title} SELECT n, E'region\t' || n FROM generate_series(1, 4) AS n",),
    )
    countries = WorldTable(
        schema,
        country,
        ddl=(
            (
                f"CREATE TABLE {country_title} (code text PRIMARY KEY, region integer REFERENCES {region_title},"
                " rate numeric)"
            ),
        ),
        owner=None,
        fill_once=(f"INSERT INTO {country_title} SELECT 'c' || n, n % 4 + 1, n * 0.1 FROM generate_series(0, 9) AS n",),
        work=(f"UPDATE {country_title} SET rate = «n» WHERE code = 'c' || «n» % 10",),
    )
    column = identifier(naming.new("country_of"))
    pointing = _Extra(column, f"{column} text REFERENCES {country_title}", "'c' || g % 10")
    table, one, _ = _direct(chance, naming, root, schemas, "addresses", extra=[pointing])
    third = identifier(naming.new("region_of"))
    own = _Extra(third, f"{third} integer NOT NULL REFERENCES {region_title}", "g % 4 + 1")
    child, _ = _child(chance, naming, schemas, table, [(one.column, one.type)], "address_lines", extra=[own])
    return [regions, countries, _kept(table), child]


def crossroads(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A table with the tenant's column and foreign keys to two owned tables besides: its own column counts."""
    left, one, _ = _direct(chance, naming, root, schemas, "left")
    right, other, _ = _direct(chance, naming, root, schemas, "right")
    to_left, to_right = identifier(naming.new("left_of")), identifier(naming.new("right_of"))
    extra = [
        _Extra(
            name,
            f"{name} {key.type} REFERENCES {table.title} ON DELETE {action}",
            _first(f"p.{key.column}", f"{table.title} AS p", f"p.{root.column_quoted} = «tenant»"),
        )
        for name, key, table, action in ((to_left, one, left, "SET NULL"), (to_right, other, right, "CASCADE"))
    ]
    table, _, _ = _direct(chance, naming, root, schemas, "crossing", extra=extra)
    return [_kept(left), _kept(right), replace(table, parents=(left.title, right.title))]


def hash_partitions(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Partitioned by the tenant's hash; another table points at it through the root."""
    one, column = _id(chance, naming), root.column_quoted
    table, one, _ = _direct(
        chance,
        naming,
        root,
        schemas,
        "hashed",
        key=one,
        primary=f", PRIMARY KEY ({column}, {one.column})",
        after=f" PARTITION BY HASH ({column})",
    )
    parts = tuple(
        f"CREATE TABLE {_title(chance.choice(list(schemas)), naming.new(f'hashed_part{n}'))} PARTITION OF {table.title}"
        f" FOR VALUES WITH (MODULUS 3, REMAINDER {n})"
        for n in range(3)
    )
    keys = [(column, root.key_type), (one.column, one.type)]
    parent = replace(table, ddl=(*table.ddl, *parts))
    child, _ = _child(chance, naming, schemas, parent, keys, "hashed_lines")
    return [_kept(parent), child]


def list_partitions(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Partitioned by a list and then by a hash, with a default, so that an update moves a row between partitions."""
    one, state = _id(chance, naming), identifier(naming.new("state"))
    extra = _Extra(state, f"{state} integer NOT NULL", "(g % 5)::int")
    table, one, _ = _direct(
        chance,
        naming,
        root,
        schemas,
        "listed",
        key=one,
        extra=[extra],
        primary=f", PRIMARY KEY ({state}, {one.column})",
        after=f" PARTITION BY LIST ({state})",
    )
    names = [_title(table.schema, naming.new(f"listed_part{n}")) for n in range(4)]
    parts = (
        f"CREATE TABLE {names[0]} PARTITION OF {table.title} FOR VALUES IN (0, 1)",
        f"CREATE TABLE {names[1]} PARTITION OF {table.title} FOR VALUES IN (2) PARTITION BY HASH ({one.column})",
        f"CREATE TABLE {names[2]} PARTITION OF {names[1]} FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        f"CREATE TABLE {names[3]} PARTITION OF {table.title} DEFAULT",
    )
    moved = (
        f"UPDATE {table.title} SET {state} = («n» % 5)::int WHERE {root.column_quoted} = «tenant» AND {one.column} ="
        f" {_first(one.column, table.title, f'{root.column_quoted} = «tenant»')}"
    )
    return [replace(table, ddl=(*table.ddl, *parts), work=(table.work[0], moved, table.work[2]))]


def range_partitions(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Partitioned by a range; one partition was a table before, with its columns in another order and one dropped."""
    one, at = _id(chance, naming), identifier(naming.new("at"))
    extra = _Extra(at, f"{at} date NOT NULL", "date '2024-01-01' + (g % 700)::int")
    table, one, data = _direct(
        chance,
        naming,
        root,
        schemas,
        "ranged",
        key=one,
        extra=[extra],
        primary=f", PRIMARY KEY ({one.column}, {at})",
        after=f" PARTITION BY RANGE ({at})",
    )
    first, attached = (_title(table.schema, naming.new(f"ranged_part{n}")) for n in range(2))
    other_order = ", ".join(
        [
            f"{at} date NOT NULL",
            "dropped integer",
            data.definitions,
            f"{root.column_quoted} {root.key_type} NOT NULL",
            f"{one.column} {one.type} NOT NULL",
        ]
    )
    parts = (
        f"CREATE TABLE {first} PARTITION OF {table.title} FOR VALUES FROM (MINVALUE) TO ('2025-01-01')",
        f"CREATE TABLE {attached} ({other_order})",
        f"ALTER TABLE {attached} DROP COLUMN dropped",
        f"ALTER TABLE {table.title} ATTACH PARTITION {attached} FOR VALUES FROM ('2025-01-01') TO (MAXVALUE)",
    )
    return [replace(table, ddl=(*table.ddl, *parts))]


def inheritance(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A table and one that inherits from it: each holds rows of its own."""
    parent, one, data = _direct(chance, naming, root, schemas, "vehicles")
    name = naming.new("trucks")
    title, column = _title(parent.schema, name), root.column_quoted
    names = f"{one.column}, {column}, {data.names}, load"
    child = WorldTable(
        parent.schema,
        name,
        ddl=(
            (
                f"CREATE TABLE {title} (load integer, PRIMARY KEY ({one.column}),"
                f" FOREIGN KEY ({column}) REFERENCES {root.title}) INHERITS ({parent.title})"
            ),
        ),
        owner=root.own,
        fill=(f"INSERT INTO {title} ({names}) SELECT {one.made}, «tenant», {data.made}, g % 50 FROM {_ROWS}",),
        work=(f"UPDATE {title} SET load = «n» WHERE {column} = «tenant»",),
        parents=(root.title,),
    )
    work = tuple(
        statement.replace(f"UPDATE {parent.title}", f"UPDATE ONLY {parent.title}") for statement in parent.work
    )
    work = (work[0], work[1], work[2].replace("DELETE FROM ", "DELETE FROM ONLY "))
    return [replace(parent, only=True, work=work), child]


def generated(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Identity columns of both kinds, a serial, and generated columns amid the others."""
    schema, name = _schema(chance, schemas), naming.new("invoices")
    title, column, key = _title(schema, name), root.column_quoted, identifier(naming.new("id"))
    kind = "VIRTUAL" if root.version >= 18 else "STORED"
    names = f"{key}, {column}, amount, number, position"
    made = "g, «tenant», (g % 90)::int, (g % 1000000)::int, g"
    table = WorldTable(
        schema,
        name,
        ddl=(
            (
                f"CREATE TABLE {title} ({key} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                f" doubled integer GENERATED ALWAYS AS (amount * 2) STORED, {root.reference}, amount integer,"
                f" more integer GENERATED ALWAYS AS (amount + 1) {kind}, number serial,"
                " position bigint GENERATED BY DEFAULT AS IDENTITY (INCREMENT BY 5))"
            ),
        ),
        owner=root.own,
        fill=(f"INSERT INTO {title} ({names}) OVERRIDING SYSTEM VALUE SELECT {made} FROM {_ROWS}",),
        ddl_late=tuple(
            f"SELECT setval(pg_get_serial_sequence({literal(title)}, {literal(of)}), (SELECT max({identifier(of)})"
            f" FROM {title})::bigint) FROM {title} LIMIT 1"
            for of in (key[1:-1].replace('""', '"'), "number", "position")
        ),
        work=(
            f"INSERT INTO {title} ({names}) OVERRIDING SYSTEM VALUE SELECT {made} FROM {_NEW}",
            f"UPDATE {title} SET amount = «n» WHERE {column} = «tenant» AND number % 3 = «n» % 3",
        ),
        parents=(root.title,),
    )
    return [table]


def unique_index_only(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """No primary key: one table has a usable unique index, the other only one over a nullable column."""
    one = _id(chance, naming)
    first, key, _ = _direct(chance, naming, root, schemas, "unkeyed", key=one, primary="")
    usable = f"CREATE UNIQUE INDEX ON {first.title} ({root.column_quoted}, {key.column})"
    tag = identifier(naming.new("tag"))
    extra = _Extra(tag, f"{tag} text UNIQUE", "(CASE g % 2 WHEN 0 THEN g::text END)")
    second, other, _ = _direct(chance, naming, root, schemas, "tagged", extra=[extra], primary="")
    partial = f"CREATE UNIQUE INDEX ON {second.title} ({other.column}) WHERE {tag} IS NOT NULL"
    return [replace(first, ddl=(*first.ddl, usable)), replace(second, ddl=(*second.ddl, partial))]


def duplicates(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """No key at all, and rows that stand there several times, whole."""
    table, _, _ = _direct(chance, naming, root, schemas, "events", primary="")
    again = f"INSERT INTO {table.title} SELECT t.* FROM {table.title} AS t, generate_series(1, 2) WHERE {table.tenant}"
    return [replace(table, fill=(*table.fill, f"{again} = «tenant»"), work=(table.work[0], table.work[0]))]


def cycle(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Two tables that point at each other, by a deferred foreign key that may or may not be NULL."""
    required = chance.random() < 0.5
    first, one, _ = _direct(chance, naming, root, schemas, "project")
    second_key = _id(chance, naming)
    of = identifier(naming.new("project_of"))
    extra = _Extra(of, f"{of} {one.type} NOT NULL REFERENCES {first.title}", one.made)
    second, other, _ = _direct(chance, naming, root, schemas, "version", key=second_key, extra=[extra])
    main = identifier(naming.new("main_version"))
    back = (
        f"ALTER TABLE {first.title} ADD COLUMN {main} {other.type}"
        f" REFERENCES {second.title} DEFERRABLE INITIALLY {'DEFERRED' if required else 'IMMEDIATE'}"
    )
    close = (
        f"UPDATE {first.title} AS t SET {main} = v.{other.column} FROM {second.title} AS v"
        f" WHERE v.{of} = t.{one.column} AND t.{root.column_quoted} = «tenant»"
    )
    must = f"ALTER TABLE {first.title} ALTER COLUMN {main} SET NOT NULL"
    return [
        replace(first, work=() if required else first.work[:2]),
        replace(
            second,
            ddl=(*second.ddl, back),
            fill=(*second.fill, close),
            ddl_late=(must,) if required else (),
            work=(second.work[1],),
            parents=(first.title,),
        ),
    ]


def one_to_one(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A table of one row a tenant, whose key is the tenant's."""
    schema, name, data = _schema(chance, schemas), naming.new("settings"), _data(chance, naming)
    title, column = _title(schema, name), root.column_quoted
    table = WorldTable(
        schema,
        name,
        ddl=(f"CREATE TABLE {title} ({root.reference} PRIMARY KEY, {data.definitions})",),
        owner=root.own,
        fill=(
            (
                f"INSERT INTO {title} ({column}, {data.names}) SELECT «tenant», {data.made}"
                " FROM (SELECT «start»::bigint AS g) AS one"
            ),
        ),
        work=(f"UPDATE {title} SET {data.first} = (SELECT {data.first_made} FROM {_NEW}) WHERE {column} = «tenant»",),
        parents=(root.title,),
    )
    return [table]


def constraints(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Unique per tenant, unique over all, unique by an expression, deferred, and excluded by overlap."""
    extra = [
        _Extra("name", "name text", "'name ' || g % 1000000"),
        _Extra("slug", "slug text UNIQUE", "'slug ' || g"),
        _Extra("position", "position integer", "(g % 1000000)::int"),
        _Extra("span", "span int8range", "int8range(g * 10, g * 10 + 5)"),
    ]
    column = root.column_quoted
    table, _, _ = _direct(
        chance,
        naming,
        root,
        schemas,
        "pages",
        extra=extra,
        constraints=f", UNIQUE ({column}, name), UNIQUE ({column}, position) DEFERRABLE INITIALLY DEFERRED,"
        " EXCLUDE USING gist (span WITH &&), CHECK (name <> '')",
    )
    index = f"CREATE UNIQUE INDEX ON {table.title} (lower(slug), {column}) WHERE slug IS NOT NULL"
    shift = f"UPDATE {table.title} SET position = position + 1 WHERE {column} = «tenant»"
    return [replace(table, ddl=(*table.ddl, index), work=(shift, *table.work[1:]))]


def evolved(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A table that lived: columns dropped, and columns added after the rows, whose values only the catalog has."""
    junk = identifier(naming.new("junk"))
    table, _, _ = _direct(chance, naming, root, schemas, "evolved", extra=[_Extra(junk, f"{junk} text", "'gone'")])
    late = (
        f"ALTER TABLE {table.title} DROP COLUMN {junk}",
        f"ALTER TABLE {table.title} ADD COLUMN added text NOT NULL DEFAULT E'missing\tvalue'",
        f"ALTER TABLE {table.title} ADD COLUMN empty integer",
    )
    return [replace(table, ddl_late=late, work=(table.work[1],))]


def triggered(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A trigger that changes what is inserted, and one that writes elsewhere: a restore must not be changed by them."""
    stamp = _Extra("stamp", "stamp text", "'stamp ' || g")
    table, one, _ = _direct(chance, naming, root, schemas, "stamped", extra=[stamp])
    audit, _, _ = _direct(chance, naming, root, schemas, "audit", key=_Id("id", "text", "'a' || g"))
    function = _title(table.schema, naming.new("on_insert"))
    log = (
        f"INSERT INTO {audit.title} (id, {root.column_quoted}) VALUES ('t' || md5(NEW::text), NEW.{root.column_quoted})"
    )
    ddl = (
        (
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN NEW.stamp := 'changed by'"
            f" || NEW.stamp; {log} ON CONFLICT DO NOTHING; RETURN NEW; END $body$"
        ),
        f"CREATE TRIGGER on_insert BEFORE INSERT ON {table.title} FOR EACH ROW EXECUTE FUNCTION {function}()",
    )
    late = (f"UPDATE {table.title} SET stamp = 'as it was meant to be ' || {one.column}::text",)
    return [audit, replace(table, ddl_late=(*ddl, *late), work=(table.work[1],))]


def odd_keys(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """Keys of types that sort unlike their text: domains, an enum, an address, bytes, a padded text, a boolean."""
    domain, words, label = (_title(schemas[0], naming.new(plain)) for plain in ("number", "words", "grade"))
    labels = ", ".join(f"'{letter}{number}'" for letter in "zaBÄ" for number in range(9, -1, -1))
    types = (
        f"CREATE DOMAIN {domain} AS bigint CHECK (VALUE > -5)",
        f"CREATE DOMAIN {words} AS text",
        f"CREATE TYPE {label} AS ENUM ({labels})",
    )
    keys = (
        _Id(identifier(naming.new("k_domain")), domain, f"g::{domain}"),
        _Id(identifier(naming.new("k_words")), words, "('w' || g)"),
        _Id(identifier(naming.new("k_inet")), "inet", "('10.0.0.0'::inet + g)"),
        _Id(identifier(naming.new("k_bytea")), "bytea", "decode(md5(g::text) || '5c', 'hex')"),
        _Id(identifier(naming.new("k_char")), "char(34)", "md5(g::text)"),
        _Id(identifier(naming.new("k_float")), "double precision", "(g::float8 / 7)"),
        _Id(identifier(naming.new("k_date")), "date", "(date '0001-01-01 BC' + g::int)"),
        _Id(identifier(naming.new("k_array")), "integer[]", "ARRAY[g::int, NULL]"),
    )
    tables = [_direct(chance, naming, root, schemas, "keyed", key=key)[0] for key in chance.sample(keys, 4)]
    grade, flag = identifier(naming.new("grade_of")), identifier(naming.new("flag"))
    picked = f"(enum_range(NULL::{label}))[g % 40 + 1]"
    extra = [_Extra(grade, f"{grade} {label} NOT NULL", picked), _Extra(flag, f"{flag} boolean NOT NULL", "g % 2 = 0")]
    one = _id(chance, naming)
    several, _, _ = _direct(
        chance,
        naming,
        root,
        schemas,
        "graded",
        extra=extra,
        key=one,
        primary=f", PRIMARY KEY ({grade}, {flag}, {one.column})",
    )
    tables.append(several)
    return [replace(tables[0], ddl=(*types, *tables[0].ddl)), *tables[1:]]


def other_references(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """References to what is unique but no primary key, and to a row of the same tenant in the same table."""
    column = root.column_quoted
    code = _Extra(identifier(naming.new("code")), "", "'code ' || g")
    code = replace(code, definition=f"{code.name} text NOT NULL UNIQUE")
    parent, _, _ = _direct(chance, naming, root, schemas, "coded", extra=[code])
    child, _ = _child(chance, naming, schemas, parent, [(code.name, "text")], "coded_lines")
    up = identifier(naming.new("up"))
    own, key, _ = _direct(chance, naming, root, schemas, "nested", constraints="")
    unique = f"ALTER TABLE {own.title} ADD UNIQUE ({column}, {key.column})"
    nest = (
        f"ALTER TABLE {own.title} ADD COLUMN {up} {key.type}",
        f"ALTER TABLE {own.title} ADD FOREIGN KEY ({column}, {up}) REFERENCES {own.title} ({column}, {key.column})",
    )
    hang = (
        f"UPDATE {own.title} AS t SET {up} = n.up FROM (SELECT {key.column} AS id, lead({key.column}, 2) OVER"
        f" (ORDER BY {key.column} DESC) AS up FROM {own.title} WHERE {column} = «tenant») AS n"
        f" WHERE n.id = t.{key.column}"
    )
    return [_kept(parent), child, replace(_kept(own), ddl=(*own.ddl, unique, *nest), fill=(*own.fill, hang))]


def generated_key(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """The primary key is computed from other columns, so that no stored column is one."""
    base, made = identifier(naming.new("base")), identifier(naming.new("computed"))
    extra = _Extra(base, f"{base} bigint NOT NULL", "g")
    table, _, _ = _direct(
        chance,
        naming,
        root,
        schemas,
        "computed_key",
        extra=[extra],
        primary="",
        constraints=f", {made} text GENERATED ALWAYS AS ('key ' || {base}) STORED PRIMARY KEY",
    )
    return [table]


def shared_sequence(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """One sequence feeds two tables, and belongs to neither."""
    sequence = _title(chance.choice(list(schemas)), naming.new("counter"))
    default = f"nextval({literal(sequence)})"
    tables = []
    for plain in ("drawn", "drawn_too"):
        key = _Id(identifier(naming.new("id")), "bigint", "g")
        table, _, _ = _direct(chance, naming, root, schemas, plain, key=key)
        late = f"ALTER TABLE {table.title} ALTER COLUMN {key.column} SET DEFAULT {default}"
        count = f"SELECT setval({literal(sequence)}, (SELECT coalesce(max({key.column}), 1) FROM {table.title}))"
        tables.append(replace(table, ddl=(*table.ddl, late), ddl_late=(count,)))
    return [replace(tables[0], ddl=(f"CREATE SEQUENCE {sequence}", *tables[0].ddl)), tables[1]]


def unchecked(chance: random.Random, naming: Naming, root: Root, schemas: Sequence[str]) -> list[WorldTable]:
    """A foreign key that was never validated: some rows point at nothing, and so belong to nobody."""
    parent, one, _ = _direct(chance, naming, root, schemas, "vague")
    child, _ = _child(chance, naming, schemas, parent, [(one.column, one.type)], "vague_lines", lost=one.made)
    return [_kept(parent), child]


Shape = Callable[[random.Random, Naming, Root, Sequence[str]], list[WorldTable]]

SHAPES: Mapping[str, Shape] = {
    shape.__name__: shape
    for shape in (
        direct,
        chain,
        composite,
        keyed_by_tenant,
        tree,
        nullable_path,
        reference_data,
        crossroads,
        hash_partitions,
        list_partitions,
        range_partitions,
        inheritance,
        generated,
        unique_index_only,
        duplicates,
        cycle,
        one_to_one,
        constraints,
        evolved,
        triggered,
        odd_keys,
        other_references,
        generated_key,
        shared_sequence,
        unchecked,
    )
}
