"""Changes that wait: in order, cut off at any place, in memory and in the spool alike, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.core.change import Change
from outlast.core.errors import OutlastError
from outlast.sources.postgres.transaction_spool import SLAB_BYTES, TransactionSpool
from outlast.sources.postgres.waiting import WaitingChanges


def _changes(first: int, count: int) -> list[Change]:
    return [(73, 1, None, b"%d" % number) for number in range(first, first + count)]


def _drained(changes: WaitingChanges) -> list[int]:
    return [int(new or b"") for block in changes.drain() for _, _, _, new in block]


@pytest.mark.parametrize("spilled", [(), (0,), (1,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("keep", [0, 1, 9, 10, 11, 25, 30])
def test_what_is_cut_off_does_not_come_out(tmp_path: Path, spilled: tuple[int, ...], keep: int) -> None:
    """Also in the middle of what was spooled; what is put in later follows what was kept."""
    with TransactionSpool(tmp_path) as spool:
        waiting = WaitingChanges(spool)
        for number in range(3):
            waiting.append(_changes(number * 10, 10), 100)
            if number in spilled:
                waiting.spill()
        waiting.cut_off(keep)
        assert waiting.count == keep
        waiting.append(_changes(100, 2), 20)
        assert _drained(waiting) == [*range(keep), 100, 101]
        assert spool.size_bytes == 0
        assert waiting.memory_bytes == 0


def test_a_list_that_was_put_in_is_never_written_to(tmp_path: Path) -> None:
    """It may be somebody else's: an observer's."""
    with TransactionSpool(tmp_path) as spool:
        waiting, first = WaitingChanges(spool), _changes(0, 3)
        waiting.append(first, 10)
        waiting.append(_changes(3, 3), 10)
        waiting.cut_off(1)
        assert len(first) == 3


def test_the_spool_holds_no_plaintext_and_no_name(tmp_path: Path) -> None:
    """Space is used again in any order of ends, and given back when nothing waits."""
    with TransactionSpool(tmp_path) as spool:
        secrets = [bytes([65 + number]) * (SLAB_BYTES * number + 7) for number in range(4)]
        extents = [spool.put(secret) for secret in secrets]
        assert list(tmp_path.iterdir()) == []
        assert spool._file is not None
        on_disk = Path(f"/proc/self/fd/{spool._file}").read_bytes()
        assert not any(secret[:64] in on_disk for secret in secrets)
        spool.free(extents.pop(1))
        size = len(Path(f"/proc/self/fd/{spool._file}").read_bytes())
        extents.append(spool.put(b"again" * 10))
        assert len(Path(f"/proc/self/fd/{spool._file}").read_bytes()) == size
        assert spool.get(extents[-1]) == b"again" * 10
        for extent in extents:
            spool.free(extent)
        assert Path(f"/proc/self/fd/{spool._file}").read_bytes() == b""


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """With what to do about it."""
    (tmp_path / "file").write_text("")
    with (
        TransactionSpool(tmp_path / "file") as spool,
        pytest.raises(OutlastError, match="cannot make a file") as caught,
    ):
        spool.put(b"x")
    assert caught.value.hint
