"""The seam between the relay, which knows that somebody has to be woken up, and paging, which knows whom and how."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection

from outlast.core.page import Page


class Pager(Protocol):
    """Begins and ends escalations. Every method writes in the caller's transaction and sends nothing by itself.

    So a page and the relay's own note of it are committed together: after a crash both are there, or neither, which is
    what makes a page go out exactly once. Sending is paging's own loop, woken by `wake` after the commit.
    """

    def page(self, connection: Connection, page: Page) -> None:
        """Begin the escalation of an alert. Idempotent by `page.alert_id`: a second call changes nothing."""

    def acknowledge(self, connection: Connection, alert_id: str, by: str) -> None:
        """Somebody has it: escalate no further. Nothing where no escalation runs."""

    def close(self, connection: Connection, alert_id: str, by: str) -> None:
        """It is over. Nothing where no escalation runs."""

    def reopen(self, connection: Connection, alert_id: str) -> None:
        """It was unacknowledged or its snooze ended: escalate on. Nothing where none ran."""

    def assign(self, connection: Connection, alert_id: str, owner: str, by: str) -> None:
        """It now belongs to `owner` (an e-mail address), who is told. Nothing where no escalation runs."""

    def wake(self) -> None:
        """Something was committed: look at what is due now. Called from any thread; must return at once."""
