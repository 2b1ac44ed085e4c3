"""The whole day with the installed command, as a person lives it: init, check, backup, destroy, restore, compare."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from outlast.replay import world
from outlast.replay.world import Mark
from tests.commands import Outlast

SEED = 7
TENANTS = 12

Marks = dict[tuple[str, str], Mark]


@pytest.fixture
def filled(database: str) -> str:
    """A shared database with a dozen tenants, as `outlast replay` makes it."""
    world.build(database, tenants=TENANTS, seed=SEED)
    return database


@pytest.fixture
def project(outlast: Outlast, filled: str) -> Outlast:
    """A project folder with one backup in it."""
    outlast.done("init", filled, "--tenant-table", "accounts", "--tenant-label", "slug")
    outlast.done("backup")
    return outlast


def test_from_init_to_restored(outlast: Outlast, filled: str) -> None:
    """init, check and backup succeed one after the other; destroyed tenants come back, and nobody else is touched."""
    before = world.fingerprint(filled)
    outlast.done("init", filled, "--tenant-table", "accounts", "--tenant-label", "slug")
    assert "Backups can run" in outlast.done("check").stdout
    assert f"{TENANTS} tenants" in outlast.done("backup").stdout
    doomed = world.choose(filled, destroyed=4, seed=SEED)
    world.destroy(filled, doomed)
    plan = outlast.done("restore", doomed[0].slug)
    assert doomed[0].slug in plan.stdout
    assert world.fingerprint(filled) != before
    restored = outlast.done("--json", "restore", "--execute", *[tenant.key for tenant in doomed]).json
    assert {one["tenant"]: one["state"] for one in restored["tenants"]} == {tenant.key: "done" for tenant in doomed}
    assert world.fingerprint(filled) == before


def test_apply_does_what_was_shown(project: Outlast, filled: str) -> None:
    """A plan is shown with its id and changes nothing; `apply` carries it out; it is listed afterwards."""
    before = world.fingerprint(filled)
    doomed = world.choose(filled, destroyed=1, seed=SEED)
    world.destroy(filled, doomed)
    after = world.fingerprint(filled)
    plan = project.done("--json", "restore", doomed[0].slug).json
    assert plan["executed"] is False
    assert world.fingerprint(filled) == after
    assert plan["plan"] in project.done("plans").stdout
    assert project.done("--json", "apply", plan["plan"]).json["executed"] is True
    assert world.fingerprint(filled) == before


def test_what_is_right_needs_nothing(project: Outlast) -> None:
    """Restoring a tenant that lacks nothing changes nothing, and ends with 0."""
    answer = project.done("--json", "restore", "tenant-2", "--execute").json
    assert [one["state"] for one in answer["tenants"]] == ["nothing-to-do"]


def test_looking_needs_no_database(project: Outlast, filled: str) -> None:
    """tenants, history, show, status and verify read the vault alone, also when the database is down."""
    config = project.folder / "outlast.toml"
    config.write_text(config.read_text().replace(filled, "postgresql://nobody@127.0.0.1:1/none"))
    tenants = project.done("--json", "tenants").json["tenants"]
    assert {one["label"] for one in tenants} == {f"tenant-{number}" for number in range(1, TENANTS + 1)}
    history = project.done("--json", "history", "tenant-3").json
    assert [moment["run"] for moment in history["moments"]] == [1]
    shown = project.done("--json", "show", "tenant-3", "accounts").json
    assert [row["slug"] for row in shown["rows"]] == ["tenant-3"]
    assert project.done("--json", "status").json["tenants"][0]["too_old"] is False
    assert project.done("--json", "verify").json["findings"] == []


def test_show_prints_what_was_backed_up(project: Outlast, filled: str) -> None:
    """A row out of the vault is the row that was in the table then, whatever has happened since; key and label work."""
    with psycopg.connect(filled, autocommit=True) as connection:
        row = connection.execute("SELECT name, settings::text FROM accounts WHERE slug = 'tenant-5'").fetchone()
        connection.execute("UPDATE accounts SET name = 'changed' WHERE slug = 'tenant-5'")
    assert row is not None
    (shown,) = project.done("--json", "show", "5", "public.accounts").json["rows"]
    assert (shown["name"], shown["settings"]) == row
    picked = project.done("--json", "show", "tenant-5", "accounts", "--key", "5").json
    assert picked["rows"] == [shown]
    assert project("show", "tenant-5", "accounts", "--key", "999").exit_code == 2
    text = project.done("show", "tenant-5", "users", "--limit", "1")
    assert "1 row of" in text.stdout
    listed = project.done("--json", "show", "tenant-5").json["tables"]
    assert {"table": "public.accounts", "rows": 1} in listed


def test_history_shows_what_changed_when(project: Outlast, filled: str) -> None:
    """A run in which a tenant changed is told apart from one in which it did not."""
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("UPDATE accounts SET name = 'changed' WHERE slug = 'tenant-5'")
    written = project.done("--json", "backup").json
    assert written["tenants_written"] == 1
    changed = project.done("--json", "history", "tenant-5").json["moments"]
    assert [(moment["run"], moment["changed"]) for moment in changed] == [(2, True), (1, True)]
    same = project.done("--json", "history", "tenant-6").json["moments"]
    assert [(moment["run"], moment["changed"]) for moment in same] == [(2, False), (1, True)]
    assert same[0]["root"] == same[1]["root"]
    assert changed[0]["root"] != changed[1]["root"]


def test_status_ends_with_4_where_it_is_too_old(project: Outlast, filled: str) -> None:
    """A monitor needs nothing but the exit code."""
    assert project("status").exit_code == 0
    late = project("status", "--max-age", "0s")
    assert late.exit_code == 4
    assert "TOO OLD" in late.stdout
    answer = project("--json", "status", "--max-age", "0s").json
    assert answer["ok"] is False
    assert answer["error"]["code"] == "too-old"


def test_status_is_by_tenant(project: Outlast) -> None:
    """A backup of one tenant makes that one newer, and only that one."""
    project.done("backup", "--tenant", "tenant-4")
    newest = project.done("--json", "status").json["tenants"]
    assert {one["label"] for one in newest if one["run"] == 2} == {"tenant-4"}
    assert newest[-1]["label"] == "tenant-4"


def test_replay_destroys_and_restores(outlast: Outlast) -> None:
    """`outlast replay` needs no outlast.toml, ends with everybody as before, and leaves nothing behind."""
    answer = outlast.done("--json", "replay", "--tenants", "8", "--destroyed", "3", "--seed", "1").json["replay"]
    assert (answer["same"], answer["restored"], len(answer["destroyed"])) == (True, 3, 3)
    assert answer["destroyed_rows"] > 0
    assert answer["differences"] == []
    assert [path.name for path in outlast.folder.iterdir()] == []


def test_replay_tells_who_differs() -> None:
    """The judge of the replay sees one changed row, one that is missing and one too many."""
    from outlast.replay.replay import differences

    before: Marks = {("1", "a"): Mark(2, "x"), ("2", "a"): Mark(1, "y")}
    after: Marks = {("1", "a"): Mark(2, "z"), ("3", "a"): Mark(1, "y")}
    assert [(one.tenant, one.table) for one in differences(before, after)] == [("1", "a"), ("2", "a"), ("3", "a")]
    assert differences(before, dict(before)) == ()


def test_init_overwrites_nothing(project: Outlast, filled: str) -> None:
    """A second init is refused, and changes neither the file nor a key."""

    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in project.folder.glob("**/*.key")} | {
            project.folder / "outlast.toml": (project.folder / "outlast.toml").read_bytes()
        }

    before = content()
    again = project("init", filled, "--tenant-table", "accounts")
    assert again.exit_code == 3
    assert content() == before


def test_init_keeps_no_password(outlast: Outlast, filled: str, server: object) -> None:
    """A password in the URL is used once, told about, and written nowhere."""
    from tests.servers import PASSWORD, Server

    assert isinstance(server, Server)
    name = urlsplit(filled).path.removeprefix("/")
    result = outlast.done("init", server.tcp_url(name), "--tenant-table", "accounts")
    assert "password was taken out" in result.stderr
    written = [path for path in outlast.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]
    outlast.done("check", environment={"PGPASSWORD": PASSWORD})


def test_keys_are_their_owner_s_only(project: Outlast) -> None:
    """Nobody else on the machine can read a key."""
    keys = [*project.folder.glob("*.key"), *(project.folder / ".outlast").glob("*.key")]
    assert len(keys) >= 4
    assert {oct(path.stat().st_mode & 0o777) for path in keys} == {"0o600"}


def test_the_recovery_key_opens_the_vault(project: Outlast) -> None:
    """With the operator's key gone, the recovery key that was taken offline does all it did."""
    (project.folder / ".outlast" / "operator.key").unlink()
    assert project("tenants").exit_code == 1
    project.done("tenants", environment={"OUTLAST_IDENTITY": str(project.folder / "outlast-recovery.key")})


def test_another_machine_can_restore(project: Outlast, filled: str, tmp_path: Path) -> None:
    """With this machine gone, outlast.toml, the vault and the recovery key are enough on another one.

    What `undo` needs can be kept in the vault only by who can sign for it: that one has to go without.
    """
    before = world.fingerprint(filled)
    doomed = world.choose(filled, destroyed=1, seed=SEED)
    world.destroy(filled, doomed)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("outlast.toml", "vault", "outlast-recovery.key"):
        (project.folder / name).rename(other / name)
    machine = Outlast(other, {"OUTLAST_IDENTITY": str(other / "outlast-recovery.key")})
    machine.done("verify")
    assert "--without-undo" in machine("restore", doomed[0].key, "--execute").stderr
    plan = machine.done("--json", "restore", doomed[0].key, "--execute", "--without-undo").json["plan"]
    assert machine("undo", plan).exit_code == 3
    assert world.fingerprint(filled) == before


def test_git_takes_no_key(project: Outlast) -> None:
    """`git add .` leaves this host's keys alone."""
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"],
        cwd=project.folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "outlast.toml" in listed
    assert ".outlast/" not in listed


def test_print_grants_writes_nothing(outlast: Outlast, filled: str) -> None:
    """--print-grants prints SQL that the server takes, and makes no file."""
    printed = outlast.done("init", filled, "--tenant-table", "accounts", "--print-grants").stdout
    assert "outlast_backup" in printed
    assert not list(outlast.folder.iterdir())
    with psycopg.connect(filled) as connection:
        connection.execute(printed.encode())
        connection.rollback()
