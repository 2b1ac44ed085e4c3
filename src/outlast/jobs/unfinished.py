"""Whether a host's own queue has unfinished work, told without DBOS: loading it takes longer than most restores."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

_QUERY = "SELECT count(*) FROM workflow_status WHERE status NOT IN ('SUCCESS', 'ERROR')"


def may_be_unfinished(file: Path) -> bool:
    """False where there certainly is no job that waits, is worked, is paused or was cancelled.

    The table is DBOS's. Where it cannot be read, or has another form one day, the answer is yes: the queue is asked.
    """
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
            return bool(connection.execute(_QUERY).fetchone()[0])
    except sqlite3.Error:
        return True
