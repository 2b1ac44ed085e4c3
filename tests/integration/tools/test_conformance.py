"""Every connector, against a stateful fake of its vendor: the vault ends equal to what the vendor has."""

from __future__ import annotations

import base64
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast.core.errors import OutlastError, TransientError
from outlast.sources.tools import client
from outlast.sources.tools.mirror import Mirror
from outlast.vault.store import Store
from tests.tools.confluence import Confluence
from tests.tools.fake import Answer, broken, too_many
from tests.tools.jira import Jira
from tests.tools.opsgenie import Opsgenie, alert
from tests.tools.worlds import WORLDS, Host, differences, hosted

DAY = timedelta(days=1)


@pytest.fixture(params=sorted(WORLDS))
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    with hosted(request.param, tmp_path) as found:
        yield found


def check(host: Host) -> None:
    assert differences(host.held(), host.world.state()) == []


def test_the_vault_is_equal_to_the_vendor_after_every_kind_of_change(host: Host) -> None:
    """What was added, changed and deleted at the vendor is so in the vault after the next backup."""
    host.back_up()
    check(host)
    for step in (host.world.add, host.world.change, host.world.delete):
        step()
        host.back_up()
        check(host)


def test_a_backup_of_what_did_not_change_writes_no_object(host: Host) -> None:
    """Asked again, the vendor gives the same, and the vault gets a run record and nothing else."""
    host.back_up()
    again = host.back_up()
    assert (again.objects, again.rows_read) == (1, 0)


def test_a_full_backup_takes_nothing_for_unchanged(host: Host) -> None:
    """With --full every document is fetched again, and the vault ends equal to the vendor."""
    host.back_up()
    before = len(host.world.fake.log)
    host.back_up(full=True)
    check(host)
    assert len(host.world.fake.log) - before >= before * 0.9


def test_between_reconciliations_only_changes_are_asked_for(host: Host) -> None:
    """What has a cursor costs requests for its changes; what was added and changed is in the vault all the same."""
    host.back_up(reconcile=DAY)
    before = len(host.world.fake.log)
    host.back_up(reconcile=DAY)
    quiet = len(host.world.fake.log) - before
    host.world.add()
    host.world.change()
    before = len(host.world.fake.log)
    host.back_up(reconcile=DAY)
    busy = len(host.world.fake.log) - before
    check(host)
    assert busy - quiet < 25


def test_rate_limits_outages_and_cut_connections_are_waited_for(host: Host) -> None:
    """Every fault that passes is passed over: nothing is missing, and nothing is there twice."""
    faults: list[Answer | str] = [
        too_many("2"),
        broken(503),
        "cut",
        broken(500),
        too_many("0"),
        broken(502),
        "cut",
        broken(504),
    ]
    host.world.fake.before = lambda number: (
        host.world.fake.faults.append(faults[number // 5 % len(faults)]) if number % 5 == 0 else None
    )
    host.back_up()
    host.world.fake.before = lambda number: None
    check(host)
    assert host.clock.waited_s > 2


def test_an_outage_that_lasts_is_one_clear_error_and_the_next_backup_goes_on(host: Host) -> None:
    """A vendor that goes away in the middle leaves the last run as it was; what was fetched is not fetched again."""
    host.back_up()
    held = host.held()
    host.world.change()
    fake = host.world.fake
    start = len(fake.log)
    fake.before = lambda number: fake.faults.append(broken(503)) if number > start + 12 else None
    with pytest.raises(TransientError, match="does not answer") as caught:
        host.back_up(patience_s=20.0)
    assert caught.value.hint is not None
    assert "last good backup" in caught.value.hint
    assert host.held() == held
    fake.before = lambda number: None
    fake.faults.clear()
    host.back_up()
    check(host)


def test_without_its_local_state_everything_is_fetched_and_nothing_is_stored_twice(host: Host) -> None:
    """The mirror and the state are disposable: without them the next backup finds what the vault has already."""
    host.back_up()
    for path in (host.folder / "state").iterdir():
        path.unlink()
    host.back_up()
    check(host)
    (host.folder / "state" / "host.key").write_text("ab" * 32)
    (host.folder / "state" / "state.sqlite").unlink()
    host.back_up()  # the mirror of another host key is made anew
    check(host)


def test_slow_answers_are_given_up_and_asked_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that does not come in time is a passing fault."""
    monkeypatch.setattr(client, "_READ_S", 0.2)
    late = threading.Event()

    def slowly(number: int) -> None:
        if number in (3, 8):
            late.wait(0.5)

    host.world.fake.before = slowly
    host.back_up()
    check(host)


class Killed(BaseException):
    """Ends a backup where it stands, as a signal would."""


def test_killed_at_any_request_and_resumed_nothing_is_lost_or_doubled(host: Host) -> None:
    """A backup that is ended at any point is taken up by the next, with the vendor changing in between."""
    fake = host.world.fake
    whole = 0
    for stop_after in (*range(1, 200, 34), 10_000):
        start = len(fake.log)
        host.clock.waited_s = 0
        stopped = _back_up_until(host, stop_after)
        if stop_after == 69:
            host.world.change()
        whole = len(fake.log) - start
        if not stopped:
            break
    host.back_up()
    check(host)
    assert whole < 10_000


@pytest.mark.parametrize("full", [False, True])
def test_killed_again_and_again_inside_a_page_each_run_goes_further(host: Host, full: bool) -> None:
    """A list costs one page, its details a request each: with four requests a run the backup comes to its end."""
    host.world.fake.page_size = 1000
    runs = 1
    while _back_up_until(host, 4, full=full):
        host.clock.waited_s = 0
        runs += 1
        assert runs < 400, "no progress"
    check(host)


STEPS = [7, pytest.param(1, marks=pytest.mark.slow)]
"""At every seventh point; at every one in the slow variant."""


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_request_nothing_is_lost_or_doubled(step: int, tmp_path: Path) -> None:
    """A first backup that ends before request 1, 2, … until it needs no more, and each time the next one goes on."""
    with hosted("statuspage", tmp_path) as host:
        state = host.folder / "state"
        for allowed in range(1, 1000, step):
            for path in state.iterdir() if state.exists() else ():
                path.unlink()
            host.clock.waited_s = 0
            if not _back_up_until(host, allowed):
                break
            host.back_up()
            check(host)
        assert allowed > 20


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_write_nothing_is_lost_or_doubled(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended before and after each transaction of the mirror and each object of the vault, and then run again."""
    real_writing, left = Mirror.writing, 10**9

    def strike() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    @contextmanager
    def writing(mirror: Mirror) -> Iterator[None]:
        strike()
        with real_writing(mirror):
            yield
        strike()

    with hosted("statuspage", tmp_path) as host:
        kept: Any = type(host.store)
        real_create = kept.create

        def create(store: Store, path: str, data: bytes) -> None:
            strike()
            real_create(store, path, data)
            strike()

        monkeypatch.setattr(Mirror, "writing", writing)
        monkeypatch.setattr(kept, "create", create)
        for allowed in range(1, 1000, step):
            left = allowed
            host.clock.waited_s = 0
            with suppress(Killed):
                host.back_up(full=True)
                break
        assert allowed > 20
        left = 10**9
        host.back_up()
        check(host)


def test_what_no_specification_has_is_kept_as_it_was_sent(tmp_path: Path) -> None:
    """Times with and without fractions, fields that nobody knows, nulls, numbers, and half a character."""
    with hosted("opsgenie", tmp_path) as host:
        sent = {
            **alert(7, "2026-01-05T00:00:00.123456789Z"),
            "createdAt": "2026-01-05T00:00:00Z",
            "owner": None,
            "futureField": {"deep": [None, 1, 1.5, 10**20, True, ""], "": "no name"},
            "message": "half of a pair \ud83d, a NUL \x00, a tab \t, \\N and \\.",
        }
        host.world.fake.table("alerts")[sent["id"]] = sent
        host.back_up()
        assert host.held()["opsgenie.alerts"][sent["id"]] == sent
        assert host.back_up().rows_read == 0


def test_a_large_file_passes_through_in_parts(tmp_path: Path) -> None:
    """Of 16 MB never more than a part is in memory: not when fetched, and not when written into the vault."""
    with hosted("jira", tmp_path) as host:
        host.back_up()
        fake = host.world.fake
        data = bytes(range(256)) * (16 * 4096)
        fake.table("files")["big"] = {"data": data}
        fake.table("attachment/10002")["1"] = {"id": "big", "filename": "dump", "size": len(data)}
        tracemalloc.start()
        try:
            host.back_up(full=True)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 12 * 2**20
        held = host.held()["jira.attachments_content"]
        parts = [one["data"] for key, one in sorted(held.items()) if key.startswith("10002/big/")]
        assert b"".join(map(base64.b64decode, parts)) == data


def _back_up_until(host: Host, requests: int, **options: Any) -> bool:
    real = client.PatientSession.send
    made = 0

    def send(session: client.PatientSession, request: object, **options: object) -> object:
        nonlocal made
        made += 1
        if made > requests:
            raise Killed
        return real(session, request, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.PatientSession, "send", send)
        try:
            host.back_up(**options)
        except Killed:
            return True
    return False


def test_what_changes_during_a_sweep_is_not_taken_for_deleted(host: Host) -> None:
    """Pages that shift because something is deleted while they are read leave nothing out."""
    host.back_up()
    fake, table = host.world.fake, host.world.fake.table(host.world.swept)
    gone: list[str] = []

    def delete_first(number: int) -> None:
        if f"/{host.world.swept}" in fake.log[-1] and "offset=" in fake.log[-1] and not gone:
            gone.append(next(iter(table)))
            table.pop(gone[0])

    fake.before = delete_first
    host.back_up()
    fake.before = lambda number: None
    held = host.held()[f"{host.world.kind}.{host.world.swept}"]
    missing = {str(one.get("id", one.get("accountId"))) for one in table.values()} - held.keys()
    assert not missing


@pytest.mark.parametrize(
    ("status", "code", "words"), [(401, "token", "does not accept the token"), (404, "gone", "has no")]
)
def test_a_bad_token_and_a_site_that_is_gone_are_told_once(host: Host, status: int, code: str, words: str) -> None:
    """The error names the site, the HTTP status and what to do; the last run stays what is read; no token is in it."""
    host.back_up()
    held = host.held()
    fake = host.world.fake
    fake.before = lambda number: fake.faults.append(broken(status))
    with pytest.raises(OutlastError, match=words) as caught:
        host.back_up()
    assert caught.value.code == code
    assert caught.value.hint
    assert fake.token not in f"{caught.value!r} {caught.value.hint}"
    assert host.held() == held


def test_a_missing_right_names_the_resource_and_how_to_leave_it_out(host: Host) -> None:
    """403 for one resource is never a silent omission: the backup stops, and says what to write into outlast.toml."""
    fake, name = host.world.fake, host.world.refused
    fake.before = lambda number: (
        fake.faults.append(broken(403)) if fake.log[-1].partition("?")[0].endswith(f"/{name}") else None
    )
    with pytest.raises(OutlastError, match="lacks a right") as caught:
        host.back_up()
    assert caught.value.code == "scope"
    assert caught.value.hint is not None
    assert f'skip = ["{name}"]' in caught.value.hint
    host.back_up(skip=frozenset({name}))
    assert f"{host.world.kind}.{name}" not in host.held()


def test_a_log_in_page_instead_of_json_is_told(host: Host) -> None:
    """What a proxy puts in between is no data."""
    host.world.fake.faults.append("html")
    with pytest.raises(OutlastError, match="no JSON"):
        host.back_up()


def test_no_token_is_sent_to_another_host(host: Host) -> None:
    """A next page at another address ends the backup: the token goes to the configured host only."""
    if host.world.kind not in ("opsgenie", "confluence"):
        pytest.skip("this vendor gives no addresses of next pages")
    fake = host.world.fake
    real = fake.answer

    def answer(method: str, target: str, body: bytes, auth: str | None) -> object:
        found = real(method, target, body, auth)
        if not isinstance(found, str) and isinstance(found.body, dict):
            for place, name in (("paging", "next"), ("_links", "next")):
                if name in (found.body.get(place) or {}):
                    found.body = {**found.body, place: {name: "http://elsewhere.example/next"}}
        return found

    fake.answer = answer  # type: ignore[method-assign, assignment]
    with pytest.raises(OutlastError, match="another host"):
        host.back_up()


@pytest.mark.parametrize("kind", ["confluence", "jira"])
def test_an_expired_cursor_begins_again(kind: str, tmp_path: Path) -> None:
    """A list whose token has expired on the way is taken up from what was seen, and is whole at the end."""
    with hosted(kind, tmp_path) as host:
        fake = host.world.fake
        assert isinstance(fake, Jira | Confluence)
        fake.expired |= {"t3", "t6", "c3", "c6"}
        host.back_up()
        check(host)
        assert not fake.expired & ({"t3"} if kind == "jira" else {"c3"})


@pytest.mark.parametrize("kind", ["confluence", "jira"])
def test_files_come_back_byte_for_byte(kind: str, tmp_path: Path) -> None:
    """The content of attachments is in the vault in parts, whole; a file past the limit is told, not cut."""
    with hosted(kind, tmp_path) as host:
        host.back_up()
        held = host.held()[f"{kind}.attachments_content"]
        for key in host.held()[f"{kind}.attachments"]:
            parts = [one for name, one in sorted(held.items()) if name.startswith(key + "/")]
            data = b"".join(base64.b64decode(one["data"]) for one in parts)
            files = host.world.fake.table("files")
            wanted = files[key.rpartition("/")[2]] if kind == "jira" else files["dump.txt"]
            assert data == wanted["data"]
        result = host.back_up(content_bytes_max=10, full=True)
        assert any(notice.code == "large-file" for notice in result.notices)


def test_deep_pages_that_opsgenie_refuses_are_gone_round(tmp_path: Path) -> None:
    """Past the offset that a search allows, reading goes on from the last time that was seen."""
    with hosted("opsgenie", tmp_path) as host:
        fake = host.world.fake
        assert isinstance(fake, Opsgenie)
        fake.deep_max, fake.page_size = 100, 50
        for n in range(200, 420):
            one = alert(n, f"2026-02-01T00:{n // 60:02}:{n % 60:02}.{n:03}Z")
            fake.table("alerts")[one["id"]] = one
        host.back_up(skip=frozenset({"alert_notes", "alert_logs"}))
        assert len(host.held()["opsgenie.alerts"]) == 228
