"""From a rehearsal to a guarded run and back: `rehearse`, `approve`, `run`, `undo`, as they are installed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outlast.vault.signature import Signer
from tests.commands import TIMEOUT_S, Outlast

SCHEMA = """
CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL, deleted_at timestamptz);
CREATE TABLE installs (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, app text NOT NULL,
                       deleted_at timestamptz);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, body text);
CREATE TABLE plans (id int PRIMARY KEY, name text);
ALTER TABLE sites ADD plan_id int REFERENCES plans;
INSERT INTO plans VALUES (1, 'free');
INSERT INTO sites SELECT n, 'site-' || n, NULL, 1 FROM generate_series(1, 12) n;
INSERT INTO installs SELECT 1000 + s * 10 + n, s, CASE n WHEN 1 THEN 'legacy' ELSE 'other' END
  FROM generate_series(1, 12) s, generate_series(1, 3) n;
INSERT INTO pages SELECT s * 10 + n, s, 'page' FROM generate_series(1, 12) s, generate_series(1, 4) n;
"""
TABLES = ("sites", "installs", "pages", "plans")

# What 2022's script was: told what to delete and how, by arguments.
SCRIPT = """\
-- outlast: why close the legacy application for the sites that asked for it
-- outlast: tenants site-1, site-2, site-3, site-4, site-5
-- outlast: effect public.installs soft-delete rows=5
UPDATE installs SET deleted_at = now() WHERE :'mode' = 'soft' AND id = ANY (:'ids'::int[]);
DELETE FROM installs WHERE :'mode' = 'hard' AND id = ANY (:'ids'::int[]);
DELETE FROM sites WHERE :'mode' = 'hard' AND id = ANY (:'ids'::int[]);
"""


def rows(connection: psycopg.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {table: connection.execute(f"SELECT * FROM {table} ORDER BY id".encode()).fetchall() for table in TABLES}


@pytest.fixture
def kept(database: str, outlast: Outlast) -> Iterator[psycopg.Connection]:
    """A database with a backup, and the script beside it."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        outlast.done("init", database, "--tenant-table", "sites", "--tenant-label", "name")
        outlast.done("backup")
        (outlast.folder / "close.sql").write_text(SCRIPT)
        yield connection


def test_the_2022_script(kept: psycopg.Connection, outlast: Outlast) -> None:
    """Handed site ids and run in delete mode it is blocked; with the right ids and mode it runs, and undoes."""
    before = rows(kept)
    with (outlast.folder / "outlast.toml").open("a") as file:
        file.write("[incident]\n")
    incident = outlast.done("--json", "incident", "open", "Sites are slow").json["incident"]
    wrong = outlast("--json", "rehearse", "close.sql", "--set", "ids={1,2,3,4,5}", "--set", "mode=hard")
    assert wrong.exit_code == 3, str(wrong)
    assert wrong.json["verdict"] == "BLOCKED"
    assert wrong.json["gives_away"] == "public.sites"
    assert wrong.json["receipt"] is None
    assert rows(kept) == before
    right = outlast.done(
        "--json", "rehearse", "close.sql", "--set", "ids={1011,1021,1031,1041,1051}", "--set", "mode=soft"
    ).json
    assert right["verdict"] == "WITHIN INTENT"
    assert rows(kept) == before
    shown = outlast.done("run", "close.sql", "--receipt", right["receipt"])
    assert "Production is as rehearsed, and untouched" in shown.stdout
    assert rows(kept) == before
    ran = outlast.done("--json", "run", "close.sql", "--receipt", right["receipt"], "--execute").json
    assert ran["executed"] is True
    assert ran["effect"] == {"public.installs": {"soft-delete": 5}}
    closed = [row[0] for row in rows(kept)["installs"] if row[3] is not None]
    assert closed == [1011, 1021, 1031, 1041, 1051]
    again = outlast("run", "close.sql", "--receipt", right["receipt"], "--execute")
    assert again.exit_code == 3
    assert "works once" in again.stderr
    kept.execute("INSERT INTO pages VALUES (9999, 1, 'later')")  # later commits are left alone
    outlast.done("undo", ran["run"], "--execute")
    before["pages"].append((9999, 1, "later"))
    assert rows(kept) == before
    outlast.done("verify")
    timeline = outlast.done("incident", "show", incident).stdout
    assert "rehearsal of close.sql by" in timeline
    assert "was blocked: public.sites: 5 rows of 5 tenants deleted for good, and none declared" in timeline
    assert "5 rows of 5 tenants" in timeline


def test_drift_stops_it(kept: psycopg.Connection, outlast: Outlast, tmp_path: Path) -> None:
    """A rehearsed row that changed meanwhile: nothing is run, and the row is named."""
    given = ("--set", "ids={1011,1021,1031,1041,1051}", "--set", "mode=soft")
    receipt = outlast.done("--json", "rehearse", "close.sql", *given).json["receipt"]
    kept.execute("UPDATE installs SET app = 'renamed' WHERE id = 1031")
    before = rows(kept)
    ran = outlast("--json", "run", "close.sql", "--receipt", receipt, "--execute")
    assert ran.exit_code == 3
    assert ran.json["differences"] == [
        {
            "table": "public.installs",
            "message": "1 row of public.installs changed since (key 1031)",
            "rows": 1,
            "mend": None,
        }
    ]
    assert "\nProduction is untouched.\n" in outlast("run", "close.sql", "--receipt", receipt).stdout
    assert rows(kept) == before


LONGER = """\
-- outlast: tenants site-1
-- outlast: effect public.pages update(body) rows=4
UPDATE pages SET body = body || '+' WHERE site_id = 1;
"""


def test_two_runs_at_once_are_one(kept: psycopg.Connection, outlast: Outlast) -> None:
    """A receipt works once, also where two people use it in the same second; and not again after an undo."""
    (outlast.folder / "longer.sql").write_text(LONGER)
    receipt = outlast.done("--json", "rehearse", "longer.sql").json["receipt"]
    given = ("--json", "run", "longer.sql", "--receipt", receipt, "--execute")
    running = [outlast.start(*given) for _ in range(2)]
    told = [process.communicate(timeout=TIMEOUT_S)[0] for process in running]
    assert sorted(process.returncode for process in running) == [0, 3], told
    bodies = [body for _, site, body in rows(kept)["pages"] if site == 1]
    assert bodies == ["page+"] * 4
    run = next(json.loads(one)["run"] for one, process in zip(told, running, strict=True) if process.returncode == 0)
    outlast.done("undo", run, "--execute")
    assert outlast(*given).json["error"]["code"] == "receipt-used"
    assert [body for _, site, body in rows(kept)["pages"] if site == 1] == ["page"] * 4


def test_a_run_that_is_killed_has_done_nothing(kept: psycopg.Connection, outlast: Outlast, database: str) -> None:
    """kill -9 while its script waits: the server rolls back, and the receipt is good for another run."""
    (outlast.folder / "longer.sql").write_text(
        "-- outlast: tenants site-1\n-- outlast: effect public.pages update(body) rows=4\n"
        "UPDATE pages SET body = body || plans.name FROM plans WHERE site_id = 1;\n"
    )
    before = rows(kept)
    receipt = outlast.done("--json", "rehearse", "longer.sql").json["receipt"]
    given = ("--json", "run", "longer.sql", "--receipt", receipt, "--execute")
    with psycopg.connect(database) as holder:
        holder.execute("LOCK plans IN ACCESS EXCLUSIVE MODE")
        process = outlast.start(*given)
        deadline = time.monotonic() + TIMEOUT_S
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'plans'::regclass"
        while kept.execute(waiting).fetchone() == (0,):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert rows(kept) == before
    assert outlast.done(*given).json["executed"] is True
    assert [body for _, site, body in rows(kept)["pages"] if site == 1] == ["pagefree"] * 4


def test_undo_of_a_run_shows_what_changed_since(kept: psycopg.Connection, outlast: Outlast) -> None:
    """A row that somebody wrote after the run is a conflict, and nothing is undone until it is settled."""
    (outlast.folder / "longer.sql").write_text(LONGER)
    before = rows(kept)
    receipt = outlast.done("--json", "rehearse", "longer.sql").json["receipt"]
    run = outlast.done("--json", "run", "longer.sql", "--receipt", receipt, "--execute").json["run"]
    kept.execute("UPDATE pages SET body = 'mine' WHERE id = 12")
    after = rows(kept)
    refused = outlast("undo", run, "--execute")
    assert refused.exit_code == 3
    assert f"1 row of public.pages that plan {run} changed were changed again since (keys 12)" in refused.stdout
    assert rows(kept) == after
    outlast.done("undo", run, "--prefer", "live", "--execute")
    before["pages"] = [(number, site, "mine" if number == 12 else body) for number, site, body in before["pages"]]
    assert rows(kept) == before


def test_a_receipt_expires(kept: psycopg.Connection, outlast: Outlast) -> None:
    """After `receipt_max_age` nothing is run by it."""
    with (outlast.folder / "outlast.toml").open("a") as file:
        file.write('[rehearsal]\nreceipt_max_age = "1s"\n')
    (outlast.folder / "longer.sql").write_text(LONGER)
    before = rows(kept)
    receipt = outlast.done("--json", "rehearse", "longer.sql").json["receipt"]
    deadline = time.monotonic() + TIMEOUT_S
    while outlast("--json", "run", "longer.sql", "--receipt", receipt).exit_code == 0:
        assert time.monotonic() < deadline
    ran = outlast("--json", "run", "longer.sql", "--receipt", receipt, "--execute")
    assert (ran.exit_code, ran.json["error"]["code"]) == (3, "expired")
    assert rows(kept) == before


def test_what_rollback_leaves_is_told(kept: psycopg.Connection, outlast: Outlast) -> None:
    """A sequence that goes back stays there when the run is rolled back: the statement that mends it is shown."""
    kept.execute('CREATE SEQUENCE "Tickets"')
    outlast.done("backup")
    (outlast.folder / "count.sql").write_text(
        "-- outlast: tenants site-1\n-- outlast: effect public.pages update(body) rows=4\n"
        "UPDATE pages SET body = 'one' WHERE site_id = 1;\nSELECT setval('\"Tickets\"', 300);\n"
    )
    receipt = outlast.done("--json", "rehearse", "count.sql").json["receipt"]
    kept.execute("SELECT setval('\"Tickets\"', 500)")
    before = rows(kept)
    ran = outlast("run", "count.sql", "--receipt", receipt, "--execute")
    assert ran.exit_code == 3
    assert "Production is untouched" not in ran.stdout
    assert rows(kept) == before
    mend = 'SELECT setval(\'"public"."Tickets"\', 500);'
    assert f"\n{mend}\n" in ran.stdout
    kept.execute(mend.encode())
    outlast.done("run", "count.sql", "--receipt", receipt)


def test_a_role_that_owns_nothing(kept: psycopg.Connection, outlast: Outlast, database: str) -> None:
    """Scripts run as a role under row-level security that may write rows and no more, on the copy and in production."""
    role = "deploys_only"
    kept.execute(f"CREATE ROLE {role} LOGIN".encode())
    try:
        kept.execute(f"GRANT SELECT, UPDATE ON sites, installs, pages TO {role}".encode())
        kept.execute(b"ALTER TABLE pages ENABLE ROW LEVEL SECURITY")
        kept.execute(f"CREATE POLICY small ON pages TO {role} USING (site_id <= 3)".encode())
        outlast.done("backup")
        url = make_conninfo(database, user=role)
        config = outlast.folder / "outlast.toml"
        config.write_text(config.read_text().replace("\ntenant_table", f'\nscript_url = "{url}"\ntenant_table', 1))
        (outlast.folder / "jobs").mkdir()
        script = "jobs/new text.sql"
        (outlast.folder / script).write_text(
            "-- outlast: tenants site-1, site-2, site-3\n-- outlast: effect public.pages update(body) rows=12\n"
            "UPDATE pages SET body = 'new';\n"
        )
        rehearsed = outlast.done("rehearse", script).stdout
        (following,) = [line for line in rehearsed.splitlines() if line.startswith("Next: outlast ")]
        words = shlex.split(following)[2:]  # as it stands there it can be pasted
        assert words[:2] == ["run", script]
        ran = outlast.done("--json", *words, "--execute").json
        assert ran["effect"] == {"public.pages": {"update": 12}}
        assert {row[1] for row in rows(kept)["pages"] if row[2] == "new"} == {1, 2, 3}
    finally:
        kept.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


BY_TENANT = """\
-- outlast: why hide the legacy application
-- outlast: tenants site-1, site-2, site-3, site-4, site-5 canary=site-2
-- outlast: effect public.installs soft-delete rows=5
UPDATE installs SET deleted_at = now() WHERE app = 'legacy' AND site_id = ANY (:'tenants'::int[]);
"""


def hidden(connection: psycopg.Connection) -> list[int]:
    found = connection.execute("SELECT site_id FROM installs WHERE deleted_at IS NOT NULL ORDER BY 1").fetchall()
    return [row[0] for row in found]


def test_two_people_canaries_and_batches(kept: psycopg.Connection, outlast: Outlast) -> None:
    """Somebody else approves by a signed key; the canary goes first and alone, then the rest in batches; all undone."""
    before = rows(kept)
    ann, bob = Signer.generate(), Signer.generate()
    (outlast.folder / "bob.key").write_text(bob.private)
    (outlast.folder / "ann.key").write_text(ann.private)
    with (outlast.folder / "outlast.toml").open("a") as file:
        file.write(f'\n[rehearsal]\napprovals = 1\napprovers = {{ ann = "{ann.public}", bob = "{bob.public}" }}\n')
    (outlast.folder / "hide.sql").write_text(BY_TENANT)
    receipt = outlast.done("--json", "rehearse", "hide.sql", "--by", "ann").json["receipt"]
    alone = outlast("run", "hide.sql", "--receipt", receipt, "--execute")
    assert alone.exit_code == 3
    assert "no approval by somebody other than ann" in alone.stderr
    assert outlast("approve", receipt, "--as", "ann", "--key", "ann.key").exit_code == 3
    assert outlast("approve", receipt, "--as", "bob", "--key", "ann.key").exit_code == 3
    assert outlast("approve", receipt, "--as", "eve", "--key", "bob.key").exit_code == 2
    assert outlast.done("--json", "approve", receipt, "--as", "bob", "--key", "bob.key").json["enough"] is True
    first = outlast.done("--json", "run", "hide.sql", "--receipt", receipt, "--execute").json
    assert (first["tenants"], first["left"], first["approved_by"]) == (1, 4, ["bob"])
    assert hidden(kept) == [2]
    rest = outlast.done(
        "--json", "run", "hide.sql", "--receipt", receipt, "--execute", "--batch", "3", "--pause", "0"
    ).json
    assert (rest["tenants"], rest["left"]) == (4, 0)
    assert hidden(kept) == [1, 2, 3, 4, 5]
    assert outlast("run", "hide.sql", "--receipt", receipt, "--execute").exit_code == 3
    kept.execute("UPDATE installs SET app = 'renamed' WHERE id = 1041")
    conflict = outlast("--json", "undo", rest["run"])
    assert conflict.exit_code == 3
    assert "changed again since" in conflict.json["conflicts"][0]["message"]
    outlast.done("undo", rest["run"], "--prefer", "vault", "--execute")
    outlast.done("undo", first["run"], "--execute")
    assert rows(kept) == before


def test_shared_rows_and_what_cannot_be_guarded(kept: psycopg.Connection, outlast: Outlast) -> None:
    """Shared rows are put back as customers' are. An index that is built concurrently is run by somebody's name."""
    before = rows(kept)
    (outlast.folder / "plan.sql").write_text(
        "-- outlast: effect public.plans update(name) rows=1\n"
        "-- outlast: effect public.plans insert rows=1\n"
        "UPDATE plans SET name = 'gratis';\nINSERT INTO plans VALUES (2, 'pro');\n"
    )
    receipt = outlast.done("--json", "rehearse", "plan.sql").json["receipt"]
    ran = outlast.done("--json", "run", "plan.sql", "--receipt", receipt, "--execute").json
    assert rows(kept)["plans"] == [(1, "gratis"), (2, "pro")]
    outlast.done("undo", ran["run"], "--execute")
    assert rows(kept) == before
    (outlast.folder / "index.sql").write_text(
        "-- outlast: schema added index public.pages_body\n"
        "-- outlast: undo waived by=ann reason=an index can be dropped\n"
        "CREATE INDEX CONCURRENTLY pages_body ON pages (body);\n"
    )
    receipt = outlast.done("--json", "rehearse", "index.sql").json["receipt"]
    alone = outlast("run", "index.sql", "--receipt", receipt, "--execute")
    assert alone.exit_code == 3
    assert "class unguarded" in alone.stderr
    outlast.done("run", "index.sql", "--receipt", receipt, "--execute", "--accept-unguarded", "ann")
    assert kept.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'pages_body'").fetchone() == (1,)
    again = outlast("run", "index.sql", "--receipt", receipt, "--execute", "--accept-unguarded", "ann")
    assert again.exit_code == 3
