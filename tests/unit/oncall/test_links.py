"""Acknowledgement links: nothing in them can be guessed, changed or used after their end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from outlast.oncall.links import opened, signed

KEY, OTHER = b"k" * 32, b"o" * 32
NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)


def test_a_token_says_which_notice_until_its_end() -> None:
    """It is short enough for an SMS, and nothing after its end."""
    token = signed(KEY, 123456, NOW + timedelta(hours=1))
    assert len(token) == 38
    found = opened(KEY, token, NOW)
    assert found is not None
    assert found.notice == 123456
    assert opened(KEY, token, NOW + timedelta(hours=1)) is None
    assert opened(OTHER, token, NOW) is None


@given(st.integers(0, 37), st.sampled_from("ABCxyz019-_"))
def test_a_changed_token_is_none_of_ours(place: int, letter: str) -> None:
    """Whatever letter is changed, or whatever is sent instead."""
    token = signed(KEY, 7, NOW + timedelta(hours=1))
    changed = token[:place] + letter + token[place + 1 :]
    assert (opened(KEY, changed, NOW) is None) == (changed != token)


@given(st.text(max_size=60))
def test_anything_else_is_no_token(text: str) -> None:
    """Without an error, whatever a scanner sends."""
    assert opened(KEY, text, NOW) is None
