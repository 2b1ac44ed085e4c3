"""`outlast show TENANT TABLE`: rows out of the vault, for a look before anything is restored."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import tooling
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import age, count, table_of
from outlast.core.document import COLUMN_NAMES
from outlast.core.errors import ExitCode, NotFoundError, UsageError
from outlast.core.row import escape, value
from outlast.core.row import fields as row_fields
from outlast.core.table import TableName

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.restore.history import Past, PastTable

_WIDTH_MAX = 60
"""A value is cut to this width in a person's table; --json always has all of it."""

Row = tuple[str | None, ...]


def show(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="A tenant's key or label; @shared for shared data.")],
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="schema.table; without one, the tables.")] = None,
    at: Annotated[
        str, typer.Option(metavar="MOMENT", help="latest, run:7, a timestamp, an LSN, or before:TRANSACTION.")
    ] = "latest",
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only the row with this key; several columns joined by commas.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many rows.")] = 50,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Print a tenant's rows of a table out of the vault.

    In key order, as they were at the moment. Reads the vault only, so it answers while the database is down. Of a tool
    it says first how old this is; --key prints the whole document, and may be what people call it (OPS-123).
    """
    from outlast.restore.history import find_entry, past_at

    invocation = Invocation.of(context)
    vault = invocation.vault
    moment = invocation.moment(source, at)
    entry = find_entry(vault, source, tenant, moment)
    past = past_at(vault, source, entry, moment)
    for note in past.notes:
        invocation.output.note(f"Note: {note}.")
    head: dict[str, object] = {
        "tenant": entry.tenant.key,
        "label": entry.tenant.label,
        "run": moment.run.run,
        "moment": moment.moment.to_json(),
        **moment.to_json(),
        "notes": list(past.notes),
    }
    if table is None:
        return _tables(invocation, past, head)
    name, stored = _find_table(past, table)
    documents = stored.layout.columns == COLUMN_NAMES
    if documents:
        told = age(datetime.now(UTC) - moment.moment.time)
        invocation.output.note(f"{source}: as of {moment}, {told} ago (run {moment.run.run})")
        key = tooling.document_key(invocation, source, name, key)
    columns = list(stored.layout.columns)
    rows: list[Row] = []
    more = False
    for row in _rows(past, stored, _wanted(stored, key)):
        if len(rows) == limit:
            more = True
            break
        rows.append(row)
    if key is not None and not rows:
        raise NotFoundError(
            f"tenant {entry.tenant} has no row with key {key!r} in {name} at {moment}",
            hint=f"The key is ({', '.join(stored.layout.key)}). Another moment: outlast history {tenant}",
        )

    def text(console: Console) -> None:
        if documents and key is not None:
            _print_document(console, rows[0])
            return
        _print_rows(console, columns, [[_short(cell) for cell in row] for row in rows])
        left = f" of {stored.rows:,} (--limit shows more)" if more else ""
        console.print(f"{count(len(rows), 'row')}{left} of {name}, tenant {entry.tenant}, at {moment}")

    fields = {
        **head,
        "table": name,
        "columns": [{"name": column, "type": kind} for column, kind in zip(columns, stored.types, strict=True)],
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "more": more,
    }
    return invocation.output.finish(fields, text)


def _tables(invocation: Invocation, past: Past, head: dict[str, object]) -> ExitCode:
    stored = sorted((str(name), table) for name, table in past.tables.items())

    def text(console: Console) -> None:
        console.print(table_of(("table", "rows"), [(name, f"{table.rows:,}") for name, table in stored], right=(1,)))
        console.print(f"tenant {past.tenant} at {past.moment}")

    tables = [{"table": name, "rows": table.rows} for name, table in stored]
    return invocation.output.finish({**head, "tables": tables}, text)


def _find_table(past: Past, given: str) -> tuple[str, PastTable]:
    try:
        name = str(TableName.parse(given))
    except ValueError:
        raise UsageError(f"{given!r} is no table name", hint="Write table or schema.table.") from None
    tables = {str(one): table for one, table in past.tables.items()}
    if name in tables:
        return name, tables[name]
    bare = [one for one in tables if TableName.parse(one).name == given]
    if len(bare) == 1:
        return bare[0], tables[bare[0]]
    close = difflib.get_close_matches(name, tables, 3) or sorted(tables)[:10]
    raise NotFoundError(
        f"tenant {past.tenant} has no rows in a table {name} at that moment",
        hint=f"It has: {', '.join(close)}." if close else "It has no rows at all.",
    )


def _wanted(stored: PastTable, key: str | None) -> Row | None:
    if key is None:
        return None
    if not stored.layout.key:
        raise UsageError("this table has no key, so --key cannot pick a row", hint="Leave --key out.")
    parts = tuple(key.split(",")) if len(stored.layout.key) > 1 else (key,)
    if len(parts) != len(stored.layout.key):
        raise UsageError(
            f"the key of this table is ({', '.join(stored.layout.key)})", hint="Join its values by commas."
        )
    return parts


def _rows(past: Past, stored: PastTable, wanted: Row | None) -> Iterator[Row]:
    positions = [stored.layout.columns.index(column) for column in stored.layout.key]
    numbers = None
    if wanted is not None:
        numbers = stored.holding(b"\t".join(escape((part or "").encode()) for part in wanted))
    for data in past.read(stored, numbers):
        for line in data.split(b"\n")[:-1]:
            row = tuple(value(field) for field in row_fields(line))
            if wanted is None or tuple(row[position] for position in positions) == wanted:
                yield row


def _print_document(console: Console, row: Row) -> None:
    """All of a document, to be read."""
    console.print(f"{row[0]}  {row[1] or ''}".rstrip())
    console.print(json.dumps(json.loads(row[2] or "null"), ensure_ascii=False, indent=2), soft_wrap=True)


def _print_rows(console: Console, columns: list[str], rows: list[list[str]]) -> None:
    """A row a line, or, where that is wider than the terminal, a column a line, as psql's `\\x auto` has it."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    if sum(widths) + 3 * len(widths) <= console.width:
        console.print(table_of(columns, rows))
        return
    name_width = max(map(len, columns))
    for number, row in enumerate(rows, start=1):
        console.print(f"── row {number} ──")
        for column, cell in zip(columns, row, strict=True):
            console.print(f"{column:<{name_width}}  {cell}", soft_wrap=True)


def _short(cell: str | None) -> str:
    if cell is None:
        return "NULL"
    line = cell.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
    return line if len(line) <= _WIDTH_MAX else line[: _WIDTH_MAX - 1] + "…"
