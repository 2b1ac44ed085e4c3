"""The page of a rehearsal: one file of HTML that needs nothing else, the effect by tenant and table as a picture."""

from __future__ import annotations

import math
from datetime import timedelta
from importlib import resources
from typing import Any

from outlast.core.effect import Operation
from outlast.rehearsal.observed import Observed
from outlast.rehearsal.report import SEVERITY, hits_of, lines_of, strong_locks
from outlast.rehearsal.verdict import Verdict

TENANTS_MAX = 3_000
_TABLES_MAX = 40
_SHADES = 5


def page(title: str, observed: Observed, verdict: Verdict) -> str:
    """The whole page as text."""
    from jinja2 import Environment, StrictUndefined

    template = (resources.files("outlast.rehearsal") / "page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(**_content(title, observed, verdict))


def _content(title: str, observed: Observed, verdict: Verdict) -> dict[str, Any]:
    lines, hits = lines_of(observed.effect), hits_of(observed)
    tables = list(dict.fromkeys(line.table for line in lines))[:_TABLES_MAX]
    most = max((line.count.rows for line in lines), default=1)
    return {
        "title": title,
        "observed": observed,
        "where": observed.circumstances,
        "age": str(timedelta(seconds=int(observed.circumstances.age_s))),
        "verdict": verdict,
        "kind": verdict.outcome.name.lower(),
        "lines": [(line, _width(line.count.rows, most)) for line in lines],
        "tables": tables,
        "rows": [(hit, [_cell(hit, table, most) for table in tables]) for hit in hits[:TENANTS_MAX]],
        "tenants": len(hits),
        "left_out": max(0, len(hits) - TENANTS_MAX),
        "operations": [one.value for one in SEVERITY if any(line.operation is one for line in lines)],
        "locks": strong_locks(observed),
    }


def _width(rows: int, most: int) -> int:
    """A bar's width in percent: a hundred times the rows is about twice the bar."""
    return max(2, round(100 * math.log10(rows + 1) / math.log10(most + 1))) if most else 0


def _cell(hit: Any, table: str, most: int) -> tuple[str, int, str]:
    """(worst operation, shade, what it says) of one tenant and table."""
    found = [(operation, count.rows) for (_, name, operation), count in hit.effect.counts.items() if name == table]
    if not found:
        return "", 0, ""
    worst = min((operation for operation, _ in found), key=SEVERITY.index)
    rows = sum(number for _, number in found)
    shade = min(_SHADES, 1 + int(_SHADES * math.log10(rows + 1) / math.log10(most + 2)))
    told = ", ".join(f"{number:,} {operation.value}" for operation, number in sorted(found, key=_by_severity))
    return worst.value, shade, told


def _by_severity(one: tuple[Operation, int]) -> int:
    return SEVERITY.index(one[0])
