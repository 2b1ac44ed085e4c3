"""A tenant's state at any moment is made of what is that tenant's: counted by what is asked of the store."""

from __future__ import annotations

import pytest

from outlast.capture.fold import fold
from outlast.restore.history import find_entry, past_at, resolve
from outlast.state.local import LocalState
from outlast.vault.log import LogReader
from tests.fault.faults import Fault, FaultyStore
from tests.integration.follow.conftest import Factory
from tests.integration.follow.test_fold import SMALL, SMALL_OWNERS
from tests.integration.follow.truth import Truth

TENANT = "7"
TAIL_BYTES = 16 * 1024


class Counted(FaultyStore):
    """A store that remembers which bytes of which objects were asked for."""

    def __init__(self, inner: object) -> None:
        super().__init__(inner, Fault())
        self.read: list[tuple[str, int, int]] = []

    def get(self, path: str) -> bytes:
        data = super().get(path)
        self.read.append((path, 0, len(data)))
        return data

    def get_range(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        self.read.append((path, offset_bytes, length_bytes))
        return super().get_range(path, offset_bytes, length_bytes)


@pytest.mark.parametrize("folded", [False, True])
def test_a_moment_of_one_tenant_reads_only_its_own(database: str, followed: Factory, folded: bool) -> None:
    """Forty tenants, all of them at work. Of the others' folders not an object is read; of a segment its header, what
    it says of the schema, and this tenant's frame."""
    one = followed(database, SMALL)
    one.drain()
    for number in range(4):
        # Text that does not compress: a frame of some kilobytes, so that a header's read does not take in the others'.
        one.execute(
            "UPDATE task SET body = (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 20)) || id"
        )
        one.drain()
        if folded and number == 1:
            with LocalState(one.folder / "state") as state:
                assert fold(one.vault(), "main", one.keys, state).run is not None
    truth = Truth(one.url, SMALL_OWNERS)
    expected, lsn = truth.state()[TENANT], truth.note()

    vault = one.vault()
    prefix = vault.find_tenant("main", TENANT).prefix
    others = {entry.prefix for entry in vault.entries("main") if entry.tenant.key.isdigit()} - {prefix}
    headers = {header.path: header for header in LogReader(one.store, one.keys.signers).headers("main")}
    vault = one.vault()
    vault.store = store = Counted(vault.store)
    moment = resolve(vault, "main", str(lsn))
    past = past_at(vault, "main", find_entry(vault, "main", TENANT, moment), moment)
    rows = [line for table in past.tables.values() for block in past.read(table) for line in block.splitlines()]
    assert sorted(rows) == sorted(row for table in expected.values() for row in table)

    assert store.read
    assert not [path for path, _, _ in store.read if any(f"/{other}/" in path for other in others)]
    for path, offset, length in store.read:
        if path not in headers or headers[path].folded is not None:
            continue
        header = headers[path]
        size = sum(frame.length for frame in header.frames.values()) + header.details.length
        mine = [header.details, *([header.frames[prefix]] if prefix in header.frames else [])]
        of_ours = any(part.offset <= offset and offset + length <= part.offset + part.length for part in mine)
        assert of_ours or offset >= size - TAIL_BYTES, f"{length} bytes at {offset} of {path}"
