"""Routing: to which tenant's log each change belongs, as of its place in its transaction.

Rules, in the order of the questions asked: an old tuple that tells the owner is believed; else the route map knows the
row; a row it does not know is a *doubt*, told to the sink and never passed over (parents.py: nor is a parent). Children
follow their parents by the map itself; that they moved with one is written as its move, which the reader carries out on
all that hangs on it. TRUNCATE is an entry of every tenant that may have had a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from outlast.capture.known_ways import KnownWays
from outlast.capture.leaves import Leaves
from outlast.capture.numbering import Numbering
from outlast.capture.parents import Parents
from outlast.capture.route_ids import (
    ID_BYTES,
    ORPHAN_NUMBER,
    RESERVED_MAX,
    SHARED_NUMBER,
    Route,
    aliased,
    aliases_of,
    plain,
)
from outlast.capture.route_map import RouteMap
from outlast.capture.route_plan import RoutePlan
from outlast.capture.sink import Sink
from outlast.capture.told import all_unsent, any_unsent, key_before
from outlast.capture.truncation import Truncation
from outlast.capture.ways import Way, id_of
from outlast.core.change import (
    OP_DELETE,
    OP_INSERT,
    OP_TRUNCATE,
    OP_UPDATE,
    Change,
    Field,
    Relation,
    Unchanged,
)
from outlast.core.table import TableName

_NO_ID = bytes(16)
_OWNERS_MAX = 20_000

Prepared = tuple[Way | None, Relation, int, bytes | None, bytes | None, Route | None, Route | None]
"""(way, relation, operation, old tuple, new tuple, before, route that its new owner is). `before` is the id of the row
before the change where its route is kept, else the route that its old owner is, where the old tuple tells it."""


class Router:
    """Routes the changes of one transaction after another, in order of commit."""

    def __init__(self, plan: RoutePlan, leaves: Leaves, map_: RouteMap, numbers: Numbering, sink: Sink) -> None:
        self._map = map_
        self._numbers = numbers
        self._sink = sink
        self._parents = Parents(plan, map_, sink)
        self._ways = KnownWays(plan, leaves, map_, sink)
        self._truncation = Truncation(leaves, self._ways, map_, numbers, sink)
        self._block: Sequence[Prepared] = ()
        self._place = 0
        self._coming: dict[bytes, Route] | None = None

    def prepare(self, relations: Mapping[int, Relation], changes: Sequence[Change]) -> list[Prepared]:
        """What can be said of changes before those before them are routed: their ways, ids and new owners."""
        prepared: list[Prepared] = []
        append = prepared.append
        last: int | None = None
        for operation, oid, old, new in changes:
            if oid != last:
                relation, last = relations[oid], oid
                way = self._ways.of(relation)
            if way is None or way.shared or operation == OP_TRUNCATE:
                append((way, relation, operation, old, new, None, None))
                continue
            before: Route | None = None
            after: Route | None = None
            if new is not None:
                fields = way.pick(new, 0)
                split = way.row_fields
                after = way.owners.get(fields[-1]) if len(fields) == split + 1 else None  # type: ignore[arg-type]
                if after is None:
                    after = self._new_owner(way, fields[split:])
                if split and old is None:
                    before = id_of(way.row_space, fields[:split])  # type: ignore[arg-type]
            if old is not None:
                before = (
                    id_of(way.row_space, way.row(old, 1)) if way.row_space is not None else self._old_owner(way, old)
                )
            append((way, relation, operation, old, new, before, after))
        return prepared

    def fetch(self, prepared: Iterable[Prepared]) -> None:
        """Load the routes that these will ask for, in a few statements instead of one each."""
        wanted: set[bytes] = set()
        slots, mask, ends = self._map.pairs.slots, self._map.pairs.mask, self._map.ends
        for way, _, operation, _, _, before, after in prepared:
            if type(before) is bytes and operation != OP_INSERT:
                assert way is not None
                place, pair = hash(before) & mask, hash((before, after))
                if way.row_space is None:
                    if before not in ends:
                        wanted.add(before)
                elif not way.simple or after is None or (slots[place] != pair and slots[place ^ 1] != pair):
                    wanted.add(before)
            if type(after) is bytes and after not in ends:
                wanted.add(after)
        self._map.fetch(wanted)

    def route(self, prepared: Sequence[Prepared]) -> None:
        """Route some changes of the current transaction, which `prepare` gave."""
        change, ends = self._sink.change, self._map.ends
        slots, mask = self._map.pairs.slots, self._map.pairs.mask
        self._block, self._coming = prepared, None
        for index, (way, relation, operation, old, new, before, after) in enumerate(prepared):
            self._place = index
            if self._truncation and operation != OP_TRUNCATE:
                self._truncation.route()
            if way is None:
                continue
            if operation == OP_TRUNCATE:
                self._truncation.add(relation)
            elif way.shared:
                change(SHARED_NUMBER, operation, way.logged, old, new)
            elif operation == OP_UPDATE:
                assert new is not None
                if (
                    old is None
                    and before is not None
                    and way.simple
                    and after is not None
                    and (
                        slots[hash(before) & mask] == hash((before, after))
                        or slots[hash(before) & mask ^ 1] == hash((before, after))
                    )
                ):
                    tenant = after if type(after) is int else ends.get(after)  # type: ignore[arg-type]
                    change(self._tenant(after) if tenant is None else tenant, operation, way.logged, None, new)
                    continue
                self._update(way, old, new, before, after)
            elif operation == OP_INSERT:
                assert new is not None
                self._insert(way, new, before, after)
            else:
                assert old is not None
                self._delete(way, old, before)

    @property
    def place(self) -> int:
        """Which of the changes given to `route` is being routed: a sink may ask."""
        return self._place

    def end(self) -> None:
        """The transaction is over."""
        if self._truncation:
            self._truncation.route()
        self._parents.end()
        self._map.end_transaction()

    def tenant_of(self, relation: Relation, change: Change) -> int | None:
        """Whose row a change of a transaction that is not committed would touch, as far as the map knows now."""
        _, _, old, new = change
        way = self._ways.of(relation)
        if way is None:
            return None
        if way.shared:
            return SHARED_NUMBER
        route: Route | None
        if old is not None and way.carried:
            route = self._owner(way, way.owner(old, 1))
        elif way.row_space is not None and (id_ := self._row_id(way, old, new)) is not None:
            route = self._map.get(id_)
        else:
            route = None
        if route is None and new is not None:
            route = self._owner(way, way.owner(new, 0))
        return None if route is None else self._map.tenant_of(route)

    def table_of(self, relation: Relation) -> TableName | None:
        """The root table of a relation that is followed."""
        way = self._ways.of(relation)
        return None if way is None else way.logged.name

    # Rows --------------------------------------------------------------------------------------------------------

    def _insert(self, way: Way, new: bytes, before: Route | None, route: Route | None) -> None:
        row_id = before if isinstance(before, bytes) else None
        if route is None or (way.row_space is not None and row_id is None):
            self._sink.doubt(way.logged.name, "a row came without the columns by which it finds its tenant")
            return
        tenant = self._tenant(route)
        self._sink.change(tenant, OP_INSERT, way.logged, None, new)
        if way.label is not None:
            self._relabel(way, tenant, new)
        if not way.targets:
            if row_id is not None:
                self._map.put(row_id, route)
            return
        ids = [target.id_of(target.take(new, 0)) for target in way.targets]
        self._keep(way, row_id, route, ids)
        for target, id_ in zip(way.targets, ids, strict=True):
            if id_ is not None:
                self._parents.arrived(way.logged.name, id_, tenant)
                if not target.is_row:
                    self._map.put(id_, route)

    def _update(self, way: Way, old: bytes | None, new: bytes, before: Route | None, after: Route | None) -> None:
        listed: Sequence[bytes] = ()
        if way.row_space is None:
            before = before if old is not None and way.carried else after
        else:
            before = self._map.get(before) if isinstance(before, bytes) else None
            if isinstance(before, bytes) and len(before) != ID_BYTES:
                listed, before = aliases_of(before), plain(before)
        if after is None and way.owner_unsent(new):
            after = before
        if before is None or after is None:
            self._unknown(way, "an UPDATE of a row that is not known here")
            if after is None:
                return
            before = after
        from_tenant = self._tenant(before)
        to_tenant = from_tenant if before == after else self._tenant(after)
        if from_tenant == to_tenant:
            self._sink.change(from_tenant, OP_UPDATE, way.logged, old, new)
            if way.markers is not None and way.markers.marks(old, new):
                self._sink.soft_deleted(from_tenant, way.logged)
        else:
            self._sink.move(from_tenant, to_tenant, way.logged, key_before(way, old, new), new)
        if before != after or (old is not None and way.row_space is not None) or not way.steady:
            self._rekey(way, old, new, before, after, listed)
        if way.label is not None:
            self._relabel(way, to_tenant, new)

    def _delete(self, way: Way, old: bytes, before: Route | None) -> None:
        listed: Sequence[bytes] = ()
        row_id = before if way.row_space is not None and isinstance(before, bytes) else None
        if way.row_space is None:
            route = before
        else:
            route = None if row_id is None else self._map.get(row_id)
            if isinstance(route, bytes) and len(route) != ID_BYTES:
                listed, route = aliases_of(route), plain(route)
        if route is None:
            self._unknown(way, "a DELETE of a row that is not known here")
            return
        tenant = self._tenant(route)
        ids = self._target_ids(way, old, 1, listed) if way.targets else ()
        if tenant != ORPHAN_NUMBER and any(not target.lasting for target in way.targets):
            # Nothing on the server takes care of what points at it: that goes where nobody's rows are, and with it the
            # row, to be deleted there.
            self._sink.move(tenant, ORPHAN_NUMBER, way.logged, key_before(way, old, old[1:]), all_unsent(old))
            self._sink.change(ORPHAN_NUMBER, OP_DELETE, way.logged, old, None)
        else:
            self._sink.change(tenant, OP_DELETE, way.logged, old, None)
        if row_id is not None and not any(target.is_row for target in way.targets):
            self._map.remove(row_id)
        for target, id_ in zip(way.targets, ids, strict=True):
            if id_ is not None:
                self._map.remove(id_, leads=route)
                if not target.lasting:
                    self._map.await_parent(id_)

    # Routes ------------------------------------------------------------------------------------------------------

    def _owner(self, way: Way, values: Sequence[Field]) -> Route | None:
        """The route that these values of the owner's columns are. None where they were not sent."""
        for value in values:
            if value is None:
                return ORPHAN_NUMBER
            if isinstance(value, Unchanged):
                return None
        if way.parent is None:
            return self._numbers.number_of(values[0])  # type: ignore[arg-type]
        return id_of(way.parent, values, way.parent_canonical)

    def _old_owner(self, way: Way, old: bytes) -> Route | None:
        """The route that the old tuple says its row had, where it says so."""
        if not way.carried:
            return None
        values = way.owner(old, 1)
        known = way.owners.get(values[0]) if len(values) == 1 else None  # type: ignore[arg-type]
        return self._new_owner(way, values) if known is None else known

    def _new_owner(self, way: Way, values: Sequence[Field]) -> Route | None:
        route = self._owner(way, values)
        if route is not None and len(values) == 1 and type(values[0]) is bytes:
            if len(way.owners) >= _OWNERS_MAX:
                way.owners.clear()
            way.owners[values[0]] = route
        return route

    def _tenant(self, route: Route) -> int:
        """The tenant at the end of a route, at this place of the transaction.

        A parent may come later in it (deferred keys): then it is looked for in what is left of the block.
        """
        tenant = self._map.tenant_of(route)
        if tenant != ORPHAN_NUMBER or isinstance(route, int):
            return tenant
        way = self._block[self._place][0]
        assert way is not None
        return self._parents.tenant(way.logged.name, route, self._later)

    def _later(self) -> Mapping[bytes, Route]:
        """Routes of rows that others can point at and that the rest of the block writes."""
        if self._coming is None:
            self._coming = {}
            for way, _, _, _, new, _, route in self._block[self._place :]:
                if new is None or way is None or route is None:
                    continue
                for target in way.targets:
                    id_ = target.id_of(target.take(new, 0))
                    if id_ is not None:
                        self._coming.setdefault(id_, route)
        return self._coming

    def _row_id(self, way: Way, old: bytes | None, new: bytes | None) -> bytes | None:
        assert way.row_space is not None
        values = way.row(old, 1) if old is not None else way.row(new or b"", 0)
        return id_of(way.row_space, values)

    def _keep(self, way: Way, row_id: bytes | None, route: Route, ids: Sequence[bytes | None]) -> None:
        if row_id is None:
            return
        listed = [id_ or _NO_ID for target, id_ in zip(way.targets, ids, strict=True) if not target.derived]
        self._map.put(row_id, aliased(route, listed) if listed else route)

    def _target_ids(self, way: Way, row: bytes, start: int, listed: Sequence[bytes]) -> list[bytes | None]:
        """The ids by which others point at a row, of a tuple that may tell its identity only."""
        rest = iter(listed)
        ids: list[bytes | None] = []
        for target in way.targets:
            if target.derived:
                ids.append(target.id_of(target.take(row, start)))
            else:
                id_ = next(rest, _NO_ID)
                ids.append(None if id_ == _NO_ID else id_)
        return ids

    def _rekey(
        self, way: Way, old: bytes | None, new: bytes, before: Route, after: Route, listed: Sequence[bytes]
    ) -> None:
        """Bring the map to a row's new ids and route."""
        if way.row_space is None and old is not None and before == after:
            for target in way.targets:
                if target.take(old, 1) != target.take(new, 0):
                    break
            else:
                return  # nothing that anybody finds it by
        was = self._target_ids(way, old, 1, listed) if old is not None else self._target_ids(way, new, 0, listed)
        now: list[bytes | None] = []
        for target, id_ in zip(way.targets, was, strict=True):
            values = target.take(new, 0)
            now.append(id_ if any_unsent(values) else target.id_of(values))
        row_id = None
        if way.row_space is not None:
            row = way.row(new, 0)
            row_id = id_of(way.row_space, way.row(old, 1) if old is not None and any_unsent(row) else row)
            if row_id is None:
                self._sink.doubt(way.logged.name, "a row came without its identity")
            former = None if old is None else id_of(way.row_space, way.row(old, 1))
            if former is not None and former != row_id:
                self._map.remove(former)
        for target, id_, next_ in zip(way.targets, was, now, strict=True):
            if id_ is not None and id_ != next_:
                # What points at the old values is carried along by the server, or goes with the move of this row.
                self._map.remove(id_, leads=after)
            if next_ is not None and not target.is_row and (id_ != next_ or before != after):
                self._map.put(next_, after)
            if next_ is not None and id_ != next_:
                self._parents.arrived(way.logged.name, next_, self._tenant(after))
        self._keep(way, row_id, after, now)

    # The rest ----------------------------------------------------------------------------------------------------

    def _unknown(self, way: Way, reason: str) -> None:
        self._sink.doubt(way.logged.name, reason)

    def _relabel(self, way: Way, tenant: int, new: bytes) -> None:
        assert way.label is not None
        (label,) = way.label(new, 0)
        if not isinstance(label, Unchanged) and tenant > RESERVED_MAX:
            self._numbers.relabel(tenant, None if label is None else label.decode("utf-8", "surrogateescape"))
