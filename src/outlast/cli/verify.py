"""`outlast verify`: every byte of the vault, and with --live the vault against the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import anchor
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, effect_table, size
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.restore.comparison import Comparison
    from outlast.vault.reader import TenantEntry, Vault
    from outlast.vault.scrub import Finding, Report

_SHOWN_MAX = 50


class DamageFound(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "damage"


class LiveDiffers(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "difference"


def verify(
    context: typer.Context,
    tenant: Annotated[
        str | None, typer.Argument(metavar="TENANT", help="Only this tenant, by key or label, and what leads to it.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Compare the newest run with the database too, row by row.")
    ] = False,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="What must be there besides what was seen here: a run, as NUMBER or as verify prints."
        ),
    ] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Check every byte of the vault, and with --live compare it with the database.

    Reads every object: names against hashes, signatures, the chain of runs, and, where a key is at hand, that every box
    opens and every chunk has the rows it should. Without a key it checks what can be checked without one, and says so.
    What was written to the database since the newest run shows with --live as a difference.

    Exit codes: 0 nothing is wrong; 1 the vault could not be read; 4 damage, or a difference.
    """
    from outlast.vault.scrub import scrub

    invocation = Invocation.of(context)
    vault = invocation.vault if invocation.may_open else invocation.sealed_vault
    expected = anchor.newer(anchor.parse(expect) if expect is not None else None, anchor.seen(invocation, source))
    entry = vault.find_tenant(source, tenant) if tenant is not None else None
    with invocation.output.progress("reading the vault, bytes") as bar:
        report = scrub(
            vault,
            expect={source: expected} if expected is not None else None,
            only=(source, entry.prefix) if entry is not None else None,
            progress=bar.advance,
        )
    if not report.damaged and source in report.newest:
        anchor.keep(invocation, source, report.newest[source])
    comparison = _compared(invocation, vault, source, entry) if live and not report.damaged else None
    return _finish(invocation, source, report, comparison, live)


def _compared(invocation: Invocation, vault: Vault, source: str, entry: TenantEntry | None) -> Comparison:
    if invocation.config.tool(source) is not None:
        return _compared_with_tool(invocation, vault, source)
    from psycopg import IsolationLevel

    from outlast.restore.comparison import compare_live
    from outlast.sources.postgres.tenants import read_tenants

    run = vault.resolve(source)
    chosen = None if entry is None else [entry]
    total = len(vault.entries(source, run.run)) if chosen is None else 1
    with invocation.session("verify", source) as session, invocation.output.progress("comparing", total) as bar:
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        catalog = invocation.catalog(session, source)
        live = read_tenants(session, catalog).values()
        return compare_live(session, catalog, vault, source, run.run, live, chosen, bar.advance)


def _compared_with_tool(invocation: Invocation, vault: Vault, source: str) -> Comparison:
    from outlast.cli import tooling
    from outlast.restore.comparison import Comparison, compare_states
    from outlast.restore.history import past_of

    live = tooling.live_state(invocation, source)
    run = vault.resolve(source)
    entry = vault.find_tenant(source, live.tenant.key, run.run)
    effect = compare_states(past_of(vault, source, entry, f"run {run.run}"), live)
    return Comparison(effect, {live.tenant.key: live.tenant})


def _finish(invocation: Invocation, source: str, report: Report, comparison: Comparison | None, live: bool) -> ExitCode:
    newest = report.newest.get(source)
    damage = [finding for finding in report.findings if finding.level.value == "damage"]
    fields: dict[str, object] = {
        "objects": report.objects,
        "bytes": report.size_bytes,
        "keyed": report.keyed,
        "run": newest.run if newest else None,
        "anchor": anchor.text(newest),
        "findings": [finding.to_json() for finding in report.findings if finding.level.value != "note"],
        "notes": [finding.to_json() for finding in report.findings if finding.level.value == "note"],
    }
    if comparison is not None:
        fields["live"] = {
            "same": comparison.same,
            "effect": comparison.effect.to_json(),
            "tenants": [
                {
                    "tenant": key,
                    "label": comparison.tenants[key].label if key in comparison.tenants else None,
                    "effect": comparison.effect.of(key).to_json(),
                }
                for key in comparison.effect.tenants
            ],
            "not_in_vault": [{"tenant": one.key, "label": one.label} for one in comparison.absent],
        }

    def text(console: Console) -> None:
        for finding in sorted(report.findings, key=lambda finding: finding.level.value)[:_SHOWN_MAX]:
            console.print(_line(finding))
        if len(report.findings) > _SHOWN_MAX:
            console.print(f"… and {len(report.findings) - _SHOWN_MAX:,} more findings (--json shows all of them).")
        how = "every box opened" if report.keyed else "without a key"
        verdict = f"{count(len(damage), 'object is', 'objects are')} damaged" if damage else "nothing is damaged"
        console.print(f"{count(report.objects, 'object')}, {size(report.size_bytes)}, {how}: {verdict}.")
        if newest:
            console.print(f"Newest run: {newest.run}. To prove it later: outlast verify --expect {anchor.text(newest)}")
        if comparison is not None:
            _show_live(console, comparison)

    return invocation.output.finish(fields, text, problem=_problem(damage, comparison, live))


def _show_live(console: Console, comparison: Comparison) -> None:
    if comparison.same:
        console.print(
            f"The database is the same as the newest run: {count(len(comparison.tenants), 'tenant')} compared."
        )
        return
    if comparison.effect:
        console.print("Since the newest run the database has changed:")
        effect_table(comparison.effect, comparison.tenants, done=True)(console)
    for one in comparison.absent[:_SHOWN_MAX]:
        console.print(f"tenant {one} is in the database and not in the vault")


def _problem(damage: list[Finding], comparison: Comparison | None, live: bool) -> OutlastError | None:
    if damage:
        more = "; the database was not compared" if live else ""
        return DamageFound(
            f"the vault is damaged: {count(len(damage), 'finding')}{more}",
            hint="Put the objects back from a copy of the store, see who can write to it; then outlast backup --full",
        )
    if comparison is not None and not comparison.same:
        return LiveDiffers(
            "the database is not as the newest run has it",
            hint="What applications wrote since is expected. What is gone: outlast restore TENANT shows it.",
        )
    return None


def _line(finding: Finding) -> str:
    whose = f" (tenant {finding.tenant})" if finding.tenant else ""
    level = finding.level.value
    mark = level.upper() if level == "damage" else level
    return f"{mark:<8}  {finding.message}{whose}"
