"""What the pages and APIs work with: opened by cli/serve.py, given to `create_app`, reached by `services(request)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request

from outlast.relay.commit import Commits
from outlast.relay.forwarding import Line, Switched
from outlast.relay.integration import Keys
from outlast.relay.rate import Rates
from outlast.state.database import Database
from outlast.state.paging import Pager

if TYPE_CHECKING:
    from outlast.incident.teller import Teller
    from outlast.library.copy import LocalCopy
    from outlast.oncall.lookup import Lookup
    from outlast.web.telling import Site


@dataclass
class Services:
    """One process's services. `background` are coroutines that run as long as the app does."""

    database: Database
    commits: Commits
    keys: Keys
    pager: Pager
    lines: Sequence[Line]
    instance: str  # this installation's id, by which requests that go round in a circle are known
    public_url: str | None = None
    library_path: Path | None = None
    session_length: timedelta = timedelta(hours=12)
    integration_rates: Rates = field(default_factory=lambda: Rates(2000, 4000))
    login_rates: Rates = field(default_factory=lambda: Rates(1 / 6, 10))
    link_rates: Rates = field(default_factory=lambda: Rates(2, 60))
    trusted_proxies: tuple[str, ...] = ()
    subscribe_rates: Rates = field(default_factory=lambda: Rates(1 / 10, 5))
    teller: Teller | None = None  # who looks after incidents: what their pages read and write by
    site: Site | None = None
    background: list[Callable[[], object]] = field(default_factory=list)
    switched: Switched = lambda name, why, since: None  # hears when we begin and end to stand in for an upstream
    lookup: Lookup | None = None  # who is on call, and how people are reached
    _library: LocalCopy | None = None

    @property
    def https(self) -> bool:
        return (self.public_url or "").startswith("https://")

    @property
    def upstreams(self) -> tuple[str, ...]:
        return tuple(line.upstream.name for line in self.lines)

    def library(self) -> LocalCopy | None:
        """The local copy of the tools' documents; None while there is none."""
        from outlast.core.errors import NotFoundError
        from outlast.library.copy import LocalCopy

        if self._library is None and self.library_path is not None:
            try:
                self._library = LocalCopy.open(self.library_path)
            except NotFoundError:
                return None
        return self._library


def services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found
