"""A tuple of the log is read at once into the COPY fields that core/change.py makes of it one by one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.change import row_of
from outlast.rehearsal.copy_after import Claim, ForeignKey, claim_of
from outlast.rehearsal.shape import texts_of

VALUES = st.lists(
    st.none() | st.binary(max_size=12) | st.sampled_from([b"a\tb", b"\\N", b"\\", b"\n", b""]), max_size=5
)


def tuple_of(values: list[bytes | None], unsent: frozenset[int] = frozenset()) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for place, value in enumerate(values):
        if place in unsent:
            parts.append(b"u")
        else:
            parts.append(b"n" if value is None else b"t" + struct.pack(">I", len(value)) + value)
    return b"".join(parts)


@given(VALUES)
def test_the_fields_are_those_of_copy(values: list[bytes | None]) -> None:
    """Escapes and NULL, whatever stands in the values."""
    found = texts_of(b"O" + tuple_of(values), 1)
    assert found is not None
    assert b"\t".join(found) == row_of(tuple_of(values))


@given(VALUES, st.sets(st.integers(0, 4)))
def test_what_was_not_sent_is_as_it_was(values: list[bytes | None], unsent: set[int]) -> None:
    """From the old row, where that is known; else the row is not."""
    left_out = frozenset(place for place in unsent if place < len(values))
    before = texts_of(tuple_of(values), 0)
    sent = tuple_of(values, left_out)
    assert texts_of(sent, 0, before) == before
    assert texts_of(sent, 0) == (None if left_out else before)


def test_a_statement_claims_the_tables_that_it_locks() -> None:
    """An index lets others read its table and make indexes on it; a key locks both of its tables."""
    index = claim_of(b'CREATE UNIQUE INDEX "on it" ON public."my items" USING btree (name);')
    assert index == Claim(shared=frozenset({b'public."my items"'}))
    primary = claim_of(b'ALTER TABLE ONLY public."my items"\n    ADD CONSTRAINT a PRIMARY KEY (id);')
    foreign = claim_of(
        b"ALTER TABLE ONLY public.notes\n    ADD CONSTRAINT b FOREIGN KEY (item) REFERENCES public.pages(id) ON DELETE"
    )
    assert foreign.alone == {b"public.notes", b"public.pages"}
    assert index.collides(primary)
    assert primary.collides(index)
    assert not index.collides(index)
    assert not foreign.collides(primary)
    assert not claim_of(b"SELECT 1").collides(primary)


def test_a_foreign_key_is_validated_beside_indexes_of_the_other_table() -> None:
    """But beside none of its own table, and nothing else looks through that one."""
    notes = ForeignKey.of(
        b"\nALTER TABLE ONLY public.notes\n    ADD CONSTRAINT b FOREIGN KEY (item)"
        b" REFERENCES public.items(id);\n\n--\n-- end\n"
    )
    assert notes is not None
    assert notes.make.endswith(b"public.items(id) NOT VALID;")
    index = b"CREATE INDEX a ON public.%b USING btree (name);"
    assert not notes.claim.collides(claim_of(index % b"items"))
    assert notes.claim.collides(claim_of(index % b"notes"))
    assert claim_of(index % b"notes").collides(notes.claim)
    assert notes.claim.collides(notes.claim)
    assert notes.claim.collides(claim_of(b"ALTER TABLE ONLY public.items ADD CONSTRAINT a PRIMARY KEY (id);"))


@pytest.mark.parametrize(
    "text",
    [
        b"ALTER TABLE public.notes ADD CONSTRAINT b FOREIGN KEY (item) REFERENCES public.items(id);",
        b"ALTER TABLE ONLY public.notes ADD CONSTRAINT b FOREIGN KEY (item) REFERENCES public.items(id) NOT VALID;\n",
        b"ALTER TABLE ONLY public.notes ADD CONSTRAINT b FOREIGN KEY (a) REFERENCES public.items(id) NOT ENFORCED;\n",
    ],
)
def test_some_foreign_keys_are_made_as_they_are(text: bytes) -> None:
    """Those of partitioned tables, and those that hold for nothing that is there."""
    assert ForeignKey.of(text) is None
