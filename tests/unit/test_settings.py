"""[tripwire] in outlast.toml."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from outlast.config.settings import TripwireSettings


def test_what_is_not_said_has_a_safe_meaning() -> None:
    """The rules are on, and nobody is halted."""
    settings = TripwireSettings()
    assert (settings.enabled, settings.halt_roles, settings.window) == (True, (), timedelta(minutes=10))


def test_tables_are_named_as_they_are_printed() -> None:
    """A bare name is in public, whichever setting it stands in."""
    settings = TripwireSettings(tombstone="closures", quiet_tables=("sessions", "app.jobs"))
    assert (settings.tombstone, settings.quiet_tables) == ("public.closures", ("public.sessions", "app.jobs"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tombstone": "a", "quiet_tables": ["a"]}, "quiet tables"),
        ({"halt_url": "postgresql://halt:hidden@db/app"}, "carries a password"),
        ({"tenant_share": 50}, "less than or equal to 1"),
        ({"quiet_tables": ["a.b.c"]}, "not a table name"),
    ],
)
def test_a_wrong_value_is_refused(given: dict[str, object], told: str) -> None:
    """What contradicts itself, or says more than it may."""
    with pytest.raises(ValidationError, match=told):
        TripwireSettings.model_validate(given)
