"""Following in one database, set up, looked after and taken away: the calls that commands and `follow` make.

What a plan holds is decided in following.py and following_teardown.py, how its steps are run in following_steps.py, and
what is not as it should be in following_health.py. A session given here must be in autocommit mode where it writes.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import psycopg

from outlast.core.errors import OutlastError, Refused
from outlast.core.plan import new_plan_id
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.following import FollowingSettings, plan_adoption, plan_setup
from outlast.sources.postgres.following_facts import read_following
from outlast.sources.postgres.following_health import verify
from outlast.sources.postgres.following_plan import FollowingPlan
from outlast.sources.postgres.following_steps import Patience, StepResult, StepState, carry_out
from outlast.sources.postgres.following_teardown import plan_teardown, read_changed
from outlast.sources.postgres.running import RunningTransactions
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session

__all__ = ["adopt_new_partitions", "planned_setup", "planned_teardown", "set_up", "tear_down", "undone", "verify"]

OLD_S = 60.0
"""A transaction that has run for so long may well go on: the first `follow` will wait for it."""


def planned_setup(session: Session, catalog: Catalog, settings: FollowingSettings) -> FollowingPlan:
    """What following needs made in the database that `session` is in; nothing is done."""
    facts = read_following(session, catalog, settings.names)
    if facts.slot is None:
        facts = replace(facts, running=_old(session))
    return plan_setup(facts, catalog, settings, new_plan_id(datetime.now(UTC)))


def _old(session: Session) -> RunningTransactions:
    try:
        return RunningTransactions.read(session, least_s=OLD_S)
    except psycopg.Error as error:
        raise explain(error, "look at the transactions that run") from error


def planned_teardown(session: Session, catalog: Catalog, settings: FollowingSettings) -> FollowingPlan:
    """What of it is there, and would be taken away."""
    facts = read_following(session, catalog, settings.names)
    return plan_teardown(facts, read_changed(session, facts, settings), settings, new_plan_id(datetime.now(UTC)))


def set_up(
    session: Session, catalog: Catalog, settings: FollowingSettings, patience: Patience | None = None
) -> tuple[StepResult, ...]:
    """Plan and carry out at once. Raises Refused where the plan is, OutlastError where a needed step was not done."""
    return _at_once(session, planned_setup(session, catalog, settings), patience)


def tear_down(
    session: Session, catalog: Catalog, settings: FollowingSettings, patience: Patience | None = None
) -> tuple[StepResult, ...]:
    """The same for taking it away."""
    return _at_once(session, planned_teardown(session, catalog, settings), patience)


def adopt_new_partitions(
    session: Session, catalog: Catalog, settings: FollowingSettings, patience: Patience | None = None
) -> tuple[StepResult, ...]:
    """Publish partitions that came since setup, where each has to be named. Nothing else is changed.

    Only the tables' owner may: for another role the results say what it lacks, and `verify` goes on to tell of them.
    """
    facts = read_following(session, catalog, settings.names)
    plan = plan_adoption(facts, catalog, settings, new_plan_id(datetime.now(UTC)))
    return carry_out(session, plan, patience)


def _at_once(session: Session, plan: FollowingPlan, patience: Patience | None) -> tuple[StepResult, ...]:
    if plan.refusals:
        first = plan.refusals[0]
        raise Refused(first.message, hint=first.hint, code=first.code)
    results = carry_out(session, plan, patience)
    left = undone(results)
    if left:
        raise OutlastError(f"{left[0].step.what} was not done: {left[0].error}", code=f"setup-{left[0].state.value}")
    return results


def undone(results: tuple[StepResult, ...]) -> list[StepResult]:
    """The steps without which following does not work as planned, of those that were not done."""
    return [result for result in results if result.state is not StepState.DONE and not result.step.optional]
