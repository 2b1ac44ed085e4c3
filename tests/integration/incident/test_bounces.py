"""Letters that come back later: reports of mail servers, as they write them."""

from __future__ import annotations

import pytest

from outlast.incident.bounces import refused_letter
from outlast.incident.conduct import Conduct, Opening
from outlast.incident.incident import Severity
from outlast.incident.letters import Desk
from outlast.incident.outbox import Outbox
from outlast.incident.subscribers import Channel, Subscribers, Wish
from outlast.state.database import Database
from tests.integration.incident.test_delivery import deliver, put
from tests.letterbox import Letterbox
from tests.unit.incident.stories import START

REPORT = """\
From: MAILER-DAEMON@mx.example (Mail Delivery System)
To: status@acme.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="XX"

--XX
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--XX
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
Arrival-Date: Thu, 26 Nov 2026 01:00:00 +0000 (UTC)

Final-Recipient: rfc822; gone@x.example
Original-Recipient: rfc822;gone@x.example
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 no such user

--XX
Content-Type: {returned}

Return-Path: <status@acme.example>
From: Acme Status <status@acme.example>
To: gone@x.example
Message-ID: <{letter}@acme.example>
Subject: Sites are slow

It is slow.
--XX--
"""


def report(
    letter: str,
    action: str = "failed",
    status: str = "5.1.1",
    returned: str = "message/rfc822",
    body: str = "It is slow.",
) -> bytes:
    return REPORT.format(letter=letter, action=action, status=status, returned=returned, body=body).encode()


@pytest.mark.parametrize("returned", ["message/rfc822", "text/rfc822-headers"])
def test_a_report_is_read(returned: str) -> None:
    """With the whole letter, and with its headers alone."""
    assert refused_letter(report("abc", returned=returned)) == "abc"


@pytest.mark.parametrize(
    "data",
    [
        report("abc", action="delayed", status="4.4.1"),
        report("abc", status="4.2.2"),
        report("abc", action="delivered", status="2.0.0"),
        b"From: a@b\nSubject: out of office\n\nBack on Monday.\n",
        b"",
        b"\xff\x00 no mail at all",
        report("abc").replace(b"Message-ID", b"X-Other"),
    ],
    ids=["delayed", "full mailbox", "delivered", "out of office", "empty", "bytes", "no letter"],
)
def test_whatever_is_no_lasting_failure_of_a_letter_is_passed_over(data: bytes) -> None:
    """A mail that is read by itself may be anything."""
    assert refused_letter(data) is None


def test_a_letter_that_came_back_counts_once(
    database: Database, conduct: Conduct, mailbox: Letterbox, desk: Desk
) -> None:
    """By its own Message-ID, as it had left; one that was never sent counts for nobody."""
    subscribers, outbox = Subscribers(database), Outbox(database)
    one = subscribers.add(Wish(Channel.EMAIL, "gone@x.example"), START, confirmed=True)
    put(database, desk, conduct.open(Opening("Slow", Severity.MINOR, public=True), "ada", START)[0])
    deliver(database, mailbox, desk)
    (sent,) = mailbox.to("gone@x.example")
    letter = refused_letter(report(str(sent["Message-ID"]).strip("<>").partition("@")[0]))
    assert letter is not None
    assert outbox.came_back(letter) == one.id
    assert outbox.came_back(letter) is None
    assert outbox.came_back("never-sent") is None
    subscribers.bounced(one.id)
    found = subscribers.get(one.id)
    assert found is not None
    assert found.bounces == 1
