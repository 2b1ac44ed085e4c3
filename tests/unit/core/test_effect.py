"""An effect and its kept form."""

from __future__ import annotations

from outlast.core.effect import Count, Effect, Operation, Via, merge
from outlast.core.tenant import TenantKey

ACME = TenantKey("1")


def test_how_rows_came_about_survives_being_kept_and_is_added_up() -> None:
    """Rows that a foreign key or a trigger took along are told from the statement's own."""
    place = (ACME, "public.items", Operation.HARD_DELETE)
    effect = Effect({place: Count(10, samples=("1",), cascaded=6, triggered=1)})
    assert Effect.from_record(effect.to_record()) == effect
    both = merge([effect, Effect({place: Count(2)})]).counts[place]
    assert [both.via(via) for via in (Via.STATEMENT, Via.CASCADE, Via.TRIGGER)] == [5, 6, 1]


def test_records_of_before_say_that_all_rows_are_the_statements_own() -> None:
    """Plans that were kept by an earlier release can still be read."""
    kept = Effect.from_record([["1", "public.items", "insert", 3, [], ["7"]]])
    assert kept.counts[ACME, "public.items", Operation.INSERT].via(Via.STATEMENT) == 3
