"""The tripwire against a model that remembers everything: it fires exactly when the model's counts say so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.capture.rules import Rules
from outlast.capture.tripwire import Fact, Tripwire
from outlast.core.effect import Operation
from outlast.core.moment import Lsn
from outlast.core.tenant import TenantKey

START = datetime(2022, 4, 5, tzinfo=UTC)
ROOT, CHILD = "public.accounts", "public.users"
WINDOW_S = 60

DEEDS = st.lists(
    st.tuples(
        st.integers(0, 40),  # seconds since the one before
        st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([ROOT, CHILD]), st.integers(1, 9)), max_size=4),
        st.sampled_from(["commit", "stream-commit", "stream-abort", "stream-on"]),
    ),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(DEEDS, st.integers(1, 5))
def test_fires_exactly_when_a_model_says_so(
    deeds: list[tuple[int, list[tuple[str, str, int]], str]], most: int
) -> None:
    """Roots of tenants lost within the window, by transactions that have committed or may still commit."""
    rules = Rules(ROOT, frozenset({ROOT, CHILD}), window_s=WINDOW_S, roots=most, share=None, losing=None)
    tripwire = Tripwire(rules, clock=START.timestamp)
    counted: list[tuple[int, str]] = []
    open_ = False
    second = 0
    for xid, (gap, rows, ending) in enumerate(deeds, start=100):
        second += gap
        time = START + timedelta(seconds=second)
        tripwire.observe([Fact(1, time, Lsn(1), False, TenantKey("@shared"), CHILD, Operation.INSERT, 1)])
        open_ = open_ and len({tenant for at, tenant in counted if at > second - WINDOW_S}) * 2 >= most
        streamed = ending != "commit"
        facts = [
            Fact(
                xid,
                None if streamed else time,
                None if streamed else Lsn(xid),
                streamed,
                TenantKey(tenant),
                table,
                Operation.HARD_DELETE,
                number,
            )
            for tenant, table, number in rows
        ]
        alarm = tripwire.observe(facts)
        ours = [(second, tenant) for tenant, table, _ in rows if table == ROOT]
        counted += ours
        roots = {tenant for at, tenant in counted if at > second - WINDOW_S}
        assert (alarm is not None and alarm.notify) == (not open_ and len(roots) >= most)
        open_ = open_ or len(roots) >= most
        if ending == "stream-commit":
            tripwire.committed(xid, time, Lsn(xid))
        elif ending == "stream-abort":
            tripwire.aborted(xid)
            del counted[len(counted) - len(ours) :]
            roots = {tenant for at, tenant in counted if at > second - WINDOW_S}
            open_ = open_ and len(roots) * 2 >= most
        assert (tripwire.incident is not None) == open_
