"""What following depends on in a database, as typed values: settings, powers, tables with their partitions, and what
setup has made there before. Owns the order of the queries' columns; decides nothing.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import psycopg

from outlast.core.table import TableName
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.running import RunningTransactions
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement

MARK = '{"outlast":'
"""How the comment of a publication or schema that setup made begins: what is not marked is not ours to change."""


@dataclass(frozen=True, slots=True)
class Names:
    """What following calls its things in the database: the slot and the two publications."""

    slot: str

    @classmethod
    def of(cls, source: str, slot: str | None = None) -> Names:
        """`outlast_<source>`, in the letters that a slot's name may have; another source never gives the same name."""
        if slot is not None:
            return cls(slot)
        plain = re.sub(r"[^a-z0-9_]", "_", source.lower())
        if plain != source or len(plain) > _SOURCE_LENGTH_MAX:
            plain = f"{plain[: _SOURCE_LENGTH_MAX - 9]}_{sha256(source.encode()).hexdigest()[:8]}"
        return cls(f"outlast_{plain}")

    @property
    def publication(self) -> str:
        return self.slot

    @property
    def partial(self) -> str:
        return f"{self.slot}_partial"

    @property
    def publications(self) -> tuple[str, str]:
        return (self.publication, self.partial)


_SOURCE_LENGTH_MAX = 63 - len("outlast__partial")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    version: int
    database: str
    database_oid: int
    in_recovery: bool
    wal_level: str
    slot_limit: str  # max_slot_wal_keep_size as the server says it; "-1": none
    slots_max: int
    slots: int
    senders_max: int
    senders: int
    fsync: str
    synchronous_commit: str
    event_triggers: bool
    role: str
    superuser: bool
    may_replicate: bool
    may_create: bool
    has_plpgsql: bool


@dataclass(frozen=True, slots=True)
class IdentityIndex:
    """A unique index. `fit`: the server takes it for a replica identity; `chosen`: it is the one."""

    name: str
    primary: bool
    chosen: bool
    fit: bool
    exclusion: bool
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A table or partition that could be published. `generated`: "s" and "v" for stored and virtual columns."""

    root_oid: int
    oid: int
    name: TableName
    kind: str  # r table or leaf, p partitioned, f foreign
    persistence: str  # p permanent, u unlogged
    identity: str  # pg_class.relreplident: d f i n
    owner: str
    may_alter: bool
    generated: str
    publications: tuple[str, ...]
    narrowed: tuple[str, ...]
    indexes: tuple[IdentityIndex, ...] = ()

    @property
    def is_root(self) -> bool:
        return self.root_oid == self.oid

    @property
    def partitioned(self) -> bool:
        return self.kind == "p"

    @property
    def primary(self) -> IdentityIndex | None:
        return next((index for index in self.indexes if index.primary), None)

    @property
    def chosen(self) -> IdentityIndex | None:
        return next((index for index in self.indexes if index.chosen), None)


@dataclass(frozen=True, slots=True)
class Publication:
    """`by_rule`: it is FOR ALL TABLES, or names schemas."""

    name: str
    owner: str
    may_alter: bool
    by_rule: bool
    publish: str
    via_root: bool
    generated: bool
    comment: str
    members: Mapping[int, str]  # oid: quoted name

    @property
    def ours(self) -> bool:
        return self.comment.startswith(MARK)

    @property
    def vault(self) -> str | None:
        """The id of the vault that it feeds, as its comment says; None where it does not."""
        try:
            found = json.loads(self.comment)["vault"] if self.ours else None
        except (ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) and found else None

    def of_another(self, vault: str) -> bool:
        """Whether another vault than this one is fed by it."""
        return bool(vault) and self.vault not in (None, vault)


@dataclass(frozen=True, slots=True)
class EventFacts:
    """The schema `outlast` and what stands in it. `schema_oid` is 0 where there is none."""

    schema_oid: int
    schema_owner: str
    may_use_schema: bool
    owner_trusted: bool
    comment: str
    functions: Mapping[str, str]  # name: its text
    has_more: bool
    triggers: Mapping[str, tuple[str, str]]  # name: (evtenabled, tags by commas)
    written: str  # which they are, and who wrote them last: others did not tell what these tell


@dataclass(frozen=True, slots=True)
class SlotFacts:
    plugin: str | None
    here: bool  # it is of this database
    active: bool
    wal_status: str
    confirmed: str | None
    lag_bytes: int


@dataclass(frozen=True)
class FollowingFacts:
    server: ServerFacts
    members: tuple[Member, ...]
    publications: Mapping[str, Publication]
    events: EventFacts
    slot: SlotFacts | None
    running: RunningTransactions = RunningTransactions()  # noqa: RUF009 - a frozen value; what holds up a new slot
    _leaves: dict[int, list[Member]] = field(init=False, repr=False)
    _roots: dict[int, Member] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        leaves: dict[int, list[Member]] = defaultdict(list)
        for member in self.members:
            if not member.partitioned:
                leaves[member.root_oid].append(member)
        object.__setattr__(self, "_leaves", dict(leaves))
        object.__setattr__(self, "_roots", {member.oid: member for member in self.members if member.is_root})

    def root(self, oid: int) -> Member | None:
        return self._roots.get(oid)

    def leaves(self, root_oid: int) -> list[Member]:
        """What stores a table's rows: itself, or its partitions."""
        return self._leaves.get(root_oid, [])


def read_following(connection: Session, catalog: Catalog, names: Names) -> FollowingFacts:
    """Read them for every table that is owned or shared. Raises SourceError where the catalog cannot be read."""
    try:
        return _read(connection, catalog, names)
    except psycopg.Error as error:
        raise explain(error, "read what following depends on") from error


def _read(connection: Session, catalog: Catalog, names: Names) -> FollowingFacts:
    tables = [table.oid for table in (*catalog.owned, *catalog.shared)]
    relations = _ask(connection, "following_relations", {"tables": tables})
    indexes: dict[int, list[IdentityIndex]] = defaultdict(list)
    for oid, name, primary, chosen, fit, exclusion, columns in _ask(
        connection, "following_indexes", {"relations": [row[1] for row in relations]}
    ):
        indexes[oid].append(IdentityIndex(name, primary, chosen, fit, exclusion, tuple(columns)))
    members = []
    for root, oid, schema, name, kind, persistence, identity, owner, may_alter, generated, named, narrowed in relations:
        members.append(
            Member(
                root,
                oid,
                TableName(schema, name),
                kind,
                persistence,
                identity,
                owner,
                may_alter,
                generated,
                tuple(named),
                tuple(narrowed),
                tuple(indexes[oid]),
            )
        )
    slots = _ask(connection, "following_slot", {"slot": names.slot})
    return FollowingFacts(
        ServerFacts(*_ask(connection, "following_server")[0]),
        tuple(members),
        {one.name: one for one in read_publications(connection, names)},  # other sources' too
        _events(connection),
        SlotFacts(*slots[0]) if slots else None,
    )


def read_publications(connection: Session, names: Names) -> Iterable[Publication]:
    """Those of these names, and all that setup made, for whatever source or vault."""
    for row in _ask(connection, "following_publications", {"names": list(names.publications)}):
        name, owner, may_alter, by_rule, publish, via_root, generated, comment, oids, quoted = row
        members = dict(zip(oids, quoted, strict=True))
        yield Publication(name, owner, may_alter, by_rule, publish, via_root, generated, comment, members)


def _events(connection: Session) -> EventFacts:
    row = _ask(connection, "following_events", {})[0]
    oid, owner, may_use, trusted, comment, functions, sources, more, triggers, enabled, tags, written = row
    return EventFacts(
        oid or 0,
        owner or "",
        bool(may_use),
        bool(trusted),
        comment,
        dict(zip(functions or (), sources or (), strict=True)),
        bool(more),
        {name: (state, tag or "") for name, state, tag in zip(triggers, enabled, tags, strict=True)},
        " ".join(written),
    )


def _ask(connection: Session, name: str, given: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    return connection.execute(statement(name), given).fetchall()
