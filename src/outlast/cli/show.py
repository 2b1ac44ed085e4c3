"""`outlast show TENANT TABLE`: rows out of the vault, for a look before anything is restored."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode, NotFoundError, UsageError
from outlast.core.row import fields as row_fields
from outlast.core.row import value
from outlast.core.table import TableName

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.vault.manifest import Manifest, TableManifest
    from outlast.vault.reader import TenantEntry, Vault

_WIDTH_MAX = 60
"""A value is cut to this width in a person's table; --json always has all of it."""

Row = tuple[str | None, ...]


def show(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="A tenant's key or label; @shared for shared data.")],
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="schema.table; without one, the tables.")] = None,
    at: Annotated[str, typer.Option(metavar="MOMENT", help="latest, a timestamp, run:7, or an LSN.")] = "latest",
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only the row with this key; several columns joined by commas.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many rows.")] = 50,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Print a tenant's rows of a table out of the vault.

    In key order, as they were at the moment. Reads the vault only, so it answers while the database is down.
    """
    invocation = Invocation.of(context)
    vault = invocation.vault
    run = vault.resolve(source, at)
    entry = vault.find_tenant(source, tenant, run.run)
    manifest = vault.manifest(source, entry)
    head: dict[str, object] = {
        "tenant": entry.tenant.key,
        "label": entry.tenant.label,
        "run": run.run,
        "moment": run.moment.to_json(),
    }
    if table is None:
        return _tables(invocation, manifest, entry, head, str(run.moment))
    name, stored = _find_table(manifest, entry, table)
    columns = [column for column, _ in stored.columns]
    rows: list[Row] = []
    more = False
    for row in _rows(vault, source, entry, stored, _wanted(stored, key)):
        if len(rows) == limit:
            more = True
            break
        rows.append(row)
    if key is not None and not rows:
        raise NotFoundError(
            f"tenant {entry.tenant} has no row with key {key!r} in {name} at {run.moment}",
            hint=f"The key is ({', '.join(stored.key)}). Another moment: outlast history {tenant}",
        )

    def text(console: Console) -> None:
        _print_rows(console, columns, [[_short(cell) for cell in row] for row in rows])
        left = f" of {stored.rows:,} (--limit shows more)" if more else ""
        console.print(f"{count(len(rows), 'row')}{left} of {name}, tenant {entry.tenant}, at {run.moment}")

    fields = {
        **head,
        "table": name,
        "columns": [{"name": column, "type": kind} for column, kind in stored.columns],
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "more": more,
    }
    return invocation.output.finish(fields, text)


def _tables(
    invocation: Invocation, manifest: Manifest, entry: TenantEntry, head: dict[str, object], moment: str
) -> ExitCode:
    stored = sorted(manifest.tables.items())

    def text(console: Console) -> None:
        console.print(table_of(("table", "rows"), [(name, f"{table.rows:,}") for name, table in stored], right=(1,)))
        console.print(f"tenant {entry.tenant} at {moment}")

    tables = [{"table": name, "rows": table.rows} for name, table in stored]
    return invocation.output.finish({**head, "tables": tables}, text)


def _find_table(manifest: Manifest, entry: TenantEntry, given: str) -> tuple[str, TableManifest]:
    try:
        name = str(TableName.parse(given))
    except ValueError:
        raise UsageError(f"{given!r} is no table name", hint="Write table or schema.table.") from None
    if name in manifest.tables:
        return name, manifest.tables[name]
    bare = [one for one in manifest.tables if TableName.parse(one).name == given]
    if len(bare) == 1:
        return bare[0], manifest.tables[bare[0]]
    close = difflib.get_close_matches(name, manifest.tables, 3) or sorted(manifest.tables)[:10]
    raise NotFoundError(
        f"tenant {entry.tenant} has no rows in a table {name} at that moment",
        hint=f"It has: {', '.join(close)}." if close else "It has no rows at all.",
    )


def _wanted(stored: TableManifest, key: str | None) -> Row | None:
    if key is None:
        return None
    if not stored.key:
        raise UsageError("this table has no key, so --key cannot pick a row", hint="Leave --key out.")
    parts = tuple(key.split(",")) if len(stored.key) > 1 else (key,)
    if len(parts) != len(stored.key):
        raise UsageError(f"the key of this table is ({', '.join(stored.key)})", hint="Join its values by commas.")
    return parts


def _rows(vault: Vault, source: str, entry: TenantEntry, stored: TableManifest, wanted: Row | None) -> Iterator[Row]:
    names = [column for column, _ in stored.columns]
    positions = [names.index(column) for column in stored.key]
    for _, data in vault.chunks(source, entry, stored, stored.chunks):
        for line in data.splitlines():
            row = tuple(value(field) for field in row_fields(line))
            if wanted is None or tuple(row[position] for position in positions) == wanted:
                yield row


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
