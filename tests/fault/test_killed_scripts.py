"""`kill -9` of `run` and `rehearse`, whatever they do: a script runs once and whole, and nothing stays behind."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.buckets import Bucket
from tests.commands import Outlast
from tests.fault.faults import DatabaseProxy, Fault, StoreProxy, ended, kill
from tests.fault.test_whole_commands import spread
from tests.integration.rehearsal.conftest import temporary_folder
from tests.projects import Project
from tests.servers import PASSWORD, Server

SCHEMA = """
CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, body text);
INSERT INTO sites SELECT n, 'site-' || n FROM generate_series(1, 6) n;
INSERT INTO pages SELECT s * 10 + n, s, 'page' FROM generate_series(1, 6) s, generate_series(1, 4) n;
"""
SCRIPT = """\
-- outlast: why a longer body, and no page 14, and one page more
-- outlast: tenants site-1, site-2
-- outlast: effect public.pages update(body) rows=7
-- outlast: effect public.pages hard-delete rows=1
-- outlast: effect public.pages insert rows=1
UPDATE pages SET body = body || '+' WHERE site_id IN (1, 2);
DELETE FROM pages WHERE id = 14;
INSERT INTO pages VALUES (99, 2, 'new');
"""


@dataclass
class Scene:
    """A project whose script was never run, and a way to the database and the vault on which faults can lie."""

    project: Project
    url: str
    proxied: str
    database: DatabaseProxy
    store: StoreProxy
    temporary: Path

    @property
    def outlast(self) -> Outlast:
        return self.project.outlast

    def rows(self) -> list[tuple[Any, ...]]:
        """Once no command's session is left: one that was cut off ends a moment later."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            while connection.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^outlast'"
            ).fetchone():
                pass
            return connection.execute("SELECT * FROM pages ORDER BY id").fetchall()

    def rehearsed(self) -> str:
        receipt: str = self.outlast.done("--json", "rehearse", "script.sql").json["receipt"]
        return receipt

    def left(self) -> list[str]:
        """What of copies is left: files, and processes that work in them."""
        done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
        found = [line for line in done.stdout.splitlines() if str(self.temporary) in line]
        return [*found, *(path.name for path in self.temporary.iterdir())]


@pytest.fixture
def scene(server: Server, database: str, outlast: Outlast, moto_s3: Bucket) -> Iterator[Scene]:
    with psycopg.connect(database) as connection:
        connection.execute(SCHEMA.encode())
    outlast.environment |= {**moto_s3.environment, "PGPASSWORD": PASSWORD}
    with (
        temporary_folder() as temporary,
        DatabaseProxy(server.port) as through,
        StoreProxy(moto_s3.endpoint) as store,
    ):
        outlast.environment["TMPDIR"] = str(temporary)
        url = through.url_of(server.tcp_url(str(conninfo_to_dict(database)["dbname"]), password=None))
        vault = f"s3://{moto_s3.name}/vault?endpoint={store.endpoint}&region=us-east-1&allow_http=1"
        project = Project(outlast, url, vault)
        project.init("public.sites", "name")
        project.backup()
        (outlast.folder / "script.sql").write_text(SCRIPT)
        yield Scene(project, database, url, through, store, temporary)


@pytest.mark.parametrize(
    ("where", "points"),
    [
        ("database", 3),
        pytest.param("database", 0, marks=pytest.mark.slow, id="database-every"),
        pytest.param("store", 0, marks=pytest.mark.slow, id="store-every"),
    ],
)
def test_a_killed_run_is_run_once_and_whole(scene: Scene, where: str, points: int) -> None:
    """At any statement and any request: production is as before or as rehearsed. The same command then does what was
    not done, and nothing twice; and what was done can be undone, whoever was told its name."""
    proxy: DatabaseProxy | StoreProxy = scene.database if where == "database" else scene.store
    before = scene.rows()
    given = ("--json", "run", "script.sql", "--receipt", scene.rehearsed(), "--execute")
    proxy.fault = Fault()
    run = scene.outlast.done(*given).json["run"]
    total = proxy.fault.seen
    after = scene.rows()
    assert after != before
    scene.outlast.done("undo", run, "--execute")
    seen = set()
    for fault in spread(total, points):
        given = ("--json", "run", "script.sql", "--receipt", scene.rehearsed(), "--execute")
        process = scene.outlast.start(*given)
        fault.strike = lambda process=process: kill(process)
        proxy.fault = fault
        code, _, stderr = ended(process)
        assert code in (-9, 0), stderr
        proxy.fault = Fault()
        found = scene.rows()
        assert found in (before, after), fault.at
        seen.add((code, found == after))
        again = scene.outlast(*given)
        assert scene.rows() == after, fault.at
        if found == before:
            assert again.exit_code == 0, str(again)
            run = again.json["run"]
        else:
            assert again.json["error"]["code"] == "receipt-used", str(again)
            run = again.json["error"]["hint"].partition("outlast undo ")[2].partition(".")[0]
        scene.outlast.done("undo", run, "--execute")
        assert scene.rows() == before, fault.at
    assert (-9, False) in seen
    if where == "database" and not points:
        assert (-9, True) in seen, "no kill came between COMMIT and its answer"
    scene.outlast.done("verify")


@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_a_killed_rehearsal_leaves_nothing(scene: Scene, times: int) -> None:
    """Some time after its start, whatever it is doing then, with or without all that it started: the next one removes
    what is left of it, and sees what any other would."""
    chance = random.Random(times)
    first = scene.outlast.done("--json", "rehearse", "script.sql").json
    takes_s = _timed(lambda: scene.outlast.start("--json", "rehearse", "script.sql"))
    before = scene.rows()
    for number in range(times):
        for kept in (scene.outlast.folder / ".outlast" / "copies").glob("*.copy"):
            if number % 2:
                kept.unlink()  # so that it is built anew
        process = scene.outlast.start("--json", "rehearse", "script.sql")
        time.sleep(chance.uniform(0.2, 1) * takes_s)  # the moment is what is tried
        if number % 3:
            kill(process)
        else:
            process.kill()
        code, _, stderr = ended(process)
        assert code in (-9, 0), stderr
        again = scene.outlast.done("--json", "rehearse", "script.sql").json
        assert again["effect"] == first["effect"]
        assert scene.left() == []
        assert scene.rows() == before
    scene.outlast.done("verify")


def _timed(start: Callable[[], subprocess.Popen[str]]) -> float:
    started = time.monotonic()
    code, stdout, stderr = ended(start())
    assert code == 0, stderr
    assert json.loads(stdout)["receipt"]
    return time.monotonic() - started
