"""How a rehearsal is shown: a report that a person reads in ten seconds, JSON with all of it, a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast.cli.output import Output
from outlast.cli.render import effect_table
from outlast.core.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.rehearsal.observed import Observed
    from outlast.rehearsal.receipt import Receipt
    from outlast.rehearsal.rehearse import Rehearsal, Request

_LINES_MAX = 20
_TENANTS_MAX = 8


def show(
    output: Output, request: Request, done: Rehearsal, *, receipt: Receipt | None, draft: bool, html: str | None
) -> ExitCode:
    """Print it and return the exit code that the verdict comes to."""
    code = done.verdict.outcome.exit_code
    fields = {
        **_fields(done.observed),
        **done.verdict.to_json(),
        "receipt": None if receipt is None else receipt.id,
        "seconds": {k: round(v, 3) for k, v in done.seconds.items()},
    }
    return output.finish(fields, lambda console: _print(console, done, receipt), exit_code=code)


def _fields(observed: Observed) -> dict[str, object]:
    return {"effect": observed.effect.to_json()}


def _print(console: Console, done: Rehearsal, receipt: Receipt | None) -> None:
    effect_table(done.observed.effect, done.observed.tenants)(console)
    for finding in done.verdict.findings:
        console.print(finding.message)
    for point in done.verdict.doubts:
        console.print(str(point))
    console.print(done.verdict.outcome.value)
    if receipt is not None:
        console.print(f"Next: outlast run {receipt.name} --receipt {receipt.id}")
