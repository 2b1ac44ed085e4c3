"""What stands after `outlast rehearse`: one script, or a command."""

from __future__ import annotations

import pytest

from outlast.cli.declaring import declared
from outlast.core.errors import UsageError


def test_two_scripts_are_no_command() -> None:
    """The second would be taken for an argument of the first, which no system can run."""
    with pytest.raises(UsageError) as caught:
        declared(["first.sql", "second.sql"], [], None, list)
    assert "second.sql is one word too many" in caught.value.message
