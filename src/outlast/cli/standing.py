"""The shared state of the rooms that stand in, as a command opens it that needs no more than that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outlast.cli.opening import Invocation
    from outlast.state.database import Database

DATABASE_FILE = "serve.sqlite"


@contextmanager
def opened_state(invocation: Invocation, *, make: bool = True) -> Iterator[Database | None]:
    """The shared state with on-call's tables. Where it is a file that does not exist: made, or None."""
    from outlast.messages import printed
    from outlast.oncall import overrides
    from outlast.state.database import Database

    settings = invocation.config.document.serve
    path = invocation.config.key_dir / DATABASE_FILE
    if settings.database is None and not make and not path.exists():
        yield None
        return
    if settings.database is None:
        database = Database.file(path)
    else:
        command = settings.database_password_command
        password = printed(command, "database_password_command").strip() if command else os.environ.get("PGPASSWORD")
        database = Database.server(settings.database, password)
    with database:
        database.install(overrides.SCHEMA)
        yield database
