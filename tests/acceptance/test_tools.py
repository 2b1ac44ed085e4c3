"""A tool's day by the installed command: kept, read while it is away, exported; and its token seen nowhere."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from outlast.cli.main import app_command, run
from tests.commands import Outlast, Result
from tests.mounts import namespaced
from tests.servers import free_port
from tests.tools import jira, project
from tests.tools.fake import TOKEN, broken
from tests.tools.jira import Jira

TABLE = "jira.issues"


@pytest.fixture
def fake() -> Jira:
    found = Jira()
    jira.fill(found)
    return found


MARKED = (TOKEN, base64.b64encode(f"{jira.USER}:{TOKEN}".encode()).decode())
"""The token as it is, and as it goes over the wire."""


@pytest.fixture
def site(fake: Jira, outlast: Outlast) -> Iterator[Outlast]:
    """A project with Jira in it, while Jira is there."""
    with fake.serving() as url:
        project.write(outlast.folder, "desk", "jira", site=url, user=jira.USER)
        outlast.environment["OUTLAST_DESK_TOKEN"] = TOKEN
        yield outlast


def test_kept_searched_shown_compared_and_exported(fake: Jira, site: Outlast) -> None:
    """The commands of a database work for a tool: check, backup, status, tenants, history, show, diff, verify."""
    on = ("--source", "desk")
    checked = site.done("check", *on).stdout
    assert "Backups can run" in checked
    assert "not to be had: automation rules" in checked
    assert site.done("--json", "backup", "desk").json["rows"] > 100
    assert site.done("--json", "status", *on).json["tenants"][0]["tenant"] == "acme"
    assert "acme" in site.done("tenants", *on).stdout
    shown = site.done("show", *on, "acme", TABLE, "--key", "OPS-3")
    assert '"summary": "disk full on host 3"' in shown.stdout
    assert shown.stderr.startswith("desk: as of ")
    found = site.done("--json", "search", "disk", "host", "3").json
    assert [one["key"] for one in found["found"] if one["table"] == TABLE] == ["10003"]
    assert site.done("diff", *on, "acme").exit_code == 0
    fake.table("issues")["10003"] = {**jira.issue(3, datetime.now(UTC), "solved")}
    differs = site("--json", "diff", *on, "acme")
    assert differs.exit_code == 4
    assert differs.json["effect"] == {TABLE: {"update": 1}}
    assert site("verify", *on, "--live").exit_code == 4
    followed = site.done("--json", "follow", "desk", "--until-current").json
    assert (followed["rounds"], followed["runs_written"]) == (1, 1)
    assert site.done("verify", *on, "--live").exit_code == 0
    assert len(site.done("--json", "history", *on, "acme").json["moments"]) == 2
    before = site.done("show", *on, "acme", TABLE, "--key", "10003", "--at", "run:1").stdout
    assert '"summary": "disk full on host 3"' in before


def test_read_while_the_vendor_and_the_vault_are_away(site: Outlast, fake: Jira, tmp_path: Path) -> None:
    """With the vendor gone the last good backup is read, its age first; without the vault too."""
    site.done("backup", "desk")
    fake.before = lambda number: fake.faults.append(broken(503))
    away = site("backup", "desk")
    assert away.exit_code == 1
    assert "does not answer: it answers HTTP 503" in away.stderr
    assert "Hint: " in away.stderr
    assert "disk full" in site.done("show", "--source", "desk", "acme", TABLE, "--key", "10001").stdout
    (site.folder / "vault").rename(tmp_path / "elsewhere")
    searched = site.done("search", "comment")
    assert "the vault cannot be read now" in searched.stderr
    assert searched.stdout.startswith("desk: as of ")
    exported = site.done("export", "out")
    assert "calendar" in exported.stdout
    issue = next((site.folder / "out" / "desk" / "issues").glob("OPS-3 *.md"))
    text = issue.read_text()
    assert text.startswith("---\n")
    assert '"key": "10003"' in text
    assert "# disk full on host 3" in text
    assert "comment 0" in text
    attached = next(path for path in issue.with_suffix("").iterdir())
    assert attached.read_bytes() == fake.table("files")["a10003"]["data"]


def test_what_asks_the_tool_keeps_the_token_to_itself(site: Outlast, fake: Jira) -> None:
    """Those that ask the tool, also where that fails, leave the token in no output, file or traceback."""
    told = [
        site("--json", "backup", "desk", "--full"),
        site("diff", "--source", "desk", "acme"),
        site("backup", "desk", environment={"OUTLAST_DESK_TOKEN": TOKEN + " wrong"}),
        site("backup", "desk", environment={"OUTLAST_DESK_TOKEN": TOKEN + "wrong"}),
    ]
    assert [one.exit_code for one in told] == [0, 0, 2, 1], "\n".join(map(str, told))
    fake.faults += [broken(403), "html"]
    told += [site("backup", "desk"), site("--json", "check", "--source", "desk")]
    config = site.folder / "outlast.toml"
    config.write_text(config.read_text().replace('patience = "3s"', 'patience = "1s"\ntoken_command = "false"'))
    told.append(site("backup", "desk", environment={"OUTLAST_DESK_TOKEN": ""}))
    told.append(_killed(site))
    for result in told:
        for secret in MARKED:
            assert secret not in result.stdout + result.stderr, result.arguments
        assert "Traceback" not in result.stderr
    _nothing_kept(site)


def _nothing_kept(site: Outlast) -> None:
    for path in site.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [secret for secret in MARKED if secret.encode() in data], path


ENDS = {
    "serve": ["--bind", "nowhere:0"],
    "worker": ["--until-done"],
    "incident watch": ["--once"],
    "follow": ["--until-current"],
    "replay": ["--tenants", "0"],
}
"""What has those commands end that go on for ever, or that make a database of their own and never see a token."""


def test_every_command_keeps_the_token_to_itself(
    site: Outlast, fake: Jira, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All of them, as the command line knows them, with what they need and no more: most fail, and none tells it."""
    site.done("backup", "desk")
    monkeypatch.chdir(site.folder)
    monkeypatch.setenv("OUTLAST_DESK_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(site.folder))
    ran = 0
    for name, command in _leaves(app_command()):
        given = [*name.split(), *(_needed(command) if name not in ENDS else []), *ENDS.get(name, [])]
        run(given)
        out, error = capfd.readouterr()
        assert "Traceback" not in error, given
        assert not [secret for secret in MARKED if secret in out + error], given
        ran += 1
    assert ran > 40
    _nothing_kept(site)


def _leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that is not a group, by its whole name."""
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    context = typer.Context(command)
    for inner in command.list_commands(context):
        yield from _leaves(command.get_command(context, inner), f"{name} {inner}".strip())


def _needed(command: Any) -> list[str]:
    """What it cannot be run without, and our tool as its source."""
    given = []
    for one in command.params:
        if "--source" in one.opts:
            given += ["--source", "desk"]
        elif one.required:
            given += ["acme"] if one.param_type_name == "argument" else [one.opts[0], "acme"]
    return given


def _killed(site: Outlast) -> Result:
    port = free_port()
    process = site.start("follow", "desk", "--metrics", f"127.0.0.1:{port}")
    figures = _figures(port, process)
    assert 'outlast_tool_reachable{source="desk"} 1' in figures
    assert 'outlast_tool_rounds_total{source="desk"} 1' in figures
    title = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert TOKEN.encode() not in title
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    return Result(("follow", "desk"), process.returncode, out, error)


def _figures(port: int, process: subprocess.Popen[str]) -> str:
    """What Prometheus gets, once a round came through."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.TransportError):
            found = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            if "outlast_tool_documents{" in found:
                assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
                return found
        time.sleep(0.05)
    raise AssertionError("no round came through")


def test_killed_hard_and_run_again(site: Outlast, fake: Jira) -> None:
    """kill -9 in the middle of a first backup: the next one goes on from there, and all of it is in the vault."""
    reached = threading.Event()

    def slowly(number: int) -> None:
        if number > 15:
            reached.set()
            time.sleep(0.05)

    fake.before = slowly
    process = site.start("backup", "desk")
    assert reached.wait(60)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    fake.before = lambda number: None
    site.done("backup", "desk")
    assert site.done("verify", "--source", "desk", "--live").exit_code == 0


def test_begun_with_a_tool_and_no_database(outlast: Outlast, fake: Jira) -> None:
    """`outlast init jira` makes all that is needed; a second one says what to add, and overwrites nothing."""
    with fake.serving() as url:
        assert "needs --user" in outlast("init", "jira", "--site", url).stderr
        begun = outlast.done("init", "jira", "--site", url, "--user", jira.USER)
        assert "OUTLAST_JIRA_TOKEN" in begun.stdout
        outlast.environment["OUTLAST_JIRA_TOKEN"] = TOKEN
        assert "Backups can run" in outlast.done("check").stdout, "the only source is the one that is meant"
        assert "outlast backup jira" in outlast("status").stderr
        again = outlast("init", "statuspage", "--page", "abc")
        assert again.exit_code == 3
        assert '[sources.statuspage]\n      kind = "statuspage"\n      page = "abc"' in again.stderr


FULL = (
    "mkdir kept && cp -a .outlast/. kept/ && mount -t tmpfs -o size=2m none .outlast && cp -a kept/. .outlast/ && "
    "rm -r kept && { dd if=/dev/zero of=.outlast/filler bs=4k 2> /dev/null || true; }"
)
SEALED = "mount --bind .outlast .outlast && mount -o remount,bind,ro .outlast"


@pytest.mark.parametrize(("mounts", "why"), [(FULL, "full"), (SEALED, "read-only")])
def test_a_disk_that_takes_nothing_keeps_nobody_from_reading(site: Outlast, mounts: str, why: str) -> None:
    """Runbooks are found and shown; what has to write says what is wrong, and not to remove what is still readable."""
    site.done("backup", "desk")
    found = namespaced(site, mounts, "search disk")
    if found is None:
        pytest.skip("nothing can be mounted here")
    assert found.exit_code == 0, str(found)
    assert "disk full on host 7" in found.stdout
    assert why in found.stderr.lower()
    for command in ("backup desk", "incident open 'A drill'"):
        refused = namespaced(site, mounts, command)
        assert refused is not None
        assert refused.exit_code == 1, str(refused)
        assert why in refused.stderr.lower()
        assert "emove" not in refused.stderr


def test_several_tools_and_no_database(outlast: Outlast, fake: Jira) -> None:
    """A search is over all that was backed up; what is about one source asks for its name, and guesses none."""
    with fake.serving() as url:
        project.write(outlast.folder, "desk", "jira", site=url, user=jira.USER)
        with (outlast.folder / "outlast.toml").open("a") as file:
            file.write(project.section("other", "jira", site=url, user=jira.USER))
        outlast.environment |= {"OUTLAST_DESK_TOKEN": TOKEN, "OUTLAST_OTHER_TOKEN": TOKEN}
        for command in ("backup", "status", "tenants"):
            asked = outlast(command)
            assert asked.exit_code == 2
            assert "has several sources: desk, other" in asked.stderr
        outlast.done("backup", "desk")
        assert {one["source"] for one in outlast.done("--json", "search", "disk").json["found"]} == {"desk"}
        outlast.done("backup", "other")
        assert {one["source"] for one in outlast.done("--json", "search", "disk").json["found"]} == {"desk", "other"}
        assert "other sources: other" in outlast.done("status", "--source", "desk").stderr
        assert "there is no source 'nothing'" in outlast("status", "--source", "nothing").stderr
        exported = outlast.done("--json", "export", "plain").json["sources"]
        assert {one["source"] for one in exported} == {"desk", "other"}


def test_what_is_missing_in_the_configuration_is_named(outlast: Outlast) -> None:
    """What is not there is told with exit 2, its name and what to do: a setting, a token, a resource."""
    project.write(outlast.folder, "desk", "jira", site="http://127.0.0.1:9")
    result = outlast("backup", "desk")
    assert result.exit_code == 2
    assert "lacks 'user'" in result.stderr
    config = outlast.folder / "outlast.toml"
    config.write_text(config.read_text() + f'user = "{jira.USER}"\n')
    assert "OUTLAST_DESK_TOKEN" in outlast("backup", "desk").stderr
    refused = outlast("restore", "acme", "--source", "desk", environment={"OUTLAST_DESK_TOKEN": TOKEN})
    assert refused.exit_code == 2, str(refused)
    config.write_text(config.read_text() + 'skip = ["nothing"]\n')
    assert "there is no 'nothing'" in outlast("backup", "desk", environment={"OUTLAST_DESK_TOKEN": TOKEN}).stderr
    config.write_text(config.read_text().replace("skip", "skipp"))
    assert "Did you mean 'skip'?" in outlast("backup", "desk").stderr
