"""`outlast history TENANT`: to which moments a tenant can be restored, and at which of them it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode, NotFoundError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.core.tenant import Tenant
    from outlast.vault.manifest import Manifest
    from outlast.vault.reader import TenantEntry
    from outlast.vault.run import RunRecord


def history(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="A tenant's key or label.")],
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many runs, the newest first.")] = 20,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """List the moments to which a tenant can be restored.

    The newest first. A run in which nothing of the tenant changed shows the same state as the one below it.
    """
    invocation = Invocation.of(context)
    vault = invocation.vault
    found: list[tuple[RunRecord, TenantEntry]] = []
    last: NotFoundError | None = None
    for run in reversed(vault.runs(source)):
        if len(found) == limit:
            break
        try:
            found.append((run, vault.find_tenant(source, tenant, run.run)))
        except NotFoundError as error:
            last = error  # not there yet, or gone: only if it is in no run at all does the person hear it
    if not found:
        assert last is not None
        raise last
    manifests: dict[tuple[int, str], Manifest] = {}
    for _, entry in found:
        if (entry.head.run, entry.head.pack) not in manifests:
            manifests[entry.head.run, entry.head.pack] = vault.manifest(source, entry)
    lines = [_Line(run, entry, manifests[entry.head.run, entry.head.pack]) for run, entry in found]
    known = lines[0].entry.tenant

    def text(console: Console) -> None:
        rows = [line.shown for line in lines]
        console.print(table_of(("run", "moment", "rows", "tables", "changed", "state"), rows, right=(0, 2, 3)))
        console.print(f"{known}: {count(len(lines), 'restorable moment')}. {_next(known)}")

    fields = {"tenant": known.key, "label": known.label, "moments": [line.fields for line in lines]}
    return invocation.output.finish(fields, text)


def _next(tenant: Tenant) -> str:
    return f"Next: outlast restore {tenant.label or tenant.key} --at run:N"


class _Line:
    """One run, and the tenant in it."""

    def __init__(self, run: RunRecord, entry: TenantEntry, manifest: Manifest) -> None:
        self.run, self.entry, self.manifest = run, entry, manifest
        self.rows = sum(table.rows for table in manifest.tables.values())
        self.changed = entry.head.run == run.run

    @property
    def shown(self) -> tuple[str, ...]:
        return (
            str(self.run.run),
            str(self.run.moment),
            f"{self.rows:,}",
            str(len(self.manifest.tables)),
            "changed" if self.changed else "",
            self.manifest.root[:12],
        )

    @property
    def fields(self) -> dict[str, object]:
        return {
            "run": self.run.run,
            "moment": self.run.moment.to_json(),
            "rows": self.rows,
            "tables": len(self.manifest.tables),
            "changed": self.changed,
            "root": self.manifest.root,
        }
