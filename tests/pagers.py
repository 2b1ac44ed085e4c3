"""Paging on real services of this host: letters to an SMTP server, messages to an HTTP receiver, by a given clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from outlast.core.document import Document
from outlast.core.page import Page, Responder
from outlast.oncall import channels, overrides, policy, tables
from outlast.oncall.paging import Paging
from outlast.state.database import Database
from tests.letterbox import Letterbox, receiving_mail
from tests.receiver import Receiver, receiving

MONDAY = datetime(2026, 3, 2, 15, tzinfo=UTC)  # ten in New York: Ann's, by tests/rosters.py
PUBLIC_URL = "https://outlast.example.org"


class Copy:
    """Documents in memory, where a test needs no file."""

    def __init__(self, tables: dict[str, dict[str, Any]]) -> None:
        self._tables = tables

    def documents(self, table: str, source: str | None = None) -> Iterable[Document]:
        for key, document in sorted(self._tables.get(table, {}).items()):
            yield Document("main", "acme", table, key, None, document)


@dataclass
class Clock:
    now: datetime = MONDAY

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Office:
    """Paging with everything that it needs. `after` lets time pass, and does what is due."""

    folder: Path
    paging: Paging
    clock: Clock
    mail: Letterbox
    phone: Receiver  # SMS go here
    resort: Receiver  # those of last resort

    def page(self, *responders: tuple[str, str], alert_id: str = "a1", **more: Any) -> Page:
        given = page(*responders, alert_id=alert_id, at=self.clock.now, **more)
        with self.paging.database.write() as connection:
            self.paging.page(connection, given)
        return given

    def after(self, minutes: float = 0) -> list[str]:
        """Who got what in that time: `email ann@example.org`, `sms`, `resort`, in the order of sending."""
        before = len(self.mail.letters)
        end = self.clock.now + timedelta(minutes=minutes)
        while True:
            self.paging.settle()
            if self.clock.now >= end:
                break
            self.clock.now = min(end, self.clock.now + timedelta(seconds=15))
        came = [f"email {address}" for address, _ in self.mail.letters[before:]]
        came += ["sms" for _ in self._taken(self.phone)]
        return came + ["resort" for _ in self._taken(self.resort)]

    def _taken(self, receiver: Receiver) -> Iterator[str]:
        while not receiver.empty:
            yield receiver.next()[2]


def page(*responders: tuple[str, str], alert_id: str = "a1", **more: Any) -> Page:
    values: dict[str, Any] = {
        "alert_id": alert_id,
        "event_id": f"{alert_id}-event",
        "integration": "prometheus",
        "message": "disk full",
        "priority": "P1",
        "at": MONDAY,
        "reason": "the vendor is away",
        "responders": tuple(Responder(kind, name=name) for kind, name in responders or [("team", "web-team")]),
    }
    return Page(**values | more)


def templates(mail: Letterbox, phone: Receiver) -> str:
    return (
        f"email mailto://127.0.0.1:{mail.port}/?from=outlast@example.org&to={{address}}&mode=insecure\n"
        f"sms {phone.url}?:to={{address}}\n"
    )


def opened_database(folder: Path, url: str | None = None) -> Database:
    database = Database.server(url) if url else Database.file(folder / "serve.sqlite")
    database.install(overrides.SCHEMA, tables.SCHEMA)
    return database


@contextmanager
def office(folder: Path, documents: dict[str, dict[str, Any]] | None, url: str | None = None) -> Iterator[Office]:
    """Paging by these documents; by none where there is no copy. On PostgreSQL where there is a `url`."""
    clock = Clock()
    directory = policy.read(Copy(documents)) if documents is not None else None
    with (
        opened_database(folder, url) as database,
        receiving_mail() as mail,
        receiving() as phone,
        receiving() as resort,
    ):
        environ = {channels.VARIABLE: templates(mail, phone) + f"fallback {resort.url}\n"}
        paging = Paging(
            database,
            channels.read(environ, None),
            lambda: directory,
            public_url=PUBLIC_URL,
            clock=clock,
        )
        yield Office(folder, paging, clock, mail, phone, resort)
