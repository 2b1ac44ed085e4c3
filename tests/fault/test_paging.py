"""Paging that is killed at every point: nobody's page is lost, and one that may have come twice says so."""

from __future__ import annotations

import os
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

from outlast.oncall import channels, ledger, policy
from outlast.oncall.paging import Paging
from tests.fault.paging_process import tables
from tests.letterbox import receiving_mail
from tests.pagers import MONDAY, Copy, opened_database

ROOT = Path(__file__).parents[2]
AGAIN = "You may have had this before"


def test_killed_at_any_step_no_page_is_lost_and_a_double_is_marked(tmp_path: Path) -> None:
    """kill -9 at the first step, the second, … until none is left to be killed at; then the next process goes on."""
    with receiving_mail() as mail:
        template = f"email mailto://127.0.0.1:{mail.port}/?from=outlast@example.org&to={{address}}&mode=insecure"
        environ = {channels.VARIABLE: template}
        subprocess.run(
            [sys.executable, "-m", "tests.fault.paging_process", str(tmp_path)],
            check=True,
            cwd=ROOT,
            env=os.environ | environ,
            timeout=120,
        )
        folders = sorted(tmp_path.iterdir())
        assert len(folders) > 10
        directory = policy.read(Copy(tables()))
        for folder in folders:
            with opened_database(folder) as database:
                paging = Paging(database, channels.read(environ, None), lambda: directory, clock=lambda: MONDAY)
                with database.write() as connection:
                    ledger.recover(connection, MONDAY)
                paging.settle()
                paging.stop()
                with database.read() as connection:
                    record = ledger.record(connection, "a1")
            assert record is not None
            assert [one.state for one in record.escalation.notices] == ["sent"], folder
    doubles = 0
    for folder in folders:
        came = [text for text in map(text_of, mail.letters) if f"{folder.name}\n" in text]
        assert 1 <= len(came) <= 2, folder
        assert AGAIN not in came[0] or len(came) == 1  # one that was claimed and never sent says so in vain
        assert len(came) == 1 or AGAIN in came[1], folder
        doubles += len(came) == 2
    assert 1 <= doubles <= 2  # those killed between the service's answer and its being on disk


def text_of(letter: tuple[str, EmailMessage]) -> str:
    body = letter[1].get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")
