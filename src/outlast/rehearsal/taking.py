"""Taking the rehearsed rows: each under lock and as it was when it was rehearsed, or nothing is run.

What is read here is also what undo puts back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outlast.core.errors import Refused
from outlast.core.row import unescape
from outlast.core.table import Table, TableName
from outlast.rehearsal.finding import number_text
from outlast.rehearsal.observed import row_digest
from outlast.rehearsal.receipt import KeyedTable
from outlast.sources.postgres.keyed import count_rows, rows_by_key
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session

_KEYS_SHOWN = 5
_DRIFTED = "It changed since the copy's moment. Back up, unless `follow` runs, and rehearse again, on a newer one."


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as rehearsed. `table` is empty where it is about none.

    `mend` is the statement that puts right what ROLLBACK leaves as it is.
    """

    message: str
    table: str = ""
    rows: int = 0
    mend: str = ""


class NotAsRehearsedError(Refused):
    """Production is not, or did not do, what the rehearsal saw. Everything was rolled back."""

    default_code = "not-as-rehearsed"
    differences: tuple[Difference, ...] = ()

    @classmethod
    def of(cls, differences: Sequence[Difference], doing: str, hint: str) -> NotAsRehearsedError:
        more = f" (and {len(differences) - 1:,} more)" if len(differences) > 1 else ""
        error = cls(f"{doing}: {differences[0].message}{more}; nothing was changed", hint=hint)
        error.differences = tuple(differences)
        return error


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows as they are before the script, by table and key; `columns` are those of the receipt."""

    table: Table
    keyed: KeyedTable
    rows: Mapping[bytes, bytes] = field(default_factory=dict)


def take(connection: Session, catalog: Catalog, tables: Sequence[KeyedTable], *, lock: bool = True) -> list[Taken]:
    """Lock every row that was there when the script was rehearsed. Raises NotAsRehearsedError for drift."""
    taken = []
    drift: list[Difference] = []
    for keyed in sorted(tables, key=lambda one: one.table):
        table = _live(catalog, keyed)
        wanted = {row.key: row.before for row in keyed.rows if row.before is not None}
        if wanted and not keyed.key:
            raise Refused(
                f"cannot run it guarded: table {keyed.table} has no key, so its rows cannot be taken one by one",
                hint="Give the table a primary key, or a unique index of NOT NULL columns.",
                code="no-key",
            )
        found = {}
        if wanted:
            for row in rows_by_key(connection, table, keyed.columns, sorted(wanted), lock=lock):
                found[row.key] = row.row
        drift += _drift(keyed.table, wanted, found)
        taken.append(Taken(table, keyed, found))
    if drift:
        raise NotAsRehearsedError.of(drift, "production is not as rehearsed", _DRIFTED)
    return taken


def check_emptied(connection: Session, emptied: Mapping[str, int]) -> None:
    """Tables of which everything goes have as many rows as when that was rehearsed. They are locked already."""
    drift = []
    for name, rows in emptied.items():
        now = count_rows(connection, TableName.parse(name))
        if now != rows:
            drift.append(
                Difference(f"{name} has {number_text(now, 'row')}, and had {rows:,} when that was rehearsed", name, now)
            )
    if drift:
        raise NotAsRehearsedError.of(drift, "production is not as rehearsed", _DRIFTED)


def keys_text(keys: Sequence[bytes]) -> str:
    """Some keys for a person."""
    shown = [
        "/".join(unescape(part).decode("utf-8", "replace") for part in key.split(b"\t"))
        for key in sorted(keys)[:_KEYS_SHOWN]
    ]
    return ", ".join(shown) + (", …" if len(keys) > len(shown) else "")


def _live(catalog: Catalog, keyed: KeyedTable) -> Table:
    table = catalog.table(TableName.parse(keyed.table))
    if table is None:
        raise Refused(
            f"cannot run it guarded: there is no table {keyed.table} that Outlast knows",
            hint="Classify it in outlast.toml (outlast check), back up, and rehearse again.",
            code="unclassified",
        )
    return table


def _drift(name: str, wanted: Mapping[bytes, bytes | None], found: Mapping[bytes, bytes]) -> list[Difference]:
    gone = [key for key in wanted if key not in found]
    changed = [key for key, row in found.items() if row_digest(row) != wanted[key]]
    drift = []
    if gone:
        drift.append(
            Difference(f"{number_text(len(gone), 'row')} of {name} gone since (key {keys_text(gone)})", name, len(gone))
        )
    if changed:
        told = f"{number_text(len(changed), 'row')} of {name} changed since (key {keys_text(changed)})"
        drift.append(Difference(told, name, len(changed)))
    return drift
