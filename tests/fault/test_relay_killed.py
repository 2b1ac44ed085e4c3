"""`kill -9` of `outlast serve` at random points under load: what was accepted is neither lost nor forgotten."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.receiver import Receiver, receiving
from tests.serving import Serving, serving, until
from tests.vendors import Mood, Vendor, vendor

SENDERS = 6
AGAIN = "(You may have had this before.)"


@pytest.fixture
def pages() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


class Load:
    """Senders that create alerts, as fast as they are answered, and remember what was accepted."""

    def __init__(self, one: Serving, key: str) -> None:
        self.accepted: list[str] = []
        self._one = one
        self._key = key
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        number = 0
        while not self._ending.is_set():
            try:
                with self._one.opsgenie(self._key) as client:
                    while not self._ending.is_set():
                        alias = f"s{sender}-{number}"
                        number += 1
                        answer = client.post("/v2/alerts", json={"message": alias, "alias": alias})
                        if answer.status_code == 202:
                            self.accepted.append(alias)
                        self._ending.wait(0.01)
            except httpx.HTTPError:
                time.sleep(0.02)  # it was killed: what it did not answer was not accepted


def killed_again_and_again(one: Serving, load: Load, times: int, rng: random.Random) -> None:
    for _ in range(times):
        goal = len(load.accepted) + 1
        until(lambda goal=goal: len(load.accepted) >= goal, "something is accepted")  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, 0.7))  # the random point
        one.kill()
        one.start()


def taken(pages: Receiver, seen: Counter[str], again: Counter[str]) -> None:
    while not pages.empty:
        _, title, text = pages.next()
        alias = title.rpartition(" ")[2]
        (again if text.startswith(AGAIN) else seen)[alias] += 1


def _has_all(og: Vendor, aliases: list[str]) -> bool:
    return all(og.creations[alias] for alias in aliases)


TIMES = pytest.mark.parametrize("times", [1, pytest.param(8, marks=pytest.mark.slow)])


@TIMES
def test_no_event_is_lost(tmp_path: Path, pages: Receiver, times: int) -> None:
    """Killed while events come in and go out: the vendor ends with every accepted event, and opened each alert once."""
    rng = random.Random(7)
    with vendor() as og, serving(tmp_path, upstreams={"og": ("opsgenie", og.url)}, notify=pages.url) as one:
        key = one.integration("monitoring", "opsgenie")
        one.start()
        with Load(one, key) as load:
            killed_again_and_again(one, load, times, rng)
        assert len(load.accepted) > 5
        until(lambda: _has_all(og, load.accepted), "the vendor has everything that was accepted")
        assert all(og.creations[alias] == 1 for alias in load.accepted)


@TIMES
def test_no_page_is_lost(tmp_path: Path, pages: Receiver, times: int) -> None:
    """Killed while it pages: everybody is told of every accepted alert, once, or a second time that says so."""
    rng = random.Random(11)
    with (
        vendor(Mood.ERROR) as og,
        serving(tmp_path, upstreams={"og": ("opsgenie", og.url)}, notify=pages.url) as one,
    ):
        key = one.integration("monitoring", "opsgenie")
        one.start()
        with Load(one, key) as load:
            killed_again_and_again(one, load, times, rng)
        seen: Counter[str] = Counter()
        again: Counter[str] = Counter()

        def all_told() -> bool:
            taken(pages, seen, again)
            return all(seen[alias] or again[alias] for alias in load.accepted)

        until(all_told, "a page for each")
        assert all(number == 1 for number in seen.values()), "a page without a mark is the only one"
        assert sum(again.values()) <= times * 8, "only what was under way when it was killed may come twice"
