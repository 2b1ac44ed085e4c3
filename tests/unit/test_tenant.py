"""A tenant as a person reads it."""

from __future__ import annotations

import pytest

from outlast.core.tenant import Tenant, TenantKey


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("acme", "acme (7)"),
        ("日本\u3000株式", "日本\u3000株式 (7)"),
        ("a\tb\nc\x1b[2J", r"a\tb\nc\x1b[2J (7)"),
        ("\u202egnp", r"\u202egnp (7)"),
    ],
)
def test_a_label_never_moves_the_cursor(label: str, shown: str) -> None:
    """Customers choose their own names: what would act on a terminal is escaped, everything else is as it is."""
    assert str(Tenant(TenantKey("7"), label)) == shown
