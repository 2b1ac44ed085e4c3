"""What following knows of the source's tables at one look: how rows are routed, what stores them, their shape.

Read from the catalog in one transaction; read again when the schema changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.capture.leaves import Leaves
from outlast.capture.numbering import Numbering
from outlast.capture.route_map import RouteMap
from outlast.capture.route_plan import RoutePlan, plan_routes
from outlast.capture.route_seed import seed_routes
from outlast.core.table import OwnershipKind, TableName
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.following_facts import FollowingFacts, Member, Names, read_following
from outlast.sources.postgres.publication import by_root, lacking
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.schema_events import Shapes, read_shapes
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.tenants import read_tenants

PARTIAL = ", in part"


@dataclass(frozen=True, slots=True)
class Tables:
    """One look at the catalog."""

    catalog: Catalog
    facts: FollowingFacts
    plan: RoutePlan
    leaves: Leaves
    shapes: Shapes
    partial: tuple[TableName, ...]
    """Roots of which a part is not published whole: the log lacks their updates and deletes, or more."""
    by_root: frozenset[TableName]
    """Roots that are published whole by their own name: every leaf to come is published with them."""

    def ways(self) -> dict[str, str]:
        """RoutePlan.ways, and whether all of a table's changes are published."""
        return {
            name: way + PARTIAL if TableName.parse(name) in self.partial else way
            for name, way in self.plan.ways().items()
        }

    def root_of(self, member: Member) -> TableName:
        root = self.facts.root(member.root_oid)
        return member.name if root is None else root.name


def look(session: Session, settings: OwnershipSettings, names: Names) -> Tables:
    """Look at the catalog, in the session's transaction."""
    catalog = read_catalog(session, settings)
    facts = read_following(session, catalog, names)
    roots: Mapping[int, TableName] = {member.oid: member.name for member in facts.members if member.is_root}
    leaves = {
        member.oid: roots[member.root_oid]
        for member in facts.members
        if not member.partitioned and member.root_oid in roots
    }
    return Tables(
        catalog,
        facts,
        plan_routes(catalog),
        Leaves(leaves),
        Shapes(read_shapes(session)),
        lacking(facts, names),
        by_root(facts, names),
    )


def seed(
    session: Session,
    tables: Tables,
    map_: RouteMap,
    numbers: Numbering,
    spool_directory: Path,
    only: Iterable[TableName] | None = None,
) -> int:
    """Fill the map at the session's snapshot, with `only` these roots' rows (None: all). Returns rows read."""
    wanted = None if only is None else set(only)
    for key, tenant in read_tenants(session, tables.catalog).items():  # also those that have a row nowhere else
        numbers.relabel(numbers.number_of(key.encode("utf-8", "surrogateescape")), tenant.label, told=True)
    members: Sequence[Member] = [
        member for member in tables.facts.members if wanted is None or tables.root_of(member) in wanted
    ]
    return seed_routes(session, tables.plan, members, tables.root_of, map_, numbers, spool_directory)


def undecided(tables: Tables) -> list[TableName]:
    """Tables of which outlast.toml does not say whose they are."""
    return [table.name for table in tables.catalog.tables if table.ownership.kind is OwnershipKind.UNDECIDED]
