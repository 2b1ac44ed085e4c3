"""What paging looks up: read once for each state of the copy, and compared with the vendors' timelines beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outlast.core.errors import CorruptionError
from outlast.library.copy import LocalCopy
from outlast.oncall.lookup import Lookup
from tests import rosters
from tests.copies import fill_copy
from tests.serving import until


def with_timeline(who: str) -> rosters.Tables:
    tables = rosters.opsgenie()
    period: dict[str, Any] = {
        "recipient": {"type": "user", "id": who},
        "startDate": "2026-03-02T14:00:00Z",
        "endDate": "2026-03-03T14:00:00Z",
    }
    tables["opsgenie.timelines"] = {
        "s1/0": {
            "startDate": "2026-03-02T14:00:00Z",
            "endDate": "2026-03-03T14:00:00Z",
            "finalTimeline": {"rotations": [{"id": "r1", "periods": [period]}]},
        }
    }
    return tables


def test_a_new_copy_is_read_anew_and_compared(tmp_path: Path) -> None:
    """The same state is not read twice; a difference is counted."""
    with LocalCopy.open(fill_copy(tmp_path / "library.sqlite", with_timeline("cid"))) as copy:
        lookup = Lookup(lambda: copy)
        first = lookup.directory()
        assert lookup.directory() is first
        until(lambda: lookup.differences("main/s1") == 1, "the comparison")
        assert lookup.copied_at("main") is not None


def test_while_the_copy_cannot_be_read_what_was_read_last_answers(tmp_path: Path) -> None:
    """And before there is one there is none."""
    kept: list[LocalCopy] = []

    def opened() -> LocalCopy | None:
        if kept and kept[0] is None:
            raise CorruptionError("the copy is damaged")
        return kept[0] if kept else None

    lookup = Lookup(opened)
    assert lookup.directory() is None
    with LocalCopy.open(fill_copy(tmp_path / "library.sqlite", with_timeline("ann"))) as copy:
        kept.append(copy)
        found = lookup.directory()
        assert found is not None
        kept[0] = None  # type: ignore[call-overload]
        assert lookup.directory() is found
