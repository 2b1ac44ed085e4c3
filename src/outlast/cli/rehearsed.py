"""How a rehearsal is shown: a report for a person to read in ten seconds, JSON with all of it, a page, a draft."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.cli.output import Output
from outlast.cli.render import age, count, size, table_of, time
from outlast.core.errors import ExitCode, UsageError
from outlast.core.tenant import ORPHAN, SHARED

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.rehearsal.observed import Observed
    from outlast.rehearsal.receipt import Receipt
    from outlast.rehearsal.rehearse import Rehearsal, Request
    from outlast.rehearsal.report import Line

_LINES_MAX = 24
_TENANTS_MAX = 12
_FINDINGS_MAX = 10
_CHANGES_MAX = 12
_DETAIL_WIDTH = 48

_STYLES = {"BLOCKED": "bold red", "INCONCLUSIVE": "bold yellow", "WITHIN INTENT": "bold green"}


def show(
    output: Output,
    request: Request,
    done: Rehearsal,
    *,
    draft: Path | None = None,
    html: Path | None = None,
    by: str = "",
    receipt: Receipt | None = None,
    path: str = "",
) -> ExitCode:
    """Print it, write what is asked for, and return the exit code that the verdict comes to.

    `draft` and `html` are files to be made; `by` is who drafts. `receipt` is what the script at `path` may be run by.
    """
    from outlast.rehearsal.report import to_json

    fields = to_json(done.observed, done.verdict, done.seconds)
    fields["receipt"] = None if receipt is None else receipt.id
    code = done.verdict.outcome.exit_code
    if html is not None:
        from outlast.rehearsal.page import page

        html.write_text(page(title_of(request), done.observed, done.verdict), encoding="utf-8")
        fields["page"] = str(html)
        output.note(f"The page: {html}")
    if draft is not None:
        code = _draft(output, request, done, draft, by)
        fields["draft"] = str(draft)
    return output.finish(fields, lambda console: _print(console, request, done, receipt, path), exit_code=code)


def title_of(request: Request) -> str:
    return request.script.name if request.script is not None else " ".join(request.command)


def _draft(output: Output, request: Request, done: Rehearsal, path: Path, by: str) -> ExitCode:
    """Write what was seen as a declaration. It passes only when somebody else has adopted it."""
    from outlast.rehearsal.draft import draft_intent

    if path.exists():
        raise UsageError(f"{path} exists already", hint="Edit it, or move it away and draft again.", code="exists")
    if done.observed.error is not None:
        output.note("Nothing is drafted: the script failed.")
        return ExitCode.FAILED
    path.write_text(draft_intent(done.observed, by, str(path), request.intent).to_toml(), encoding="utf-8")
    output.note(f'Drafted: {path}. Read it, write why, and have another person add: adopted = "by=NAME"')
    return ExitCode.DONE


def _print(console: Console, request: Request, done: Rehearsal, receipt: Receipt | None, path: str) -> None:
    observed, verdict = done.observed, done.verdict
    console.print(_head(request, observed))
    _print_effect(console, observed)
    for line in _beside(observed):
        console.print(line)
    for title, told in (
        ("Against the intent", [finding.message for finding in verdict.findings]),
        ("The copy could not tell", [str(doubt) for doubt in verdict.doubts]),
        ("Accepted by the intent", [str(doubt) for doubt in verdict.accepted]),
    ):
        if told:
            console.print(f"\n{title}")
            for number, line in enumerate(told[:_FINDINGS_MAX], start=1):
                console.print(f"{number:>3}. {line}", soft_wrap=True)
            if len(told) > _FINDINGS_MAX:
                console.print(f"     … and {len(told) - _FINDINGS_MAX:,} more (--json shows all of them).")
    console.print()
    if receipt is not None:
        console.print(f"Next: outlast run {shlex.quote(path)} --receipt {receipt.id}", soft_wrap=True)
    console.print(_last(done), style=_STYLES[verdict.outcome.value])


def _head(request: Request, observed: Observed) -> str:
    where = observed.circumstances
    old = age(timedelta(seconds=where.age_s))
    parts = [
        f"{title_of(request)} as {where.role}, on a copy of {time(where.as_of)} ({old} old), {where.server}",
        f"{observed.script_seconds:.1f} s" + (f", {size(observed.wal_bytes)} of log" if observed.wal_bytes else ""),
    ]
    if where.only:
        parts.append(f"with {count(len(where.only), 'tenant')} only")
    return ", ".join(parts)


def _print_effect(console: Console, observed: Observed) -> None:
    from outlast.rehearsal.report import hits_of, lines_of

    lines = lines_of(observed.effect)
    if not lines:
        console.print("\nNo row was changed.")
        return
    rows = [
        (line.table, line.operation.value, f"{line.count.rows:,}", f"{line.tenants:,}", line.via, _detail(line))
        for line in lines[:_LINES_MAX]
    ]
    console.print()
    console.print(table_of(("table", "operation", "rows", "tenants", "via", "columns or keys"), rows, right=(2, 3)))
    if len(lines) > _LINES_MAX:
        console.print(f"… and {len(lines) - _LINES_MAX:,} more lines (--json shows all of them).")
    hits = hits_of(observed)
    named = ", ".join(str(hit.tenant) for hit in hits[:_TENANTS_MAX])
    rest = f" … and {len(hits) - _TENANTS_MAX:,} more (--json and --html name all)" if len(hits) > _TENANTS_MAX else ""
    customers = sum(1 for hit in hits if hit.tenant.key not in (SHARED, ORPHAN))
    console.print(f"\n{count(customers, 'tenant')}: {named}{rest}", soft_wrap=True)


def _detail(line: Line) -> str:
    text = ", ".join(sorted(line.count.columns)) or ", ".join(line.count.samples)
    more = not line.count.columns and line.count.rows > len(line.count.samples) > 0
    if len(text) > _DETAIL_WIDTH:
        return text[: _DETAIL_WIDTH - 1] + "…"
    return f"{text}, …" if more else text


def _beside(observed: Observed) -> Iterator[str]:
    """What no row's change shows, a line each; nothing is said of what did not happen."""
    from outlast.rehearsal.report import strong_locks

    for change in observed.schema[:_CHANGES_MAX]:
        lost = (
            f", with {count(sum(change.rows.values()), 'row')} of {count(len(change.rows), 'tenant')}"
            if change.rows
            else ""
        )
        yield f"Schema: {change}{lost}{' (irreversible)' if change.irreversible else ''}"
    if len(observed.schema) > _CHANGES_MAX:
        yield f"Schema: … and {len(observed.schema) - _CHANGES_MAX:,} more changes"
    if observed.rewritten:
        yield f"Written anew as a whole: {', '.join(observed.rewritten)}"
    for mode, tables in strong_locks(observed).items():
        yield f"Lock: {mode.removesuffix('Lock')} on {_some(tables)}: {_MEANS[mode]} until the end"
    for moved in observed.sequences[:_CHANGES_MAX]:
        yield f"Sequence {moved.name}: {'unused' if moved.before is None else moved.before} -> {moved.after}"
    if observed.large_objects:
        yield f"{count(observed.large_objects, 'large object')} made, changed or removed"
    if observed.notified:
        yield f"NOTIFY: {_some(observed.notified)}"
    for attempt in observed.attempts:
        yield f"Kept from reaching out: {attempt.kind} {attempt.what}"
    if observed.unguarded:
        yield f"Cannot run in a transaction: {_some(observed.unguarded)}"
    where = observed.circumstances
    if where.command:
        yield (
            f"A command, of {count(observed.transactions, 'transaction')}: `outlast run` takes .sql files only,"
            " so on production nothing guards it"
        )
    if not where.isolated:
        yield "This system gave no place of its own: the script could have reached what this host reaches"
    for note in observed.notes[:_CHANGES_MAX]:
        yield f"Copy: {note}"


_MEANS = {
    "AccessExclusiveLock": "nobody can read it",
    "ExclusiveLock": "nobody can write to it",
    "ShareRowExclusiveLock": "nobody can write to it",
    "ShareLock": "nobody can write to it",
}


def _some(names: list[str] | tuple[str, ...], most: int = 6) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _last(done: Rehearsal) -> str:
    verdict = done.verdict
    why = ""
    if verdict.gives_away and verdict.findings:
        why = f": {verdict.gives_away} gives it away"
    elif verdict.findings:
        why = f": {verdict.findings[0].message}" if len(verdict.findings) == 1 else ""
    return f"{verdict.outcome.value}{why}. Production is untouched."
