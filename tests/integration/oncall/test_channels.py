"""By which services people are reached: templates tried out at the start, and nothing of them in any error."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from outlast.core.errors import OutlastError
from outlast.messages import Message
from outlast.oncall.channels import VARIABLE, read
from tests.letterbox import receiving_mail
from tests.receiver import receiving

SECRET = "hunter2-token"
APPRISE_WAITS_S = 5.5  # between two letters of one service
MESSAGE = Message("a title", "a body")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (f"fax json://{SECRET}@host/{{address}}", "begins with none of email"),
        (f"email json://{SECRET}@host/hook", "has no {address}"),
        (f"email nonsense://{SECRET}/{{address}}", "is no URL that Apprise knows"),
        (f"fallback nonsense://{SECRET}", "is no URL that Apprise knows"),
        (f"# fine\n\nsms {SECRET}{{address}}", "line 3"),
    ],
)
def test_a_line_that_cannot_be_used_is_an_error_at_the_start(lines: str, told: str) -> None:
    """With its number and what is wrong, and without the line."""
    with pytest.raises(OutlastError) as caught:
        read({VARIABLE: lines}, None)
    assert told in caught.value.message
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


def test_the_environment_wins_over_the_command_and_a_failing_command_says_no_more() -> None:
    """The command's output is as secret as the variable."""
    assert read({VARIABLE: ""}, "false").methods == ()
    assert read({}, "echo email json://127.0.0.1/{address}").methods == ("email",)
    with pytest.raises(OutlastError) as caught:
        read({}, f"sh -c 'echo {SECRET}; exit 3'")
    assert caught.value.message == "[paging] command failed with exit code 3"


def test_the_next_service_of_a_method_is_tried_where_one_does_not_take_it() -> None:
    """And a method without one says so, for good."""
    with receiving() as first, receiving() as second:
        lines = "\n".join(f"sms {one.url}?:to={{address}}" for one in (first, second))
        channels = read({VARIABLE: lines}, None)
        first.refusing = True
        sent = channels.send("sms", "+15550100", MESSAGE)
        assert (sent.ok, sent.told) == (True, "taken by json, no. 2")
        assert second.next()[1:] == ("a title", "a body")
        second.refusing = True
        assert not channels.send("sms", "+15550100", MESSAGE).ok
        voice = channels.send("voice", "+15550100", MESSAGE)
        assert (voice.ok, voice.final) == (False, True)


def test_an_address_cannot_become_a_part_of_the_url() -> None:
    """A contact from the vendor's account is data: it adds no receiver and no option."""
    with receiving_mail() as mail:
        lines = f"email mailto://127.0.0.1:{mail.port}/?from=outlast@example.org&to={{address}}&mode=insecure"
        channels = read({VARIABLE: lines}, None)
        channels.send("email", "ann@example.org&to=eve@example.org&cc=eve@example.org", MESSAGE)
        channels.send("email", "ann+db@example.org", MESSAGE)
        assert "eve@example.org" not in [address for address, _ in mail.letters]
        assert [address for address, _ in mail.letters][-1] == "ann+db@example.org"


def test_those_of_last_resort_are_all_told_and_one_is_enough() -> None:
    """Nobody named is said, and is no success."""
    with receiving() as first, receiving() as second:
        channels = read({VARIABLE: f"fallback {first.url}"}, None, [second.url])
        second.refusing = True
        sent = channels.shout(MESSAGE)
        assert (sent.ok, sent.told) == (True, "1 of 2 services of last resort took it")
        assert first.next()[1] == "a title"
    assert not read({}, None).shout(MESSAGE).ok


def test_one_of_last_resort_that_hangs_keeps_no_other_waiting() -> None:
    """A mail server that takes connections and says nothing: whoever else is named hears of it meanwhile."""
    with receiving() as well, socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        hangs = f"mailto://127.0.0.1:{silent.getsockname()[1]}/?from=a@example.org&to=b@example.org&mode=insecure"
        channels = read({VARIABLE: f"fallback {hangs}"}, None, [well.url])
        shouted = pool.submit(channels.shout, MESSAGE)
        accepted, _ = silent.accept()
        with accepted:
            assert well.next()[1] == "a title"
        assert shouted.result().told == "1 of 2 services of last resort took it"


def test_letters_follow_each_other_without_a_pause() -> None:
    """Apprise has a service wait for seconds after each letter, which at night is what nobody has."""
    with receiving_mail() as mail:
        letters = f"mailto://127.0.0.1:{mail.port}/?from=a@example.org&to=b@example.org&mode=insecure"
        channels = read({VARIABLE: f"fallback {letters}"}, None)
        begun = time.monotonic()
        assert all(channels.shout(MESSAGE).ok for _ in range(3))
        assert time.monotonic() - begun < APPRISE_WAITS_S, "three took less than one pause"
    assert len(mail.letters) == 3
