"""docs/REFERENCE.md says what the program says: every command, flag, setting and exit code."""

from __future__ import annotations

import pytest

from outlast.cli.main import COMMANDS, app_command
from outlast.config.document import SECTIONS
from outlast.core.errors import ExitCode
from tests.docs.generated import EXIT_MEANINGS, REFERENCE, REFERENCE_PARTS, command_of, part

NAMES = [entry.name for entries in COMMANDS.values() for entry in entries]


@pytest.fixture(scope="module")
def reference() -> str:
    return REFERENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REFERENCE_PARTS)
def test_made_parts_are_up_to_date(name: str, reference: str) -> None:
    """What is generated is what the program says now; `make docs` writes it anew."""
    assert part(reference, name).strip() == REFERENCE_PARTS[name]().strip(), "run `make docs`"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_flag_is_documented(name: str, reference: str) -> None:
    """Each command has its section, and each of its flags a description of its own."""
    assert f"#### outlast {name}\n" in reference
    command = command_of(name)
    inner = getattr(command, "commands", {})
    assert all(f"##### outlast {name} {one}\n" in reference for one in inner)
    for parameter in [*command.params, *(parameter for one in inner.values() for parameter in one.params)]:
        if parameter.param_type_name == "option":
            assert any(flag in reference for flag in parameter.opts), parameter.name
            assert parameter.help, f"--{parameter.name} of {name} is not described"
        else:
            assert parameter.help, f"the argument {parameter.name} of {name} is not described"


def test_every_global_flag_is_documented(reference: str) -> None:
    """The options that stand before a command."""
    for parameter in app_command().params:
        assert any(f"{flag}" in reference for flag in parameter.opts)
        assert parameter.help


def test_every_exit_code_is_documented(reference: str) -> None:
    """Each code has its meaning, and no meaning is left over from a code that is gone."""
    assert set(EXIT_MEANINGS) == set(ExitCode)
    assert all(f"| {code.value} |" in reference for code in ExitCode)


def test_every_setting_is_documented(reference: str) -> None:
    """Each setting of outlast.toml has a description, and its section a table."""
    for heading, section in SECTIONS.items():
        assert f"### [{heading}]" in reference
        for name, field in section.model_fields.items():
            assert field.description, f"[{heading}] {name} is not described"
            assert f"| `{name}` |" in reference
