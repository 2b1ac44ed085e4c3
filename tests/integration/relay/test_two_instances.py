"""Two `outlast serve` on one PostgreSQL: one of them pages, and the other where that one was killed."""

from __future__ import annotations

from pathlib import Path

from tests.receiver import receiving
from tests.serving import Serving, serving, until
from tests.vendors import Mood, vendor


def _create(one: Serving, key: str, alias: str) -> None:
    with one.opsgenie(key) as client:
        answer = client.post("/v2/alerts", json={"message": f"it is {alias}", "alias": alias})
    assert answer.status_code == 202, answer.text


def test_the_other_pages_what_a_killed_one_had_accepted(tmp_path: Path, database: str) -> None:
    """Either takes alerts; what the killed one had answered and not yet paged is paged by the other, once."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with vendor() as og, receiving() as pages:
        given = {
            "upstreams": {"og": ("opsgenie", og.url)},
            "upstream_settings": 'timeout = "2s"\nheartbeat = "2s"',
            "notify": pages.url,
            "settings": f'database = "{database}"',
        }
        with serving(tmp_path / "first", **given) as first, serving(tmp_path / "second", **given) as second:
            key = first.integration("monitoring", "opsgenie", "--upstream", "og")
            first.start()
            until(lambda: bool(og.headers), "the first has the lead: it asks whether the vendor is there")
            second.start()
            og.mood = Mood.HANGING  # so that nothing is decided on these before the instance that has the lead is gone
            _create(first, key, "left-behind")
            _create(second, key, "beside")
            first.kill()
            _create(second, key, "afterwards")
            paged = {pages.next()[1].rpartition("it is ")[2] for _ in range(3)}
            assert paged == {"left-behind", "beside", "afterwards"}
            og.mood = Mood.WELL
            og.ended.set()
            until(lambda: paged <= set(og.creations), "the vendor has every alert")
            assert set(og.creations.values()) == {1}
            assert pages.empty, "nobody was paged twice"
