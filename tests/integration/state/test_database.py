"""The shared state in a file: several opened in one process, and other processes that come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from outlast.state.database import Database

LEAVES = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as other:
    other.execute("INSERT INTO kept VALUES ('theirs')")
other.close()
"""


def test_opened_twice_in_a_process_it_is_not_taken_away_by_another_that_leaves(tmp_path: Path) -> None:
    """A process that closes the file lets go of its locks on it, whoever in it opened the file: the next one to leave
    would be the last as far as it can see, and remove the log that we write on."""
    path = tmp_path / "serve.sqlite"
    with Database.file(path) as one:
        with one.write() as connection:
            connection.execute(text("CREATE TABLE kept (what text)"))
        with Database.file(path) as two, two.read() as connection:
            connection.execute(text("SELECT 1"))
        subprocess.run([sys.executable, "-c", LEAVES, path], check=True, timeout=60)
        assert path.with_name("serve.sqlite-wal").exists()
        with one.write() as connection:
            connection.execute(text("INSERT INTO kept VALUES ('ours')"))
        with one.read() as connection:
            assert connection.scalars(text("SELECT what FROM kept ORDER BY 1")).all() == ["ours", "theirs"]
