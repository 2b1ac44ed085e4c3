"""Signed links: what cannot be done with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.link import LinkKey, LinkRefused

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
KEY = LinkKey(bytes(range(32)))


def test_a_link_says_what_it_was_made_for() -> None:
    """Purpose, subject and expiry come back as they were given."""
    link = KEY.read(KEY.make("notice", ("i1", "Zürich ✓"), NOW + timedelta(hours=1)), "notice", NOW)
    assert (link.purpose, link.subject, link.expires) == ("notice", ("i1", "Zürich ✓"), NOW + timedelta(hours=1))


def test_a_link_is_good_for_one_purpose_until_it_expires() -> None:
    """At its last second it is not any more."""
    token = KEY.make("notice", ("i1", "7"), NOW + timedelta(seconds=5))
    KEY.read(token, "notice", NOW + timedelta(seconds=4))
    for purpose, now in (("unsubscribe", NOW), ("notice", NOW + timedelta(seconds=5))):
        with pytest.raises(LinkRefused):
            KEY.read(token, purpose, now)


def test_another_key_opens_nothing() -> None:
    """A key that was changed ends all links that there were."""
    with pytest.raises(LinkRefused):
        LinkKey(LinkKey.generate()).read(KEY.make("notice", ("7",)), "notice", NOW)


@given(position=st.integers(0, 500), letter=st.sampled_from("abcXYZ019-_."), insert=st.booleans())
def test_no_changed_letter_goes_through(position: int, letter: str, insert: bool) -> None:
    """Not one that was altered, and not one that was put in: there is one way only to write a link."""
    token = KEY.make("notice", ("i1", "7"), NOW + timedelta(hours=1), name="fixed")
    position %= len(token) + insert
    changed = token[:position] + letter + token[position + (not insert) :]
    if changed == token:
        return
    with pytest.raises(LinkRefused):
        KEY.read(changed, "notice", NOW)


@given(st.text(max_size=60))
def test_no_guess_goes_through(guess: str) -> None:
    """Whatever it is, it is refused as any other, and nothing breaks."""
    with pytest.raises(LinkRefused, match="not valid"):
        KEY.read(guess, "notice", NOW)
