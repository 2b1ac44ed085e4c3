"""How one relation's tuples are read for a tally: its rows as COPY fields, what of them a digest covers, and by what
key they are known. Every position is looked up once a relation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import Struct

from outlast.core.change import Relation
from outlast.core.row import NULL, escape, unescape
from outlast.core.soft_delete import SoftDeleteMarkers
from outlast.core.table import Table, TableName

_TEXT, _UNCHANGED = b"tu"
_LENGTH = Struct(">I").unpack_from
_SPECIAL = b"\b\f\n\r\t\v\\"  # what COPY escapes

Texts = list[bytes]
"""A row's COPY fields, one for each of its relation's columns."""


def texts_of(tuple_: bytes, start: int, before: Sequence[bytes] | None = None) -> Texts | None:
    """The COPY fields of a tuple that begins at `start`. What the server left out is as it was `before`; None where
    that is not known."""
    found: Texts = []
    append = found.append
    nulls: list[int] = []
    at, size = start + 2, len(tuple_)
    while at < size:
        kind = tuple_[at]
        if kind == _TEXT:
            begin = at + 5
            at = begin + _LENGTH(tuple_, at + 1)[0]
            append(tuple_[begin:at])
            continue
        at += 1
        if kind != _UNCHANGED:
            nulls.append(len(found))
            append(b"")
        elif before is None:
            return None
        else:
            append(_unescaped_before(before, len(found), nulls))
    together = b"".join(found)
    if len(together.translate(None, _SPECIAL)) != len(together):  # seldom, and then field by field
        found = [escape(one) for one in found]
    for place in nulls:
        found[place] = NULL
    return found


def _unescaped_before(before: Sequence[bytes], place: int, nulls: list[int]) -> bytes:
    """A value as it was, without its escapes: those are put on again with all others'."""
    was = before[place]
    if was == NULL:
        nulls.append(place)
        return b""
    return unescape(was)


def difference(was: Texts, now: Texts) -> tuple[int, ...]:
    """The places in which two rows differ."""
    return tuple([place for place, text in enumerate(now) if was[place] != text])


@dataclass(frozen=True, slots=True)
class Shape:
    """`order` gives a digest's columns by their places in a tuple; `key` the key's places in a tuple, empty where the
    table has none."""

    relation: Relation
    root: TableName
    name: str
    names: tuple[str, ...]
    key: tuple[int, ...]
    order: tuple[int, ...]
    bound: frozenset[int]  # places of columns at which foreign keys begin or end
    markers: SoftDeleteMarkers | None
    computed: frozenset[str]  # generated columns, which nobody writes
    plain: bool  # `order` is the tuple's own order
    _sets: dict[tuple[int, ...], frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, relation: Relation, root: TableName, table: Table | None, computed: frozenset[str], bound: frozenset[int]
    ) -> Shape:
        """`table` None: nobody classified it. `computed` are its root's; of columns that the script added all count."""
        names = tuple(name for name, _ in relation.columns)
        stored = frozenset(names) if table is None else frozenset(names) - computed
        kept = [name for name in (table.column_names if table is not None else names) if name in names]
        kept += [name for name in names if name in stored and name not in kept]
        order = tuple(names.index(name) for name in kept)
        key = table.key if table is not None and set(table.key) <= set(names) else ()
        return cls(
            relation,
            root,
            str(root),
            names,
            tuple(names.index(column) for column in key),
            order,
            bound,
            SoftDeleteMarkers.of(relation),
            frozenset(names) - stored,
            order == tuple(range(len(names))),
        )

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(self.names[place] for place in self.key)

    @property
    def columns(self) -> tuple[str, ...]:
        """The digest's."""
        return tuple(self.names[place] for place in self.order)

    def changed(self, places: tuple[int, ...]) -> frozenset[str]:
        """The names of these columns, without the generated ones."""
        found = self._sets.get(places)
        if found is None:
            found = frozenset(self.names[place] for place in places) - self.computed
            self._sets[places] = found
        return found

    def covered(self, texts: Texts) -> Texts:
        """What a digest covers, in its order."""
        return texts if self.plain else [texts[place] for place in self.order]

    def key_of(self, texts: Texts) -> bytes:
        """The key's fields, or all that a digest covers where the table has none."""
        key = self.key
        if len(key) == 1:
            return texts[key[0]]
        return b"\t".join([texts[place] for place in key or self.order])
