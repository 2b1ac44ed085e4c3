"""Opsgenie's filters: whether an alert meets the conditions of a notification rule or of a team's routing rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outlast.core.page import Page

Document = Mapping[str, Any]
_PRIORITIES = ("P5", "P4", "P3", "P2", "P1")


def met(criteria: Document | None, page: Page) -> bool:
    """Whether the filter lets the alert through. What is not known lets it through: rather one page too many."""
    kind = (criteria or {}).get("type") or "match-all"
    conditions = (criteria or {}).get("conditions") or ()
    if kind == "match-all" or not conditions:
        return True
    results = [_holds(one, page) for one in conditions]
    return any(results) if kind in ("match-any-condition", "match-any") else all(results)


def _holds(condition: Document, page: Page) -> bool:
    operation = _OPERATIONS.get(str(condition.get("operation") or "").lower())
    values = _values(condition, page)
    if operation is None or values is None:
        return True
    held = operation(values, str(condition.get("expectedValue") or ""))
    return not held if condition.get("not") else held


def _values(condition: Document, page: Page) -> Sequence[str] | None:
    field = str(condition.get("field") or "").lower()
    if field in ("extra-properties", "details"):
        key = condition.get("key")
        if key:
            return [page.details[key]] if key in page.details else []
        return [*page.details, *page.details.values()]
    named = [one.name or one.id or "" for one in page.responders]
    known: dict[str, Sequence[str]] = {
        "message": [page.message],
        "description": [page.description],
        "source": [page.source],
        "priority": [page.priority],
        "tags": page.tags,
        "responders": named,
        "recipients": named,
        "teams": [one.name or one.id or "" for one in page.responders if one.type == "team"],
    }
    return known.get(field)


def _number(text: str) -> float | None:
    if text.upper() in _PRIORITIES:
        return _PRIORITIES.index(text.upper())
    try:
        return float(text)
    except ValueError:
        return None


def _compared(values: Sequence[str], expected: str, sign: int) -> bool:
    wanted = _number(expected)
    numbers = [_number(value) for value in values]
    return wanted is not None and any(one is not None and sign * (one - wanted) > 0 for one in numbers)


def _matched(values: Sequence[str], expected: str) -> bool:
    try:
        pattern = re.compile(expected[:500])
    except re.error:
        return True
    return any(pattern.search(value[:2000]) for value in values)


_OPERATIONS: Mapping[str, Callable[[Sequence[str], str], bool]] = {
    "equals": lambda values, expected: expected in values,
    "equals-ignore-whitespace": lambda values, expected: (
        "".join(expected.split()) in ["".join(value.split()) for value in values]
    ),
    "contains": lambda values, expected: any(expected in value for value in values),
    "contains-key": lambda values, expected: expected in values,
    "contains-value": lambda values, expected: expected in values,
    "starts-with": lambda values, expected: any(value.startswith(expected) for value in values),
    "ends-with": lambda values, expected: any(value.endswith(expected) for value in values),
    "is-empty": lambda values, expected: not any(values),
    "greater-than": lambda values, expected: _compared(values, expected, 1),
    "less-than": lambda values, expected: _compared(values, expected, -1),
    "matches": _matched,
}
