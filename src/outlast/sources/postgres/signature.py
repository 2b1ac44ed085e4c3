"""A table's signature: equal only where an unchanged row version certainly reads as the same bytes, of the same tenant.

An incremental backup compares row versions (key and xmin) and reads again what differs. That is sound only while
nothing else decides what a row reads as. What else does, and how it is met:

- *The history of the server.* After a promotion, a rewind or a recovery to a point in time the same transaction numbers
  are given out again, so that a different row may carry a known (key, xmin). The system identifier and the timeline are
  part of every signature; where the timeline cannot be read the signature is new every time. (A disk set back to a
  snapshot keeps both: docs/OPERATIONS.md says what to do then.)
- *The storage.* The table's oid and relfilenode (a TRUNCATE with a COPY FREEZE, a rewrite, a table dropped and made
  again), and for a partitioned table a digest of its partitions' oids, relfilenodes and of the pg_inherits rows that
  link them: a partition that was detached, altered and attached again is linked by a new row.
- *The columns.* Number, name, type, modifier and generation of each, dropped ones too, and the value that
  ALTER TABLE … ADD COLUMN … DEFAULT left for rows which do not store one (attmissingval). With them the xmin of the
  pg_attribute row, which is new after any ALTER, even one undone since. A type changed without a rewrite (varchar to
  text, oid to regclass) changes the type's number here.
- *The types.* Everything reachable from a column's type (element, base, subtype, fields), with its labels (an enum
  stores numbers: RENAME VALUE changes the text of every row), its fields (ALTER TYPE … ADD ATTRIBUTE adds one to old
  values), its output function and its extension's version, each with its row's xmin. Tables' row types too.
- *Text that depends on other objects.* regclass and its kin print names that a RENAME elsewhere changes; so does
  aclitem, and so may any type whose output function is declared less than immutable and is not known to depend on
  pinned settings only. Such a table's signature is new every time: it is always read again, and `check` says so.
- *The owner.* The ownership path, its columns and the numbers of the tables on it, and a generated tenant column's
  expression; where that is computed at reading (virtual), functions may have changed: new every time.
- *The reading.* The key and its kinds, ONLY, and the server's version and encoding.

Not part of it, because it cannot change a row's bytes: collations (order is by bytes), privileges, defaults of future
rows, indexes, constraints, statistics, compression and storage of TOAST, tablespace moves (a new relfilenode, though).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from outlast.core.row import KeyKind
from outlast.core.table import Ownership

# Output functions that are only STABLE because they depend on settings that every session of ours pins, or that call
# the output functions of the types they are made of, which are looked at themselves.
_PINNED_OUTPUTS = frozenset(
    [
        "array_out",
        "cash_out",
        "date_out",
        "domain_out",
        "enum_out",
        "interval_out",
        "multirange_out",
        "range_out",
        "record_out",
        "time_out",
        "timestamp_out",
        "timestamptz_out",
        "timetz_out",
        "xml_out",
    ]
)


@dataclass(frozen=True, slots=True)
class TypeFacts:
    """A type: what decides the text of its values. `parts` are the numbers of the types that it is made of."""

    oid: int
    kind: str  # pg_type.typtype
    schema: str
    name: str
    base: int
    output: str
    output_built_in: bool
    output_immutable: bool
    parts: tuple[int, ...]
    digest: str

    @property
    def is_steady(self) -> bool:
        """Whether the text of a value is decided by the value, this type and its parts alone."""
        return self.output_immutable or (self.output_built_in and self.output in _PINNED_OUTPUTS)


@dataclass(frozen=True, slots=True)
class Storage:
    """What of a table's signature is known before its owner is. `columns` describes every attribute."""

    server: tuple[str, ...]
    steady: bool
    table: tuple[int, int, bool]
    partitions: str
    columns: tuple[tuple[object, ...], ...]
    types: tuple[int, ...]


def reach(types: Mapping[int, TypeFacts], roots: tuple[int, ...]) -> tuple[TypeFacts, ...]:
    """All types that `roots` are made of, themselves included, by number."""
    found: dict[int, TypeFacts] = {}
    open_numbers = list(roots)
    while open_numbers:
        number = open_numbers.pop()
        if number in types and number not in found:
            found[number] = types[number]
            open_numbers += types[number].parts
    return tuple(found[number] for number in sorted(found))


def unsteady_types(types: Mapping[int, TypeFacts], roots: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the types among them whose text may change while the row does not."""
    return tuple(f"{facts.schema}.{facts.name}" for facts in reach(types, roots) if not facts.is_steady)


def signature(
    storage: Storage,
    types: Mapping[int, TypeFacts],
    ownership: Ownership,
    path_oids: tuple[int, ...],
    key: tuple[str, ...],
    key_kinds: tuple[KeyKind, ...],
) -> str:
    """The signature, as hex. Unique where nothing can be promised."""
    reached = reach(types, storage.types)
    steady = storage.steady and all(facts.is_steady for facts in reached)
    described = [
        storage.server,
        storage.table,
        storage.partitions,
        storage.columns,
        [[facts.oid, facts.schema, facts.name, facts.output, facts.parts, facts.digest] for facts in reached],
        [ownership.kind.value, ownership.tenant_column, path_oids],
        [[step.columns, str(step.to), step.to_columns, step.only] for step in ownership.path],
        key,
        [kind.value for kind in key_kinds],
        "" if steady else secrets.token_hex(16),
    ]
    return hashlib.sha256(json.dumps(described, ensure_ascii=True).encode()).hexdigest()
