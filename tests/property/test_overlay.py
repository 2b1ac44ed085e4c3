"""Changes laid over a run give what a sweep of the changed rows would give: the same rows, the same chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.core.change import OP_DELETE, OP_INSERT, OP_TRUNCATE, OP_UPDATE
from outlast.core.entries import LoggedChange, LoggedTable
from outlast.core.row import KeyKind, escape
from outlast.core.table import TableName
from outlast.vault import chunk
from outlast.vault.chunk import Chunk, Chunker, table_root
from outlast.vault.net import MismatchError, Net, Shape
from outlast.vault.overlay import Piece, overlay
from tests.tuples import SAME, Value, key_tuple, old_tuple, tuple_of

ITEMS = TableName("public", "items")
COLUMNS = (("id", "bigint"), ("code", "text"), ("text", "text"))

Row = tuple[int, str, str]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows, so that few rows have many."""
    monkeypatch.setattr(chunk, "SIZE_BYTES_MIN", 60)
    monkeypatch.setattr(chunk, "SIZE_BYTES_MAX", 400)
    monkeypatch.setattr(chunk, "_CUT_BELOW_PER_BYTE", (1 << 32) // 120)


class Store:
    """Keeps chunks in a list, and counts what is read of it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.read_pieces = 0

    def keep(self, found: Chunk) -> Piece:
        self.chunks.append(found.data)
        return Piece(found.first_key, found.rows, found.digest, len(found.data), None, (len(self.chunks) - 1, 0))

    def read(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        for piece in pieces:
            assert piece.spooled is not None
            self.read_pieces += 1
            yield self.chunks[piece.spooled[0]]


def _line(row: Row) -> bytes:
    return b"\t".join([str(row[0]).encode(), escape(row[1].encode()), escape(row[2].encode())])


def _swept(shape: Shape, rows: Sequence[Row], store: Store) -> list[Piece]:
    order, key = shape.order_of, shape.key_of
    lines = sorted(map(_line, rows), key=lambda line: order(key(line)))
    chunker = Chunker(shape.key_of)
    found: list[Piece] = []
    for line in lines:
        found += [store.keep(one) for one in chunker.add(line + b"\n", 1)]
    return found + [store.keep(one) for one in chunker.finish()]


def _root(pieces: Sequence[Piece]) -> bytes:
    return table_root([(piece.digest, piece.rows) for piece in pieces])


def _shape(key: tuple[str, ...]) -> Shape:
    kinds = {"id": KeyKind.INTEGER, "code": KeyKind.TEXT}
    return Shape(COLUMNS, key, tuple(kinds[name] for name in key))


_WORDS = st.sampled_from(["", "a", "b\tc", "d" * 30, "é\\N"])
_KEYS = st.integers(-5, 60)


class History:
    """Changes to rows, as a server would send them, and the rows that are left."""

    def __init__(self, draw: st.DrawFn, rows: dict[int, Row], identity: str) -> None:
        self.draw = draw
        self.rows = dict(rows)
        self.identity = identity
        columns = {"d": (0,), "i": (1,), "f": (0, 1, 2)}[identity]
        kinds = (KeyKind.INTEGER,)
        # In the order of a partition whose columns are not in the root's
        self.table = LoggedTable(ITEMS, (COLUMNS[0], COLUMNS[2], COLUMNS[1]), ("id",), kinds, identity, ())
        positions = {0: 0, 1: 2, 2: 1}
        self.table = LoggedTable(
            ITEMS, self.table.columns, ("id",), kinds, identity, tuple(positions[column] for column in columns)
        )

    def new(self, row: Row, before: Row | None = None) -> bytes:
        text: Value = row[2]
        if before is not None and before[2] == row[2] and self.draw(st.booleans()):
            text = SAME
        return tuple_of([row[0], text, row[1]])

    def old(self, row: Row, changed: Row | None = None) -> bytes | None:
        if self.identity == "f":
            return old_tuple([row[0], row[2], row[1]])
        place = 0 if self.identity == "d" else 1
        if changed is not None and changed[place] == row[place]:
            return None
        return key_tuple([row[0], None, None] if self.identity == "d" else [None, None, row[1]])

    def step(self) -> LoggedChange:
        kind = self.draw(st.sampled_from("iiuuuddmt" if self.draw(st.integers(0, 9)) == 0 else "iiuuuddm"))
        if kind == "t":
            self.rows.clear()
            return LoggedChange(OP_TRUNCATE, self.table, None, None)
        free = self.draw(_KEYS.filter(lambda key: key not in self.rows))
        if kind == "i" or not self.rows:
            row = (free, f"c{free}{self.draw(_WORDS)}", self.draw(_WORDS))
            self.rows[free] = row
            return LoggedChange(OP_INSERT, self.table, None, self.new(row))
        key = self.draw(st.sampled_from(sorted(self.rows)))
        before = self.rows.pop(key)
        if kind == "d":
            return LoggedChange(OP_DELETE, self.table, self.old(before), None)
        number = free if kind == "m" else key
        code = f"x{free}{self.draw(_WORDS)}" if self.draw(st.booleans()) else before[1]
        after = (number, code, self.draw(st.sampled_from([before[2], "new", "n" * 40])))
        if any(row[1] == after[1] for row in self.rows.values()):
            after = (number, before[1], after[2])
        self.rows[number] = after
        return LoggedChange(OP_UPDATE, self.table, self.old(before, after), self.new(after, before))


@st.composite
def _histories(draw: st.DrawFn) -> tuple[dict[int, Row], list[LoggedChange], dict[int, Row]]:
    keys = draw(st.sets(_KEYS, max_size=40))
    rows = {key: (key, f"c{key}", draw(_WORDS)) for key in keys}
    history = History(draw, rows, draw(st.sampled_from("dfi")))
    changes = [history.step() for _ in range(draw(st.integers(0, 25)))]
    return rows, changes, history.rows


_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@_SETTINGS
@given(_histories(), st.integers(1, 30))
def test_a_keyed_table_is_as_swept(
    history: tuple[dict[int, Row], list[LoggedChange], dict[int, Row]], batch: int
) -> None:
    """Whatever the changes, the identity and the batches they are laid over in: rows and chunks are a sweep's."""
    before, changes, after = history
    shape, store = _shape(("id",)), Store()
    pieces = _swept(shape, list(before.values()), store)
    for start in range(0, len(changes), batch):
        net = Net(ITEMS, shape)
        for change in changes[start : start + batch]:
            net.apply(change)
        pieces = overlay(pieces, net, store.read, store.keep)
    expected = _swept(shape, list(after.values()), store)
    assert b"".join(store.read(pieces)) == b"".join(store.read(expected))
    assert _root(pieces) == _root(expected)


@_SETTINGS
@given(st.lists(st.tuples(_KEYS, _WORDS), max_size=30), st.data())
def test_a_table_without_a_key_is_a_multiset(found: list[tuple[int, str]], data: st.DataObject) -> None:
    """Equal rows are counted: one of them is taken away by a delete, wherever in the run it lies."""
    shape, store = _shape(()), Store()
    rows: list[Row] = [(number % 4, "", word) for number, word in found]
    pieces = _swept(shape, rows, store)
    net = Net(ITEMS, shape)
    table = LoggedTable(ITEMS, COLUMNS, (), (), "f", (0, 1, 2))
    for _ in range(data.draw(st.integers(0, 15))):
        kind = data.draw(st.sampled_from("iud"))
        fresh: Row = (data.draw(st.integers(0, 4)), "", data.draw(_WORDS))
        old = data.draw(st.sampled_from(rows)) if rows and kind != "i" else None
        if old is not None:
            rows.remove(old)
        if kind != "d" or old is None:
            rows.append(fresh)
        if old is None:
            net.apply(LoggedChange(OP_INSERT, table, None, tuple_of(fresh)))
        elif kind == "d":
            net.apply(LoggedChange(OP_DELETE, table, old_tuple(old), None))
        else:
            net.apply(LoggedChange(OP_UPDATE, table, old_tuple(old), tuple_of(fresh)))
    after = overlay(pieces, net, store.read, store.keep)
    expected = _swept(shape, rows, store)
    assert Counter(b"".join(store.read(after)).split(b"\n")) == Counter(b"".join(store.read(expected)).split(b"\n"))
    assert _root(after) == _root(expected)


def _base(count: int) -> tuple[Shape, Store, list[Piece]]:
    shape, store = _shape(("id",)), Store()
    return shape, store, _swept(shape, [(number, "c", "text") for number in range(count)], store)


def test_only_touched_chunks_are_read() -> None:
    """One changed row of a long run: a chunk or a few are read, and the others are kept as they lie."""
    shape, store, pieces = _base(2000)
    net = Net(ITEMS, shape)
    table = LoggedTable(ITEMS, COLUMNS, ("id",), (KeyKind.INTEGER,), "d", (0,))
    net.apply(LoggedChange(OP_UPDATE, table, None, tuple_of([1000, "c", "another text"])))
    after = overlay(pieces, net, store.read, store.keep)
    assert len(pieces) > 100
    assert store.read_pieces <= 5
    assert len({piece.digest for piece in after} - {piece.digest for piece in pieces}) <= 5


@pytest.mark.parametrize(
    "change",
    [(OP_DELETE, 99, None), (OP_UPDATE, 99, 99), (OP_INSERT, None, 5), (OP_UPDATE, 5, 6), (OP_UPDATE, 99, 7)],
    ids=["delete", "update", "insert", "key-taken", "key-moved"],
)
def test_what_does_not_fit_is_an_error(change: tuple[int, int | None, int | None]) -> None:
    """A row taken away that is not there, or added where one is: refused by name, never guessed."""
    operation, old, new = change
    shape, store, pieces = _base(50)
    table = LoggedTable(ITEMS, COLUMNS, ("id",), (KeyKind.INTEGER,), "d", (0,))
    net = Net(ITEMS, shape)
    net.apply(
        LoggedChange(
            operation,
            table,
            None if old is None else key_tuple([old, None, None]),
            None if new is None else tuple_of([new, "c", "x"]),
        )
    )
    with pytest.raises(MismatchError, match=r"the log of table public\.items"):
        overlay(pieces, net, store.read, store.keep)


def test_what_contradicts_itself_is_an_error() -> None:
    """A row that is added twice, changed after it went, or taken away after a TRUNCATE."""
    shape = _shape(("id",))
    table = LoggedTable(ITEMS, COLUMNS, ("id",), (KeyKind.INTEGER,), "d", (0,))
    insert = LoggedChange(OP_INSERT, table, None, tuple_of([1, "c", "x"]))
    delete = LoggedChange(OP_DELETE, table, key_tuple([1, None, None]), None)
    truncate = LoggedChange(OP_TRUNCATE, table, None, None)
    unsent = LoggedChange(OP_INSERT, table, None, tuple_of([1, "c", SAME]))
    for changes in ([insert, insert], [delete, delete], [insert, truncate, delete], [unsent]):
        net = Net(ITEMS, shape)
        with pytest.raises(MismatchError):  # noqa: PT012 - which of them it is depends on the case
            for change in changes:
                net.apply(change)
