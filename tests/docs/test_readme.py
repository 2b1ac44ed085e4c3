"""The README shows what happens: its sessions are played again, and its links and commands exist."""

from __future__ import annotations

import re

import pytest

from outlast.cli.main import COMMANDS
from tests.docs.generated import README, ROOT, part
from tests.docs.readme import README_PARTS, shape, transcripts

DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
NAMES = {entry.name for entries in COMMANDS.values() for entry in entries}


@pytest.fixture(scope="module")
def played() -> dict[str, str]:
    return transcripts()


@pytest.mark.parametrize("name", README_PARTS)
def test_sessions_print_what_the_readme_shows(name: str, played: dict[str, str]) -> None:
    """Each session prints the same again, numbers and ids apart; `make docs` writes it anew."""
    shown = part(README.read_text(encoding="utf-8"), name).removeprefix("```console\n").removesuffix("```\n")
    assert shape(shown) == shape(played[name]), "run `make docs`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: object) -> None:
    """Every relative link of a document names a file that is there."""
    from pathlib import Path

    assert isinstance(document, Path)
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_that_documents_name_exist(document: object) -> None:
    """A document that says `outlast something` names a command that there is."""
    from pathlib import Path

    assert isinstance(document, Path)
    text = document.read_text(encoding="utf-8")
    for found in re.findall(r"(?:`|^\$ )outlast ([a-z]+)", text, re.MULTILINE):
        assert found in NAMES, f"{document.name} names `outlast {found}`"


def test_make_targets_exist() -> None:
    """Every `make` target that the README names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README.read_text(encoding="utf-8")))
    assert {"replay", "test", "test-system"} <= named <= targets
