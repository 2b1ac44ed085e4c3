"""One `outlast serve` for all tests of pages: with tickets, runbooks and schedules in its copy, and people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from outlast.library.copy import FILE_NAME
from tests.copies import fill_copy
from tests.receiver import Receiver, receiving
from tests.rosters import opsgenie
from tests.serving import Serving, serving

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)><a href="javascript:alert(3)">x</a>'
DOCUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "jira.issues": {
        "10001": {
            "id": "10001", "key": "OPS-1",
            "fields": {"summary": f"Database failover {EVIL}", "description": f"Promote the standby. {EVIL}",
                       "status": {"name": "Open"}},
        },
    },
    "jira.comments": {"10001/1": {"id": "1", "author": {"displayName": EVIL}, "body": f"Done before. {EVIL}"}},
    "jira.attachments": {"10001/7": {"id": "7", "filename": 'run"book.html', "mimeType": "text/html", "size": 5}},
    "jira.attachments_content": {"10001/7/000000": {"data": "PGI+aGk="}},
    "confluence.pages": {
        "77": {
            "id": "77", "title": "Runbook: failover",
            "body": {"storage": {"value": f"<h2>Steps</h2><ol><li>Promote</li></ol>{EVIL}"}},
        },
    },
}  # fmt: skip


@dataclass
class Site:
    """What is served, its integration's key, and where pages arrive."""

    one: Serving
    key: str
    pages: Receiver

    def alert(self, alias: str, **more: object) -> str:
        """Create an alert; gives its id."""
        with self.one.opsgenie(self.key) as client:
            body = {"message": f"it is {alias}", "alias": alias, **more}
            return str(client.post("/v2/alerts", json=body).json()["data"]["alertId"])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with receiving() as pages, serving(folder, notify=pages.url, settings='trusted_proxies = ["127.0.0.1"]') as one:
        fill_copy(folder / "state" / FILE_NAME, {**DOCUMENTS, **opsgenie()})
        for name, role in (("vera", "viewer"), ("rob", "responder"), ("olga", "operator")):
            one.user(name, role)
        key = one.integration("monitoring", "opsgenie", "--alone")
        one.start()
        yield Site(one, key, pages)
