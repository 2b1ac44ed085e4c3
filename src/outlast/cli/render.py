"""The one renderer of an effect, and the tables and figures of every command: text for a person, never JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from outlast.core.effect import Effect, Operation
from outlast.core.tenant import Tenant, TenantKey

if TYPE_CHECKING:
    from rich.console import Console

SAMPLES_WIDTH_MAX = 40
EFFECT_LINES_MAX = 60

_VERBS = {
    Operation.INSERT: "to insert",
    Operation.UPDATE: "to update",
    Operation.SOFT_DELETE: "to soft-delete",
    Operation.HARD_DELETE: "to delete",
    Operation.TRUNCATE: "to truncate",
    Operation.MOVE: "to move to another tenant",
}
_PAST = {
    Operation.INSERT: "inserted",
    Operation.UPDATE: "updated",
    Operation.SOFT_DELETE: "soft-deleted",
    Operation.HARD_DELETE: "deleted",
    Operation.TRUNCATE: "truncated",
    Operation.MOVE: "moved to another tenant",
}
_STYLES = {Operation.INSERT: "green", Operation.UPDATE: "yellow", Operation.SOFT_DELETE: "red"}


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(size_bytes: float) -> str:
    """`312 B`, `4.2 kB`, `1.3 GB`."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.5:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1000:.1f} TB"


def time(moment: datetime) -> str:
    """A time as people type it back: UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def age(span: timedelta) -> str:
    """`12 s`, `5 min`, `3 h 10 min`, `2 d 4 h`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def summary(effect: Effect, *, done: bool = False) -> str:
    """`Plan: 12 to insert, 3 to update.`, or `Done: 12 inserted, 3 updated.`"""
    words = _PAST if done else _VERBS
    head = "Done" if done else "Plan"
    parts = [f"{effect.total(operation):,} {words[operation]}" for operation in Operation if effect.total(operation)]
    return f"{head}: {', '.join(parts)}." if parts else f"{head}: nothing to change."


def effect_table(
    effect: Effect, tenants: Mapping[TenantKey, Tenant], *, done: bool = False, summarize: bool = True
) -> Callable[[Console], None]:
    """An effect by tenant, table and operation. Pass the result to `Output.finish`.

    Its summary line is last, unless the caller has one of its own. Over EFFECT_LINES_MAX lines it is cut with the
    number of what is left out and the totals by table, so that nothing is unseen; --json always has all of it.
    """

    def show(console: Console) -> None:
        lines = sorted(effect.counts.items(), key=lambda item: (item[0][0], item[0][1], item[0][2].value))
        rows = []
        last = None
        for (tenant, table, operation), number in lines[:EFFECT_LINES_MAX]:
            name = str(tenants.get(tenant, Tenant(tenant))) if tenant != last else ""
            last = tenant
            detail = ", ".join(sorted(number.columns)) or _samples(number.samples, number.rows)
            rows.append((name, table, operation.value, f"{number.rows:,}", detail))
        if rows:
            console.print(table_of(("tenant", "table", "operation", "rows", "columns or keys"), rows, right=(3,)))
        if len(lines) > EFFECT_LINES_MAX:
            console.print(f"… and {len(lines) - EFFECT_LINES_MAX:,} more lines (--json shows all of them). In all:")
            console.print(_totals(effect))
        if summarize:
            console.print(summary(effect, done=done))

    return show


def _totals(effect: Effect) -> object:
    rows: dict[tuple[str, str], int] = {}
    touched: dict[tuple[str, str], set[TenantKey]] = {}
    for (tenant, table, operation), number in effect.counts.items():
        place = (table, operation.value)
        rows[place] = rows.get(place, 0) + number.rows
        touched.setdefault(place, set()).add(tenant)
    lines = [(*place, f"{rows[place]:,}", f"{len(touched[place]):,}") for place in sorted(rows)]
    return table_of(("table", "operation", "rows", "tenants"), lines, right=(2, 3))


def _samples(samples: Sequence[str], rows: int) -> str:
    text = ""
    for shown, sample in enumerate(samples):
        if shown and len(text) + len(sample) > SAMPLES_WIDTH_MAX:
            return f"{text}, …"
        text = f"{text}, {sample}" if shown else sample
    return f"{text}, …" if samples and rows > len(samples) else text


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> object:
    """A borderless Rich table; `right` are the columns that hold numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, title in enumerate(head):
        table.add_column(title, justify="right" if position in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
