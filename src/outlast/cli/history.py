"""`outlast history TENANT`: to which moments a tenant can be restored, and at which of them it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from outlast.core.tenant import Tenant
    from outlast.restore.coverage import Stretch
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

    Every run, the newest first, and from when to when the log gives any moment between. A run in which nothing of the
    tenant changed shows the same state as the one below it.
    """
    from outlast.restore.coverage import followed

    invocation = Invocation.of(context)
    vault = invocation.vault
    stretches = followed(vault, source)
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
        if not stretches:
            raise last
        return _only_logged(invocation, source, tenant, stretches)
    manifests: dict[tuple[int, str], Manifest] = {}
    for _, entry in found:
        if (entry.head.run, entry.head.pack) not in manifests:
            manifests[entry.head.run, entry.head.pack] = vault.manifest(source, entry)
    lines = [_Line(run, entry, manifests[entry.head.run, entry.head.pack]) for run, entry in found]
    known = lines[0].entry.tenant

    def text(console: Console) -> None:
        rows = [line.shown for line in lines]
        console.print(table_of(("run", "moment", "rows", "tables", "changed", "state"), rows, right=(0, 2, 3)))
        _print_stretches(console, stretches)
        console.print(f"{known}: {count(len(lines), 'restorable moment')}. {_next(known)}")

    fields = {
        "tenant": known.key,
        "label": known.label,
        "moments": [line.fields for line in lines],
        "any_moment": [stretch.to_json() for stretch in stretches],
    }
    return invocation.output.finish(fields, text)


def _only_logged(invocation: Invocation, source: str, name: str, stretches: Sequence[Stretch]) -> ExitCode:
    """A tenant that came after the newest run: the log alone has it."""
    from outlast.restore.history import find_entry

    known = find_entry(invocation.vault, source, name, invocation.moment(source, "latest")).tenant

    def text(console: Console) -> None:
        _print_stretches(console, stretches)
        console.print(f"{known} is in no run yet, but in the log.")

    fields = {
        "tenant": known.key,
        "label": known.label,
        "moments": [],
        "any_moment": [stretch.to_json() for stretch in stretches],
    }
    return invocation.output.finish(fields, text)


def _print_stretches(console: Console, stretches: Sequence[Stretch]) -> None:
    for stretch in stretches:
        console.print(f"Any moment from {stretch.first} to {stretch.last}{stretch.ended}")


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
