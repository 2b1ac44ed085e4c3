"""What forget, prune, hold and erase share: a plan is shown and kept, and carried out as it was shown or refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from outlast.cli.render import table_of, time
from outlast.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.cli.opening import Invocation
    from outlast.vault.marks import Mark, MarkKind
    from outlast.vault.reader import Vault
    from outlast.vault.retention import RetentionPlan

_SPACE = "retention-plan"


def grace(invocation: Invocation) -> timedelta:
    return timedelta(days=invocation.config.document.retention.grace_days)


def now() -> datetime:
    return datetime.now(UTC)


def finish(invocation: Invocation, plan: RetentionPlan, *, execute: bool) -> ExitCode:
    """Show the plan and keep it for `apply`, or carry it out."""
    executed = execute and not plan.is_empty
    if executed:
        _carry_out(invocation, plan)
    if executed or not plan.is_empty:
        invocation.state.put(_SPACE, plan.id, json.dumps({**plan.to_json(), "executed": executed}).encode())
    lines = plan.describe()
    if executed:
        lines.append("Done.")
    elif not plan.is_empty:
        lines.append(f"Next: outlast apply {plan.id}")
    fields = {
        "plan": plan.id,
        "kind": plan.kind.value,
        "source": plan.source,
        "executed": executed,
        "lines": list(plan.lines),
        "marks": len(plan.marks),
        "deletes": len(plan.deletes),
        "delete_bytes": plan.delete_bytes,
    }
    return invocation.output.finish(fields, "\n".join(lines))


def kept(invocation: Invocation, plan_id: str) -> RetentionPlan | None:
    """A plan of one of these commands, by its id."""
    from outlast.vault.retention import RetentionPlan

    value = invocation.state.get(_SPACE, plan_id)
    return None if value is None else RetentionPlan.from_json(json.loads(value))


def listed(invocation: Invocation) -> list[tuple[RetentionPlan, bool]]:
    """The plans of these commands that this host knows, each with whether it was carried out."""
    from outlast.vault.retention import RetentionPlan

    found = [json.loads(value) for _, value in invocation.state.items(_SPACE)]
    return [(RetentionPlan.from_json(fields), bool(fields.get("executed"))) for fields in found]


def _carry_out(invocation: Invocation, plan: RetentionPlan) -> None:
    from outlast.vault.retention import execute

    execute(invocation.vault, plan, invocation.writer_keys.signer)


def runs_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Runs as people write them: `3`, `run:3`, `2-5`."""
    found: list[int] = []
    for text in texts:
        first, dash, last = text.removeprefix("run:").partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"{text!r} is no run", hint="Write 3, or 2-5 for several.")
        found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))


_NONE = {
    "hold": "Nothing is held. To hold a tenant: outlast hold TENANT",
    "forget": "No run is marked to be forgotten. To mark one: outlast forget RUN",
    "erase": "No tenant is marked for erasure. To mark one: outlast erase TENANT",
}


def list_marks(invocation: Invocation, source: str, *kinds: MarkKind) -> ExitCode:
    """The standing decisions of some kinds, with the numbers that --release takes."""
    vault = invocation.vault
    marks = vault.ledger(source).standing(*kinds)
    fields = {"marks": [_mark_fields(vault, source, mark) for mark in marks]}

    def text(console: Console) -> None:
        if not marks:
            console.print(_NONE[kinds[0].value])
            return
        rows = [
            (
                str(mark.number),
                mark.kind.value,
                _whose(vault, source, mark),
                ", ".join(map(str, mark.runs)) or ("how to undo plans" if mark.objects else "all"),
                time(mark.at),
                time(mark.not_before) if mark.not_before else "",
            )
            for mark in marks
        ]
        console.print(table_of(("mark", "kind", "tenant", "runs", "since", "not before"), rows, right=(0,)))

    return invocation.output.finish(fields, text)


def _whose(vault: Vault, source: str, mark: Mark) -> str:
    if mark.prefix is None:
        return "all"
    newest = vault.index(source).run
    tenant = vault.directory(source, newest).get(mark.prefix) if newest else None
    return str(tenant) if tenant else mark.prefix


def _mark_fields(vault: Vault, source: str, mark: Mark) -> dict[str, object]:
    return {
        "mark": mark.number,
        "kind": mark.kind.value,
        "tenant": None if mark.prefix is None else _whose(vault, source, mark),
        "runs": list(mark.runs),
        "plans": [path.rpartition("/")[2] for path in mark.objects],
        "at": mark.at.isoformat(),
        "not_before": mark.not_before.isoformat() if mark.not_before else None,
    }
