"""The assembler's errors: a stream that does not hold together is refused, and nothing half done is given out."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.core.change import Change, Relation
from outlast.core.errors import BugError
from outlast.core.table import TableName
from outlast.sources.postgres.pgoutput import (
    Begin,
    Commit,
    Event,
    Keepalive,
    Message,
    RelationSeen,
    Rows,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
)
from outlast.sources.postgres.transactions import Assembler, Transaction

RELATION = Relation(7, TableName("public", "t"), (("id", "integer"),), "d", (0,))
CHANGES: list[Change] = [(73, 7, None, b"\0\1t\0\0\0\x011")]
WHOLE: list[Event] = [Begin(5, 100, 0), RelationSeen(RELATION), Rows(0, CHANGES, 40), Commit(100, 110, 0)]


@pytest.mark.parametrize(
    "events",
    [
        [Rows(0, CHANGES, 40)],
        [Commit(1, 2, 0)],
        [Begin(5, 1, 0), Commit(3, 4, 0)],
        [RelationSeen(RELATION)],
        [Message(0, 1, True, "outlast.x", b"")],
        [StreamStart(5, False)],
        [StreamStart(5, True), StreamStop(), StreamStart(5, True)],
        [StreamStart(5, True), StreamStart(6, True)],
        [StreamCommit(5, 1, 2, 0)],
        [StreamAbort(5, 5, True)],
    ],
)
def test_a_stream_that_does_not_hold_together_is_an_error(tmp_path: Path, events: list[Event]) -> None:
    """It is never made to fit."""
    with Assembler(tmp_path) as assembler, pytest.raises(BugError, match="change stream"):
        assembler.feed(events)


def test_after_an_error_nothing_counts_until_a_restart(tmp_path: Path) -> None:
    """What was complete before it was not given out, so the position stays and it may come again."""
    with Assembler(tmp_path) as assembler:
        with pytest.raises(BugError):
            assembler.feed([*WHOLE, Commit(1, 2, 0)])
        assert assembler.position == 0
        with pytest.raises(BugError, match="restart"):
            assembler.feed(WHOLE)
        assembler.restart()
        (one,) = assembler.feed(WHOLE)
        assert isinstance(one, Transaction)
        assert list(one.changes()) == CHANGES
        assert assembler.position == 110


def test_the_position_does_not_move_inside_a_transaction(tmp_path: Path) -> None:
    """A keepalive in the middle of one says how far the server has read, not how far we are."""
    with Assembler(tmp_path) as assembler:
        assembler.feed([Keepalive(50, 0, False)])
        assert assembler.position == 50
        assembler.feed([*WHOLE[:2], Keepalive(105, 0, False)])
        assert assembler.position == 50
        assembler.feed(WHOLE[2:])
        assert assembler.position == 110
        assembler.feed([Keepalive(60, 0, False)])
        assert assembler.position == 110


def test_an_alter_in_the_middle_is_seen_from_its_place_on(tmp_path: Path) -> None:
    """By whoever reads by blocks, and by whoever reads change by change; and by the transactions after it."""
    wider = Relation(7, RELATION.name, (("id", "integer"), ("x", "text")), "d", (0,))
    second: list[Event] = [Begin(6, 200, 0), *WHOLE[2:3], RelationSeen(wider), *WHOLE[2:3], Commit(200, 210, 0)]
    third: list[Event] = [Begin(7, 300, 0), *WHOLE[2:3], Commit(300, 310, 0)]
    with Assembler(tmp_path) as assembler:
        first, by_block, last = assembler.feed([*WHOLE, *second, *third])
        assert isinstance(first, Transaction)
        assert isinstance(by_block, Transaction)
        assert isinstance(last, Transaction)
        assert [(relations[7], len(changes)) for relations, changes in by_block.blocks()] == [(RELATION, 1), (wider, 1)]
        assert [(first.relations[7]) for _ in first.changes()] == [RELATION]
        assert [last.relations[7] for _ in last.changes()] == [wider]
