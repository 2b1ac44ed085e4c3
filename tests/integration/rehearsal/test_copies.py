"""Copies: kept sealed, brought forward, and gone whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.integration.rehearsal.conftest import Shop
from tests.servers import DEBIAN_BINARIES, Server

UPDATE = "UPDATE pages SET title = 'x' WHERE site_id = 3;\n"


def processes_in(folder: Path) -> list[str]:
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if str(folder) in line and "ps -eo" not in line]


def wait_for(folder: Path, name: str, process: subprocess.Popen[str]) -> Path:
    deadline = time.monotonic() + 60
    while True:
        found = list(folder.glob(f"outlast-copy-*/{name}"))
        if found:
            return found[0]
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_second_rehearsal_takes_the_copy_that_was_kept(shop: Shop) -> None:
    """Nothing in the clear is left between the two, and what the first script did is not in the second's copy."""
    script = shop.script(UPDATE)
    shop.rehearse(script, exit_code=3)
    assert not list(shop.temporary.iterdir())
    kept = list(shop.copies.glob("*.copy"))
    assert kept
    assert all(b"page 10" not in path.read_bytes() and b"site-10" not in path.read_bytes() for path in kept)
    again = shop.rehearse(script, exit_code=3)
    assert again["copy"]["kept"]
    assert again["effect"] == {"public.pages": {"update": 4}}


def test_a_kept_copy_is_brought_to_the_newest_moment(shop: Shop) -> None:
    """What changed since is written into it, and the script sees it."""
    shop.rehearse(shop.script(UPDATE), exit_code=3)
    shop.query("UPDATE pages SET title = 'y', site_id = 4 WHERE id = 2")  # it was site 3's
    shop.query("DELETE FROM pages WHERE id = 902")  # one of site 3's, with its note
    shop.query("INSERT INTO pages (site_id, title) VALUES (3, 'new'), (3, 'newer'), (3, 'newest')")
    shop.outlast.done("backup")
    found = shop.rehearse(shop.script(UPDATE), exit_code=3)
    assert found["copy"]["kept"]
    assert found["effect"] == {"public.pages": {"update": 5}}
    assert "refresh" in found["seconds"]


def test_a_changed_schema_makes_a_new_copy(shop: Shop) -> None:
    """What was kept is of no use then."""
    shop.query("ALTER TABLE plans ADD COLUMN IF NOT EXISTS price int")
    shop.outlast.done("backup")
    found = shop.rehearse(shop.script("UPDATE plans SET price = 1;"), exit_code=3)
    assert not found["copy"]["kept"]
    assert found["effect"] == {"public.plans": {"update": 2}}


def test_bytes_that_were_changed_are_not_used(shop: Shop) -> None:
    """A kept copy that is not what was sealed is built anew."""
    script = shop.script(UPDATE)
    shop.rehearse(script, exit_code=3)
    for path in shop.copies.glob("*.copy"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert not shop.rehearse(script, exit_code=3)["copy"]["kept"]


@pytest.mark.parametrize("guard", [False, True])
def test_kill_9_leaves_nothing(shop: Shop, guard: bool) -> None:
    """The server's guard removes the copy with its owner; where the guard is killed as well, the next start does."""
    script = shop.script("SELECT pg_sleep(60);\n", "sleep.sql")
    process = shop.outlast.start("rehearse", "--role", "app", script)
    folder = wait_for(shop.temporary, "routes.sqlite", process).parent
    guards = [int(line.split()[0]) for line in _guards(folder)]
    if guard:
        for pid in guards:
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    if not guard:
        _until(lambda: not processes_in(folder) and not (folder / "data").exists())
    assert list(shop.copies.glob("*.lock"))
    shop.rehearse(shop.script(UPDATE), exit_code=3)
    assert not processes_in(folder)
    assert not list(shop.temporary.iterdir())
    assert not list(shop.copies.glob("*.lock"))


def _guards(folder: Path) -> list[str]:
    done = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines() if f"guard {folder}" in line]


def _until(condition: object) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_clone_of_others_is_inconclusive_unless_accepted(shop: Shop, server: Server) -> None:
    """What is in it only its maker knows; production itself is refused."""
    intent = "-- outlast: tenants site-3\n-- outlast: effect public.pages update(title) rows=0..9\n"
    script = shop.script(intent + UPDATE)
    refused = shop.run("rehearse", "--role", "app", "--clone-url", shop.url, script)
    assert refused.exit_code == 3
    assert "that of the source itself" in refused.stderr
    before = shop.state
    elsewhere = server.tcp_url(str(conninfo_to_dict(shop.url)["dbname"]))  # the same by another way
    refused = shop.run("rehearse", "--role", "app", "--clone-url", elsewhere, script)
    assert refused.exit_code == 3, str(refused)
    assert "that of the source itself" in refused.stderr
    assert shop.state == before
    assert shop.query("SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'outlast%'") == [(0,)]
    with server.copies() as copy:
        clone = copy(shop.url)
        found = shop.rehearse("--clone-url", clone, script, exit_code=1)
        assert found["copy"]["from"] == "clone-url"
        assert found["role"] == "app"
        assert found["effect"]["public.pages"]["update"] >= 4
        assert [one.partition(":")[0] for one in found["inconclusive"]] == ["foreign-clone"]
        refused = shop.run("rehearse", "--clone-url", clone, script)
        assert refused.exit_code == 3, str(refused)
        assert "used this clone up" in refused.stderr
    with server.copies() as copy:
        accepted = shop.script("-- outlast: accept foreign-clone\n" + intent + UPDATE)
        found = shop.rehearse("--clone-command", f"echo {copy(shop.url)}", accepted, exit_code=0)
        assert found["copy"]["from"] == "clone-command"


@pytest.mark.system
def test_another_version_than_the_source_is_inconclusive(shop: Shop) -> None:
    """The copy's programs can be chosen."""
    script = shop.script(
        "-- outlast: tenants all\n-- outlast: effect public.plans update(name) rows=2\nUPDATE plans SET name = 'x';\n"
    )
    found = shop.rehearse("--server-bin", str(DEBIAN_BINARIES), script, exit_code=1)
    assert found["copy"]["server"].startswith("PostgreSQL 15")
    assert found["inconclusive"][0] == "other-version: the source is PostgreSQL 18, the copy 15"


@pytest.mark.system
def test_postgresql_15(debian_shop: Shop) -> None:
    """The same on a source of PostgreSQL 15, whose copy is one too, where its collation can be had."""
    script = debian_shop.script(
        "DELETE FROM sites WHERE id = 5;\nUPDATE settings SET name = 'style' WHERE site_id = 4;\nTRUNCATE notes;\n"
        "SELECT pg_notify('news', 'x');\nNOTIFY more;\n"
    )
    found = debian_shop.rehearse(script, role="postgres", exit_code=3)
    assert found["copy"]["server"].startswith("PostgreSQL 15")
    assert found["failed"] is None
    assert found["effect"]["public.sites"] == {"hard-delete": 1}
    assert found["effect"]["public.settings"] == {"hard-delete": 1, "update": 1}
    assert found["effect"]["public.notes"]["truncate"] == 3596
    assert found["notified"] == ["news", "more"]
    assert not found["inconclusive"]
