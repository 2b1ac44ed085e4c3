"""`outlast serve` cut off from everything: vendor, source database and the vault's bucket refuse connections."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import httpx

from outlast.library.copy import FILE_NAME
from tests import rosters
from tests.copies import fill_copy
from tests.integration.web.conftest import DOCUMENTS
from tests.letterbox import receiving_mail
from tests.servers import free_port
from tests.serving import TIMEOUT_S, serving, until

PAGED_WITHIN_S = 10
PUBLIC_URL = "http://outlast.example.org"


def test_it_starts_from_its_local_copy_and_serves(tmp_path: Path) -> None:
    """Who is on call and a runbook are read, an alert is taken and paged by mail, and the link in it acknowledges."""
    state = tmp_path / "state"
    fill_copy(state / FILE_NAME, {**DOCUMENTS, **rosters.opsgenie()})
    shutil.rmtree(state / "the-vault")  # what the copy was filled from is gone as well
    closed = f"http://127.0.0.1:{free_port()}"
    with (
        receiving_mail() as mail,
        serving(
            tmp_path,
            vault=f"s3://gone/vault?endpoint={closed}&region=us-east-1&allow_http=1",
            upstreams={"og": ("opsgenie", closed)},
            settings=f'public_url = "{PUBLIC_URL}"\n[paging]\ndefault_policy = "web_escalation"\n',
            paging=f"email mailto://127.0.0.1:{mail.port}/?from=outlast@example.org&to={{address}}&mode=insecure\n",
        ) as one,
    ):
        one.user("rob", "responder")
        key = one.integration("monitoring", "opsgenie", "--upstream", "og")
        one.start()
        with one.browser("rob") as browser:
            assert re.search(r"(Ann|Bob) Example", browser.get("/oncall").text)
            assert "<li>Promote</li>" in browser.get("/documents/main/confluence.pages/77").text
            sent = time.monotonic()
            with one.opsgenie(key) as client:
                answer = client.post("/v2/alerts", json={"message": "disk full", "alias": "disk"})
            assert answer.status_code == 202, answer.text
            until(lambda: bool(mail.letters), "the page by mail")
            assert time.monotonic() - sent < PAGED_WITHIN_S
            address, letter = mail.letters[0]
            assert address in ("ann@example.org", "bob@example.org")
            body = letter.get_body(("plain",))
            assert body is not None
            link = re.search(rf"{PUBLIC_URL}(/a/[A-Za-z0-9_-]+)", body.get_content())
            assert link, body.get_content()
            where = f"/alerts/{answer.json()['data']['alertId']}"
            assert "nobody has it" in browser.get(where).text
            assert httpx.post(one.url + link[1], timeout=TIMEOUT_S).status_code == 200
            assert "nobody has it" not in browser.get(where).text
