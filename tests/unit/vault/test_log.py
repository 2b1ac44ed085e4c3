"""The log: segments are written and read whole, chained and signed, and every wrong byte is a named error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outlast.core.change import OP_INSERT
from outlast.core.entries import EntryWriter, LoggedTable, read_entries
from outlast.core.errors import CorruptionError, OutlastError, Refused, TransientError
from outlast.core.moment import Lsn
from outlast.core.row import KeyKind
from outlast.core.table import TableName
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.keys import Identity
from outlast.vault.log import LogEnd, LogReader, SegmentDraft, SegmentWriter
from outlast.vault.segment import Gap, SchemaChange, SegmentDetails, TransactionSummary, segment_path
from outlast.vault.store import Store, StoredObject
from tests.vaults import SOURCE, VaultWriter, folder_vault

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = LoggedTable(TableName("public", "items"), (("id", "bigint"),), ("id",), (KeyKind.INTEGER,), "d", (0,))


class Project:
    """A vault with one tenant's key, and a log that can be written."""

    def __init__(self, folder: Path) -> None:
        self.vault: VaultWriter = folder_vault(folder)
        key = self.vault.keys.new_key(Tenant(TenantKey("1")))
        self.prefix, self.recipient = self.vault.prefix("1"), key.recipient
        self.identity = Identity.from_text(self.vault.operator.open(key.wrapped, "key").decode(), "key")
        self.writer = SegmentWriter(self.vault.store, self.vault.keys, SOURCE)
        self.reader = LogReader(self.vault.store, self.vault.pin.signers)
        self.end = LogEnd()

    def draft(self, number: int, frames: Mapping[str, tuple[str, bytes]] | None = None) -> SegmentDraft:
        entries = EntryWriter()
        entries.begin(number * 100, number * 100 + 10, number, 0)
        entries.change(OP_INSERT, ITEMS, None, b"\0\1n")
        summary = TransactionSummary(
            number,
            Lsn(number * 100),
            Lsn(number * 100 + 10),
            NOW,
            0,
            True,
            {self.prefix: {"public.items": {"insert": 1}}},
        )
        return SegmentDraft(
            epoch=1,
            slot="outlast_main",
            system="7",
            timeline=1,
            base_run=1,
            start=Lsn(number * 100 - 90),
            position=Lsn(number * 100 + 10),
            as_of=NOW,
            frames={self.prefix: (self.recipient, entries.data)} if frames is None else frames,
            details=SegmentDetails(
                (summary,),
                (("ab", "1", None),),
                (SchemaChange(Lsn(5), 6, ITEMS.name, (("id", "bigint", 0, "\\N"),), ("id",)),),
                (Gap(Lsn(7), "why", ITEMS.name, ("ab",), 8),),
                sequences={"public.items_id_seq": 7},
            ),
        )

    def write(self, number: int) -> None:
        self.end = self.writer.write(self.draft(number), self.end).end


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "vault")


def test_round_trip(project: Project) -> None:
    """Header, details and entries come back as they were written; the log goes on after a restart."""
    for number in (1, 2, 3):
        project.write(number)
    headers = project.reader.headers(SOURCE)
    assert [header.segment for header in headers] == [1, 2, 3]
    assert headers[1].previous == headers[0].digest
    assert project.reader.details(headers[2], project.vault.recovery) == project.draft(3).details
    entries = project.reader.frame(headers[1], project.prefix, project.identity)
    assert entries is not None
    assert len(list(read_entries(entries))) == 2
    assert project.reader.frame(headers[1], "00", project.identity) is None
    assert LogReader(project.vault.store, project.vault.pin.signers).end(SOURCE) == project.end


def test_a_second_follower_is_refused(project: Project) -> None:
    """The number of a segment is taken once; the same object put again is not another follower."""
    draft = project.draft(1)
    project.writer.write(draft, LogEnd())
    with pytest.raises(Refused, match="exists already"):
        project.writer.write(project.draft(1), LogEnd())


class _Forgetful:
    """A store that puts, and whose first answer is lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lost = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def create(self, path: str, data: bytes) -> None:
        self._store.create(path, data)
        if not self.lost:
            self.lost = True
            raise TransientError("cut")


def test_a_lost_answer_is_no_second_follower(project: Project) -> None:
    """A put whose answer was lost is repeated with the same bytes and succeeds."""
    writer = SegmentWriter(_Forgetful(project.vault.store), project.vault.keys, SOURCE)  # type: ignore[arg-type]
    draft = project.draft(1)
    with pytest.raises(TransientError):
        writer.write(draft, LogEnd())
    assert writer.write(draft, LogEnd()).end == project.reader.end(SOURCE)


def test_a_missing_and_a_swapped_segment_are_named(project: Project, tmp_path: Path) -> None:
    """A segment that is gone, or another genuine one in its place, is an error that names it."""
    other = Project(tmp_path / "other")
    other.vault.keys = project.vault.keys
    for number in (1, 2, 3):
        project.write(number)
    fork = SegmentWriter(other.vault.store, project.vault.keys, SOURCE)
    second = fork.write(project.draft(2), LogEnd(1, "00")).header
    path = segment_path(SOURCE, 2)
    genuine = project.vault.store.get(path)
    project.vault.store.delete(path)
    with pytest.raises(CorruptionError, match=f"{path} is gone"):
        project.reader.headers(SOURCE)
    project.vault.store.create(path, other.vault.store.get(segment_path(SOURCE, second.segment)))
    with pytest.raises(CorruptionError, match="not the one that the next one followed"):
        LogReader(project.vault.store, project.vault.pin.signers).headers(SOURCE)
    project.vault.store.delete(path)
    project.vault.store.create(path, genuine)
    project.vault.store.delete(segment_path(SOURCE, 1))
    with pytest.raises(CorruptionError, match="000000000001 is gone"):
        LogReader(project.vault.store, project.vault.pin.signers).headers(SOURCE)


def test_every_byte_counts(project: Project) -> None:
    """Whichever byte of a segment is flipped, reading all of it raises an error that names the segment."""
    project.write(1)
    path = segment_path(SOURCE, 1)
    whole = project.vault.store.get(path)
    for place in range(0, len(whole), 7):
        project.vault.store.delete(path)
        project.vault.store.create(path, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        reader = LogReader(project.vault.store, project.vault.pin.signers)
        with pytest.raises(OutlastError, match="log segment"):
            _read_all(reader, project)


def _read_all(reader: LogReader, project: Project) -> None:
    for header in reader.headers(SOURCE):
        reader.frame(header, project.prefix, project.identity)
        reader.details(header, project.vault.operator)


class _Counting:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.ranges: list[tuple[str, int, int]] = []

    def list(self, prefix: str) -> list[StoredObject]:
        return list(self._store.list(prefix))

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        self.ranges.append((path, offset, length))
        return self._store.get_range(path, offset, length)


def test_reading_is_by_ranges(project: Project) -> None:
    """A header costs one range, a large one two, a tenant's frame one: never the other tenants' bytes."""
    project.write(1)
    many = {f"{number:032x}": (project.recipient, b"x" * 1000) for number in range(300)}
    project.end = project.writer.write(project.draft(2, many), project.end).end
    store = _Counting(project.vault.store)
    reader = LogReader(store, project.vault.pin.signers)  # type: ignore[arg-type]
    headers = reader.headers(SOURCE)
    assert sorted(path for path, _, _ in store.ranges) == [segment_path(SOURCE, n) for n in (1, 2, 2)]
    reader.frame(headers[0], project.prefix, project.identity)
    assert store.ranges[-1] == (segment_path(SOURCE, 1), 0, headers[0].frames[project.prefix].length)
