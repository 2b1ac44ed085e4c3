"""`outlast tenants`: whom the vault holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.vault.reader import TenantEntry


def tenants(
    context: typer.Context,
    at: Annotated[
        str, typer.Option(metavar="MOMENT", help="latest, run:7, a timestamp, an LSN, or before:TRANSACTION.")
    ] = "latest",
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """List the tenants that the vault holds.

    Reads the vault only, so it answers while the database is down. A tenant that is gone from the database stays listed
    at the moments before.
    """
    from outlast.restore.history import all_entries

    invocation = Invocation.of(context)
    vault = invocation.vault
    moment = invocation.moment(source, at)
    entries = sorted(all_entries(vault, source, moment), key=lambda entry: (entry.tenant.label or "", entry.tenant.key))
    fields = {
        "run": moment.run.run,
        "moment": moment.moment.to_json(),
        **moment.to_json(),
        "tenants": [
            {"tenant": entry.tenant.key, "label": entry.tenant.label, "changed_in_run": entry.head.run or None}
            for entry in entries
        ],
    }

    def text(console: Console) -> None:
        rows = [(entry.tenant.label or "", entry.tenant.key, _changed(entry)) for entry in entries]
        console.print(table_of(("label", "tenant", "last changed in"), rows))
        console.print(f"{count(len(entries), 'tenant')} at {moment}, run {moment.run.run}")

    return invocation.output.finish(fields, text)


def _changed(entry: TenantEntry) -> str:
    return f"run {entry.head.run}" if entry.head.run else "the log"
