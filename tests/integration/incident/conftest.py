"""An incident's journal in a database of its own: SQLite, and PostgreSQL as several instances share it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.incident.conduct import Conduct, Rules
from outlast.incident.journal import Journal
from outlast.incident.letters import Desk
from outlast.incident.page import ComponentSpec, PageSpec
from outlast.state.database import Database
from tests.letterbox import Letterbox, receiving_mail

PAGE = PageSpec("Acme", "https://status.example", (ComponentSpec("API"), ComponentSpec("Web")), ("en", "de"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.file(tmp_path / "serve.sqlite") as database:
        yield database


@pytest.fixture
def conduct(database: Database) -> Conduct:
    return Conduct(Journal(database), Rules(components=("API", "Web")))


@pytest.fixture
def mailbox() -> Iterator[Letterbox]:
    with receiving_mail() as mailbox:
        yield mailbox


@pytest.fixture
def desk(conduct: Conduct) -> Desk:
    return Desk(PAGE, conduct.journal.link_key(), "https://outlast.example")
