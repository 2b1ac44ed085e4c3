"""`outlast replay`: the worst day, here and now, on a database of its own."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import count, size
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from outlast.replay.replay import Difference, Report

_SHOWN_MAX = 20


class DifferenceFound(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "difference"


def replay(
    context: typer.Context,
    tenants: Annotated[int, typer.Option(min=1, metavar="N", help="Tenants in the shared tables.")] = 300,
    destroyed: Annotated[int, typer.Option(min=1, metavar="M", help="How many the script destroys.")] = 40,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="The same seed makes the same day again.")] = 2022,
) -> ExitCode:
    """Rehearse the worst day here and now, on a database of its own.

    N tenants of unequal size in shared tables, backed up; one script deletes M of them for good; all M are restored by
    the real commands, and every tenant, destroyed or not, is compared with before by plain SQL. It needs no
    outlast.toml and touches no database of yours: an embedded PostgreSQL in a temporary folder, removed at the end.

    Exit codes: 0 everybody is as before; 1 a step failed; 4 somebody is not as before.
    """
    from outlast.replay.replay import replay as run_replay

    output = Invocation.of(context).output
    report = run_replay(tenants=tenants, destroyed=destroyed, seed=seed, say=output.note)
    problem = None
    if not report.same:
        hit = len({difference.tenant for difference in report.differences})
        problem = DifferenceFound(
            f"{count(hit, 'tenant is', 'tenants are')} not as before",
            hint=f"Run it again with --seed {report.seed}, and please report it.",
        )
    return output.finish({"replay": {**asdict(report), "same": report.same}}, _told(report), problem=problem)


def _told(report: Report) -> str:
    slugs = [tenant.slug for tenant in report.destroyed]
    named = ", ".join(slugs[:4]) + (f" and {len(slugs) - 4} more" if len(slugs) > 4 else "")
    seconds = report.seconds
    verdict = (
        f"{report.tenants:,} of {report.tenants:,} tenants are exactly as before, the shared tables too"
        if report.same
        else "NOT everybody is as before:\n" + "\n".join(_line(one) for one in report.differences[:_SHOWN_MAX])
    )
    holds = f"{count(report.tenants, 'tenant')} in {report.tables} shared tables"
    vault = f"{size(report.vault_bytes)} in {count(report.vault_objects, 'object')}"
    return "\n".join(
        [
            "",
            f"Database   {holds}, {count(report.rows, 'row')}, {size(report.database_bytes)}",
            f"Backed up  in {seconds['backup']:.1f} s: {vault}",
            f"Destroyed  {count(len(slugs), 'tenant')}, {count(report.destroyed_rows, 'row')}, by one DELETE: {named}",
            f"Restored   {count(report.restored, 'tenant')} in {seconds['restore']:.1f} s, each proven before commit",
            f"Compared   {verdict}",
        ]
    )


def _line(difference: Difference) -> str:
    before = f"{difference.before.rows} rows" if difference.before else "nothing"
    after = f"{difference.after.rows} rows" if difference.after else "nothing"
    return f"  tenant {difference.tenant}, {difference.table}: {before} before, {after} now"
