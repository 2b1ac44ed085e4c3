"""`follow --setup` and `--teardown` as a person runs them: shown, applied as shown, refused, given up, taken away."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
import pytest

from tests.commands import Outlast
from tests.integration.postgres.conftest import run
from tests.integration.postgres.followed import TABLES
from tests.projects import Project
from tests.servers import Server


@pytest.fixture
def project(outlast: Outlast, database: str) -> Project:
    run(database, *TABLES)
    found = Project(outlast, database)
    found.init("accounts", "name")
    return found


def publications(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {str(row[0]) for row in connection.execute("SELECT pubname FROM pg_publication")}


def test_a_plan_is_shown_and_then_applied_as_it_was_shown(project: Project) -> None:
    """Nothing is done by showing it; a plan that no longer holds is refused; afterwards nothing is missing."""
    text = project.outlast.done("follow", "--setup").stdout
    assert "ACCESS EXCLUSIVE" in text
    assert "public.keyless: updates and deletes, because" in text
    shown = project.json("follow", "--setup")
    assert (shown["executed"], publications(project.url)) == (False, set())
    assert {step["step"] for step in shown["steps"]} >= {"publication outlast_main", "schema events"}
    done = project.json("apply", shown["plan"])
    assert done["executed"]
    assert {result["state"] for result in done["results"]} == {"done"}
    assert publications(project.url) == {"outlast_main", "outlast_main_partial"}
    stale = project.outlast("--json", "apply", shown["plan"])
    assert (stale.exit_code, stale.json["error"]["code"]) == (3, "stale-plan")
    assert "Nothing is missing" in project.outlast.done("follow", "--setup", "--execute").stdout
    assert "not-set-up" not in {notice["code"] for notice in project.json("check")["notices"]}
    taken = project.json("follow", "--teardown", "--execute")
    assert taken["executed"]
    assert publications(project.url) == set()


def test_refusals_and_half_done_work_have_their_exit_codes(project: Project) -> None:
    """3 and nothing changed where it is refused, 1 where a lock was not to be had, 2 for options that do not fit."""
    project.config.write_text(project.config.read_text() + '\n[follow]\nidentities = { computed = "full" }\n')
    refused = project.outlast("--json", "follow", "--setup", "--execute")
    assert (refused.exit_code, refused.json["error"]["code"], refused.json["executed"]) == (3, "full-generated", False)
    assert publications(project.url) == set()
    project.config.write_text(project.config.read_text().replace('computed = "full"', 'keyless = "full"'))
    with psycopg.connect(project.url) as reader:
        reader.execute("SELECT * FROM keyless")
        busy = project.outlast("--json", "follow", "--setup", "--execute", "--lock-timeout", "0.1")
    assert (busy.exit_code, busy.json["error"]["code"]) == (1, "setup-busy")
    assert "public.keyless" in busy.json["error"]["message"]
    assert "--setup --execute" in busy.json["error"]["hint"]
    assert [step["step"] for step in project.json("follow", "--setup")["steps"]] == ["identity public.keyless"]
    assert project.outlast("follow", "--setup", "--teardown").exit_code == 2
    assert project.outlast("follow", "--execute").exit_code == 2


def test_setup_as_a_role_of_its_own(project: Project, server: Server) -> None:
    """setup_url names who owns the tables; the SQL for a superuser is printed, and is all that was missing."""
    name = urlsplit(project.url).path.removeprefix("/")
    run(project.url, "CREATE ROLE shop_owner LOGIN", f"GRANT CREATE ON DATABASE {name} TO shop_owner")
    try:
        with psycopg.connect(project.url, autocommit=True) as connection:
            for (table,) in connection.execute(
                "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
            ):
                connection.execute(f"ALTER TABLE {table} OWNER TO shop_owner".encode())
        setup_url = server.url(name, "shop_owner")
        project.config.write_text(
            project.config.read_text().replace("tenant_table =", f'setup_url = "{setup_url}"\ntenant_table =')
        )
        done = project.json("follow", "--setup", "--execute")
        states = {result["step"]: result["state"] for result in done["results"]}
        assert states.pop("schema events") == "lacking"
        assert set(states.values()) == {"done"}
        script = project.outlast.done("follow", "--setup", "--print-sql").stdout
        run(project.url, script)
        assert project.json("follow", "--setup")["steps"] == []
    finally:
        run(project.url, "DROP OWNED BY shop_owner CASCADE", "DROP ROLE shop_owner")
