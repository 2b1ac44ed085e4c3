"""Pages once, and is killed at the Nth step of it: N = 1, 2, … each in a process and a database of its own.

Run as a program by test_paging.py. A step is a transaction begun, a transaction on disk, a message about to be sent, or
a message that a service has taken. Each alert is called by its N.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from outlast.messages import Message
from outlast.oncall import channels, policy
from outlast.oncall.channels import AppriseChannels, Sent
from outlast.oncall.paging import Paging
from outlast.state.database import Database
from tests import rosters
from tests.pagers import MONDAY, Copy, opened_database, page

T = TypeVar("T")


@dataclass
class Doom:
    """Counts steps, and dies at the given one as a process does that is killed."""

    left: int

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Doomed:
    """Channels, and a database's transactions, of a process that will be killed."""

    inner: AppriseChannels
    database: Database
    doom: Doom

    def send(self, method: str, address: str, message: Message) -> Sent:
        self.doom.step()
        sent = self.inner.send(method, address, message)
        self.doom.step()
        return sent

    def shout(self, message: Message) -> Sent:
        return self.inner.shout(message)

    def write(self, work: Callable[[Connection], T]) -> T:
        self.doom.step()
        with self.database.write() as connection:
            result = work(connection)
        self.doom.step()
        return result


def tables() -> dict[str, dict[str, rosters.Document]]:
    """One person, reached by e-mail alone, twice: on call, and five minutes later."""
    found = rosters.opsgenie()
    found["opsgenie.contacts"] = {"ann/e": rosters.contact("email", "ann@example.org")}
    found["opsgenie.notification_rules"] = {}
    return found


def begin(folder: Path) -> None:
    """The relay's part: the page is on disk together with its event."""
    with opened_database(folder) as database, database.write() as connection:
        paging = Paging(database, channels.read({}, None), lambda: None, clock=lambda: MONDAY)
        paging.page(connection, page(("schedule", "web"), message=folder.name))


def run(folder: Path, services: AppriseChannels, steps: int) -> None:
    directory = policy.read(Copy(tables()))
    with opened_database(folder) as database:
        doomed = Doomed(services, database, Doom(steps))
        Paging(database, doomed, lambda: directory, clock=lambda: MONDAY, write=doomed.write).settle()


def main() -> None:
    root, steps = Path(sys.argv[1]), 0
    services = channels.read(os.environ, None)  # Apprise takes seconds to load: once, and not in every process
    while True:
        steps += 1
        folder = root / f"{steps:03}"
        begin(folder)
        child = os.fork()
        if child == 0:
            run(folder, services, steps)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            return
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status


if __name__ == "__main__":
    main()
