"""What a message says."""

from __future__ import annotations

from datetime import UTC, datetime

from outlast.capture.incident import COMMITTED, ROLLED_BACK, Deed, Incident
from outlast.capture.notify import Halting, compose
from outlast.core.moment import Lsn
from outlast.core.tenant import TenantKey
from outlast.sources.postgres.halt import Halted, SessionSeen

START = datetime(2022, 4, 5, 7, 38, 41, tzinfo=UTC)
AT = START.timestamp()


def test_one_tenant_is_one_tenant() -> None:
    """Numbers are said as people say them."""
    incident = Incident(START, {"tenant_roots": 1}, {TenantKey("1"): 1}, labels={TenantKey("1"): "acme"})
    message = compose("main", incident, Halting(), {"tenant_roots": 1})
    assert message.title == "Outlast: 1 tenant of main is losing data"
    assert "1 tenant's root row was deleted (rule tenant_roots = 1)" in message.body
    assert "Who: acme (1) 1 row; 1 row of 1 tenant so far." in message.body


def test_what_was_prevented_is_not_called_lost() -> None:
    """A transaction that was ended in time."""
    deed = Deed(7345, AT, rows=2, outcome=ROLLED_BACK)
    incident = Incident(START, {"tenant_roots": 2}, spared={TenantKey("1"): 1, TenantKey("2"): 1}, deeds={7345: deed})
    halted = Halted(
        ("maintenance",),
        (SessionSeen(4711, "maintenance", "purge.py", None, "7345", True),),
        {7345: "aborted"},
        (),
        0.04,
    )
    message = compose("main", incident, Halting(halted), {})
    assert message.title == "Outlast: main was about to lose 2 tenants; it was rolled back"
    assert "rolled back, so nothing is lost of: 1 1 row, 2 1 row" in message.body
    assert (
        "Transactions: 7345 (ended before its COMMIT: nothing of it is lost; 2 rows, role maintenance, "
        "application_name 'purge.py', pid 4711)." in message.body
    )
    assert "Next: outlast damage --since 2022-04-05T07:38:41Z" in message.body


def test_who_is_at_work_and_not_halted_is_shouted() -> None:
    """Another role than those that may be halted does it: a person has to act."""
    deed = Deed(8, AT)
    seen = SessionSeen(1, "app", "", "10.0.0.7", "8", False)
    halted = Halted(("maintenance",), (seen,), {8: "in progress"}, ("it failed",), 0.1)
    incident = Incident(START, {"drop": 1}, tables={"public.users"}, deeds={8: deed})
    message = compose("main", incident, Halting(halted), {})
    assert message.title == "Outlast: public.users of main is being lost"
    assert "AT WORK ON IT AND NOT HALTED: role app, pid 1, from 10.0.0.7; FAILED: it failed" in message.body


def test_of_very_many_the_largest_are_named() -> None:
    """And how many more there are; the first transaction that committed gives the exact moment before."""
    lost = {TenantKey(str(number)): number for number in range(1, 101)}
    deeds = {xid: Deed(xid, AT, Lsn(xid), 1, COMMITTED) for xid in range(10, 30)}
    message = compose("main", Incident(START, {"tenant_roots": 100}, lost, deeds=deeds), Halting(), {})
    assert "Who: 100 100 rows, 99 99 rows" in message.body
    assert "and 90 more; 5,050 rows of 100 tenants so far" in message.body
    assert "and 15 more." in message.body
    assert "outlast restore --damage-since before:10" in message.body
