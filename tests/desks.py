"""A desk that stood in, and its tool that is back: an installation with one tool, entries in its journal, and the fake.

What people enter is written as the pages write it; the command is the installed one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from outlast.desk import entries
from outlast.oncall import overrides
from outlast.oncall.schedule import Interval, Responder
from outlast.state.database import Database
from tests import warm
from tests.tools import confluence, jira, opsgenie, pagerduty, project
from tests.tools.fake import WRITE_TOKEN, Document, Fake

TIMEOUT_S = 60
SEEN = datetime(2026, 1, 1, tzinfo=UTC)
_VENDORS: dict[str, tuple[Any, Any, dict[str, str]]] = {
    "jira": (jira.Jira, jira.fill, {"user": jira.USER, "write_user": jira.WRITER, "write_project": "OPS"}),
    "confluence": (confluence.Confluence, confluence.fill, {"user": confluence.USER, "write_user": confluence.WRITER}),
    "opsgenie": (opsgenie.Opsgenie, opsgenie.fill, {}),
    "pagerduty": (pagerduty.PagerDuty, pagerduty.fill, {"write_user": "user1@example.com"}),
}


@dataclass
class Desk:
    """`fake` is the tool, whose source's name is its kind."""

    folder: Path
    kind: str
    fake: Any
    token: str = WRITE_TOKEN
    environment: dict[str, str] = field(default_factory=dict)
    shared: str | None = None  # the shared state's URL

    @property
    def database(self) -> Database:
        file = self.folder / ".outlast" / "serve.sqlite"
        found = Database.file(file) if self.shared is None else Database.server(self.shared)
        found.install(entries.SCHEMA, overrides.SCHEMA)
        return found

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            f"OUTLAST_{self.kind.upper()}_WRITE_TOKEN": self.token,
            **self.environment,
        }

    def ticket(self, title: str = "Disk full", text: str = "on db1\nand db2", by: str = "rob", source: str = "") -> str:
        return self._keep(entries.ticket(by, title, text, source))

    def comment(self, about: str, text: str = "seen here", seen: datetime | None = SEEN, by: str = "ann") -> str:
        """On a document (`jira.issues:10001`), which was seen at its state of `seen`, or on a ticket of ours."""
        return self._keep(entries.comment(by, about, text, self.kind, seen))

    def _keep(self, entry: entries.Entry) -> str:
        with self.database as database, database.write() as connection:
            entries.keep(connection, entry)
        return entry.id

    def override(self, schedule: str, person: str, hours: float = 8, starts: timedelta = timedelta(0)) -> str:
        now = datetime.now(UTC)
        interval = Interval(now + starts, now + starts + timedelta(hours=hours))
        with self.database as database:
            who = Responder("user", person, person.title())
            return overrides.put(database, f"{self.kind}/{schedule}", who, interval, by="rob", at=now).id

    def journal(self) -> dict[str, entries.Entry]:
        with self.database as database, database.read() as connection:
            return {one.id: one for one in entries.newest(connection, 1000)}

    def overrides(self) -> dict[str, overrides.LocalOverride]:
        with self.database as database:
            return {one.id: one for one in overrides.all_of(database)}

    def later(self, seconds: float) -> None:
        """So long ago is what was attempted."""
        with self.database as database, database.write() as connection:
            for table in (entries.entries, overrides.table):
                connection.execute(table.update().values(attempted_at=table.c.attempted_at - seconds))

    def run(
        self, *arguments: str, started: Callable[[int], None] = lambda pid: None
    ) -> subprocess.CompletedProcess[str]:
        """`outlast failback` as a person sees it."""
        return warm.run(
            ("failback", *arguments),
            folder=self.folder, environment=self._environment(), stdin="", timeout_s=TIMEOUT_S, started=started,
        )  # fmt: skip

    def failback(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Its --json, with `exit` beside it."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def killed(self, at: str, *, done: bool) -> None:
        """Run it, and kill it while the tool has a request that begins so: before the tool does it, or once it has."""
        assert self._killed(lambda number: bool(self.fake.log[-1].startswith(at)), done=done)

    def killed_at(self, number: int, *, done: bool) -> bool:
        """The same at the request of that number; False where it ended before."""
        return self._killed(lambda asked: asked == number, done=done)

    def _killed(self, now: Callable[[int], bool], *, done: bool) -> bool:
        process: list[int] = []

        def kill(number: int) -> None:
            if now(number):
                os.kill(process[0], signal.SIGKILL)
                if not done:
                    self.fake.faults.append("cut")

        setattr(self.fake, "after" if done else "before", kill)
        ended = self.run("--execute", started=process.append).returncode
        self.fake.after = self.fake.before = lambda number: None
        assert ended in (0, -signal.SIGKILL), ended
        return ended != 0

    def states(self, answer: dict[str, Any]) -> list[str]:
        return [one["state"] for one in answer["items"]]

    def made(self, method: str = "POST") -> list[str]:
        """What was asked of the tool that writes."""
        return [one for one in self.fake.log if one.startswith(method)]

    def documents(self, table: str) -> list[Document]:
        return list(self.fake.table(table).values())


@contextmanager
def desk(kind: str, folder: Path, shared: str | None = None, **settings: object) -> Iterator[Desk]:
    make, fill, given = _VENDORS[kind]
    fake: Fake = make()
    fill(fake)
    with fake.serving() as url:
        project.write(folder, kind, kind, "acme", site=url, **{**given, **settings})
        if shared is not None:
            with (folder / "outlast.toml").open("a") as file:
                file.write(f'[serve]\ndatabase = "{shared}"\n')
        yield Desk(folder, kind, fake, shared=shared)
