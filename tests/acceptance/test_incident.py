"""An incident from the alarm to the review with no step typed by hand, by the installed commands."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.commands import Outlast
from tests.letterbox import Letterbox, receiving_mail
from tests.servers import free_port

SCHEMA = """
CREATE TABLE accounts (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE users (
  id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts ON DELETE CASCADE, email text NOT NULL
);
INSERT INTO accounts SELECT n, 'tenant-' || n FROM generate_series(1, 12) n;
INSERT INTO users SELECT a * 100 + n, a, 'u' || n || '@t' || a || '.example'
FROM generate_series(1, 12) a, generate_series(1, 2) n;
"""

SETTINGS = """
[follow]
accept_unbounded_wal = true
flush_interval = "1s"

[incident]
automatic = true
contacts = "public.users.email"
commander = "ada"
communications = "bob"
components = {{ "Sites" = "major_outage" }}

[page]
name = "Acme"
to = "published"
components = [{{ name = "Sites" }}, {{ name = "API" }}]
languages = ["en", "de"]

[mail]
url = "{mail}"
sender = "Acme Status <status@acme.example>"

[serve]
bind = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
"""


@pytest.fixture
def letterbox() -> Iterator[Letterbox]:
    with receiving_mail() as letterbox:
        yield letterbox


@contextmanager
def running(outlast: Outlast, *command: str) -> Iterator[subprocess.Popen[str]]:
    process = outlast.start(*command)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_from_the_alarm_to_the_review_without_a_hand(outlast: Outlast, database: str, letterbox: Letterbox) -> None:
    """The tripwire opens it, in public; the restore updates it; the last proof resolves it; each customer is written
    to twice, with a page of its own; the status page and the review say how it was."""
    port = free_port()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "name")
        with (outlast.folder / "outlast.toml").open("a") as file:
            file.write(SETTINGS.format(mail=letterbox.url, port=port))
        outlast.done("follow", "--setup", "--execute")
        with running(outlast, "serve") as serving, running(outlast, "follow") as following:
            until(lambda: following.poll() is None and is_followed(connection))
            until(lambda: serving.poll() is None and is_served(port))
            for number in (3, 5, 7):
                connection.execute("DELETE FROM accounts WHERE id = %s", [number])
            until(lambda: len(tenants(outlast)) == 3)
            (incident,) = outlast("--json", "incident", "list").json["incidents"]
            assert (incident["public"], incident["status"]) == (True, "investigating")
            assert incident["roles"] == {"commander": "ada", "communications": "bob"}
            letterbox.wait_for(6)
            until(lambda: summary(port)["status"]["indicator"] == "critical")  # a page is kept for two seconds
            assert [one["status"] for one in summary(port)["components"]] == ["major_outage", "operational"]
            since = incident["opened_at"]
            restored = outlast("--json", "restore", "--damage-since", before(outlast), "--execute")
            assert restored.exit_code == 0, str(restored)
            until(lambda: not outlast("--json", "incident", "list").json["incidents"])
            letterbox.wait_for(12)
            (letter,) = [one for one in letterbox.to("u1@t5.example") if "restored" in str(one["Subject"])]
            text = letter.get_content()
            assert "tenant-5" in text
            assert "tenant-3" not in text
            assert "Nothing is missing." in text
            own = re.search(r"http://\S+/notice/\S+", text)
            assert own is not None
            seen = httpx.get(own[0])
            assert "tenant-5" in seen.text
            assert "tenant-3" not in seen.text
            assert httpx.get(own[0][:-3] + "abc").status_code == 409
    (over,) = outlast.done("--json", "incident", "list", "--all").json["incidents"]
    assert over["status"] == "resolved"
    assert {one["state"] for one in over["tenants"]} == {"restored"}
    page = (outlast.folder / "published" / "index.html").read_text()
    assert "All systems operational" in page
    assert "All 3 affected customers are restored" in page
    assert "Alle 3 betroffenen Kunden" in (outlast.folder / "published" / "de" / "index.html").read_text()
    review = outlast.done("incident", "report", over["incident"]).stdout
    assert "3 of 3 tenants restored, each proven before commit" in review
    assert "nothing was lost" in review
    assert since
    everything_down(outlast)


def test_a_tenant_is_written_to_at_the_address_that_it_had_last(
    outlast: Outlast, database: str, letterbox: Letterbox
) -> None:
    """Gone from the database and from the newest run, before the moment that the incident is said to have begun: the
    newest run that has one counts. While the vault is away nobody is passed over; who has no address is named."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        connection.execute("DELETE FROM users WHERE account_id = 9")
        outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "name")
        with (outlast.folder / "outlast.toml").open("a") as file:
            file.write(SETTINGS.format(mail=letterbox.url, port=free_port()))
        outlast.done("backup")
        connection.execute("DELETE FROM accounts WHERE id IN (3, 9)")
        outlast.done("backup")
    outlast.done(
        "incident", "open", "Gone", "--publish", "--tenant", "3", "--tenant", "9", "--began", "2020-01-01T00:00"
    )
    (outlast.folder / "vault").rename(outlast.folder / "away")
    away = outlast("incident", "watch", "--once")
    assert (away.exit_code, "could not look after" in away.stderr) == (1, True), str(away)
    assert letterbox.letters == []
    (outlast.folder / "away").rename(outlast.folder / "vault")
    told = outlast.done("incident", "watch", "--once").stderr
    assert "tenant-9 (9) is NOT written to: no address is found" in told
    assert sorted(address for address, _ in letterbox.letters) == ["u1@t3.example", "u2@t3.example"]


def summary(port: int) -> Any:
    return httpx.get(f"http://127.0.0.1:{port}/status/api/v2/summary.json").json()


def everything_down(outlast: Outlast) -> None:
    """The database of incidents and the vault are gone: what was written last is published again, and says its age."""
    (outlast.folder / ".outlast" / "serve.sqlite").write_bytes(b"not a database")
    for name in ("serve.sqlite-wal", "serve.sqlite-shm"):
        (outlast.folder / ".outlast" / name).unlink(missing_ok=True)
    (outlast.folder / "vault").rename(outlast.folder / "elsewhere")
    place = outlast.folder / "again"
    published = outlast("--json", "publish", "--to", str(place))
    assert published.exit_code == 4, str(published)
    assert published.json["age_seconds"] >= 0
    assert (place / "index.html").read_bytes() == (outlast.folder / "published" / "index.html").read_bytes()
    assert 'data-age="' in (place / "index.html").read_text()
    assert total(place) < 100_000


def total(place: Path) -> int:
    """What a reader of the first page loads."""
    return sum((place / name).stat().st_size for name in ("index.html", "style.css", "age.js"))


def before(outlast: Outlast) -> str:
    incident = outlast.done("--json", "tripwire").json["incident"]
    return f"before:{min(one['xid'] for one in incident['transactions'])}"


def tenants(outlast: Outlast) -> list[Any]:
    found = outlast("--json", "incident", "list").json.get("incidents", [])
    return found[0]["tenants"] if found else []


def is_followed(connection: psycopg.Connection) -> bool:
    slots = "SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND active"
    return connection.execute(slots.encode()).fetchone() is not None


def is_served(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/status/").status_code == 200
    except httpx.TransportError:
        return False
