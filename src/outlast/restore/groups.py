"""Small tenants that share a transaction: planned one by one from shared reads, then written and proven together.

A tenant of fifty rows costs some twenty statements by itself, most of which say little about it. A group asks each of
them once for all its tenants. Every promise stays the tenant's own: its plan, its roots, its proof. A group that fails
is split in halves, until the tenant that was the reason stands alone, where it is told why.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

import psycopg

from outlast.core.errors import OutlastError, Refused, TransientError, VaultError
from outlast.core.plan import TenantPlan, TenantState
from outlast.core.table import Table, TableName
from outlast.core.tenant import RESERVED, TenantKey
from outlast.restore.applying import NotExactError, SurplusError
from outlast.restore.attempt import apply_on, notes_on_shared, plan_on, transaction_status
from outlast.restore.history import Past
from outlast.restore.live import LiveRun, group_runs, read_snapshot
from outlast.restore.reversal import Reversal
from outlast.restore.scope import Scope
from outlast.restore.sessions import Work
from outlast.restore.staging import GroupStage, NotGroupableError
from outlast.restore.undo import TenantImages
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write import CountMismatchError
from outlast.sources.postgres.write_conflicts import find_conflicts
from outlast.sources.postgres.write_proof import ReferenceGoneError
from outlast.sources.postgres.write_stage import Stage, ValueRefusedError
from outlast.sources.postgres.write_swaps import SwapRefusedError
from outlast.vault.chunk import Chunk

if TYPE_CHECKING:
    from outlast.restore.restoring import Restorer, Subject

TENANTS_MAX = 100
ROWS_MAX = 5_000
"""A tenant that has more rows in the vault runs alone: it gains nothing from company, and would hold it up."""

_GROUP_ROWS_MAX = 20_000
_GROUP_BYTES_MAX = 24 * 1024 * 1024  # of staged rows, and again of live ones
_AHEAD_MAX = 2 * TENANTS_MAX


class SplitError(Exception):
    """Something is in the way of a group as a whole; in its halves it will show whose it is."""


@dataclass(frozen=True, slots=True)
class Member:
    """One tenant of a group: what is stored of it, and the plan that was shown of it, if one was."""

    subject: Subject
    past: Past | Reversal | None  # None: it could not be read, which is told where the tenant stands alone
    shown: TenantPlan | None = None

    @property
    def key(self) -> TenantKey:
        return self.subject.tenant.key

    @property
    def rows(self) -> int:
        if self.past is None:
            return 0
        if isinstance(self.past, Reversal):
            return self.past.rows
        return sum(table.rows for table in self.past.tables.values())

    @property
    def groupable(self) -> bool:
        return (
            self.past is not None
            and self.rows <= ROWS_MAX
            and self.key not in RESERVED
            and not (self.shown is not None and (self.shown.conflicts or self.shown.resolutions))
        )


@dataclass(frozen=True, slots=True)
class GroupLive:
    """One tenant's live rows out of what was read for its group."""

    runs: Mapping[tuple[TenantKey, TableName], LiveRun]
    tenant: TenantKey
    seen: str  # the pg_snapshot that was read

    def run(self, table: Table) -> LiveRun:
        return self.runs.get((self.tenant, table.name)) or LiveRun(table, (), ())

    def chunks(self, table: Table) -> Iterator[Chunk]:
        raise NotGroupableError

    def snapshot(self) -> str:
        return self.seen


@dataclass(slots=True)
class Groups:
    """Restores subjects in groups, through a Restorer's sessions. `execute` False: plans them only.

    With several `lanes`, so many groups are under way at once, each in sessions of its own.
    """

    restorer: Restorer
    shown: Mapping[TenantKey, TenantPlan]
    execute: bool
    fetches_at_once: int = 1
    lanes: int = 1
    _written: dict[TenantKey, tuple[str, TenantPlan]] = field(default_factory=dict)

    def run(self, subjects: Iterable[Subject]) -> tuple[TenantPlan, ...]:
        """The outcome for each subject, in their order; without those whose turn had not come when it was to end."""
        order: list[TenantKey] = []

        def noted() -> Iterator[Subject]:
            for subject in subjects:
                order.append(subject.tenant.key)
                yield subject

        outcomes: dict[TenantKey, TenantPlan] = {}
        with closing(self._fetched(noted())) as members:
            groups = _Shared(_grouped(members), self.restorer.goes_on)
            if self.lanes <= 1:
                self._drain(groups, outcomes)
            else:
                with suppress(OutlastError):  # told of each tenant, by whoever asks next
                    self.restorer.scope()  # read once, before the lanes part
                self._drain_in_lanes(groups, outcomes)
        return tuple(outcomes[key] for key in order if key in outcomes)

    def _drain(self, groups: _Shared, outcomes: dict[TenantKey, TenantPlan]) -> None:
        while (group := groups.next()) is not None:
            self.restorer.before_group()
            for member, outcome in self._settle(group):
                outcomes[member.key] = outcome

    def _drain_in_lanes(self, groups: _Shared, outcomes: dict[TenantKey, TenantPlan]) -> None:
        with ExitStack() as opened, ThreadPoolExecutor(self.lanes - 1, "lane") as pool:
            others = [
                replace(self, restorer=opened.enter_context(self.restorer.another())) for _ in range(self.lanes - 1)
            ]
            futures = [pool.submit(other._drain, groups, outcomes) for other in others]
            try:
                self._drain(groups, outcomes)
                for future in futures:
                    future.result()
            finally:
                groups.stop()  # after an interrupt the other lanes end with the groups that they are at

    # Reading what is stored, a little ahead of need

    def _fetched(self, subjects: Iterable[Subject]) -> Generator[Member, None, None]:
        if self.fetches_at_once <= 1:
            for subject in subjects:
                yield self._member(subject)
            return
        ahead: deque[Future[Member]] = deque()
        with ThreadPoolExecutor(self.fetches_at_once, "fetch") as pool:
            try:
                for subject in subjects:
                    ahead.append(pool.submit(self._member, subject))
                    if len(ahead) >= _AHEAD_MAX:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _member(self, subject: Subject) -> Member:
        shown = self.shown.get(subject.tenant.key)
        try:
            return Member(subject, subject.past(), shown)
        except OutlastError:
            return Member(subject, None, shown)  # asked for again where the tenant stands alone, and told there

    # One group

    def _settle(self, group: Sequence[Member]) -> Iterator[tuple[Member, TenantPlan]]:
        if len(group) == 1:
            yield group[0], self._alone(group[0])
            return
        started = time.monotonic()
        try:
            outcomes = self.restorer.persist(lambda: self._together(group))
        except SplitError:
            middle = len(group) // 2
            yield from self._settle(group[:middle])
            yield from self._settle(group[middle:])
            return
        except OutlastError as error:
            for member in group:
                yield member, self.restorer.failed(member.subject, member.shown, error)
            return
        finally:
            self.restorer.sessions.rest()
        seconds = (time.monotonic() - started) / len(group)
        for member in group:
            outcome = outcomes.get(member.key)
            if outcome is None:
                yield member, self._alone(member)
            else:
                yield member, self.restorer.account(replace(outcome, seconds=seconds))

    def _alone(self, member: Member) -> TenantPlan:
        written = self._written.get(member.key)
        return self.restorer.alone(member.subject, member.shown, member.past, execute=self.execute, written=written)

    def _together(self, group: Sequence[Member]) -> dict[TenantKey, TenantPlan]:
        """Plan, and write, all that can go together. Tenants that are not in the answer have to stand alone."""
        sessions, scope = self.restorer.sessions, self.restorer.scope()
        done = self._done_before(group)
        if not self.execute:
            outcomes, due, staged, _ = self._planned(sessions.reader(), scope, group)
            sessions.rest()
            stage = sessions.stage()
            if due:
                self._send(staged, stage)
                state = self._check(stage, scope)
                due = _noted(due, notes_on_shared(sessions.writer(), scope, stage))
                outcomes |= {plan.tenant.key: replace(plan, state=state) for plan in due}
            return outcomes
        with sessions.together() as work:
            outcomes, due, staged, images = self._planned(work.reader, scope, group)
            sessions.rest()
            if due:
                self._send(staged, work.stage)
                due = _noted(due, notes_on_shared(work.writer, scope, work.stage))
                outcomes |= {plan.tenant.key: plan for plan in self._write(work, scope, due, images)}
        return outcomes | done

    def _planned(
        self, reader: Session, scope: Scope, group: Sequence[Member]
    ) -> tuple[dict[TenantKey, TenantPlan], list[TenantPlan], GroupStage, list[TenantImages]]:
        """What is settled already, the plans that are to be written, their rows, and their before-images."""
        staged = GroupStage(_GROUP_BYTES_MAX)
        plans, images = self._plans(reader, scope, group, staged)
        if scope.shared_rows is not None:
            scope.shared_rows.look(reader, staged.accepted)
        outcomes = {plan.tenant.key: plan for plan in plans if plan.state is TenantState.RIGHT}
        return outcomes, [plan for plan in plans if plan.state is TenantState.PLANNED], staged, images

    def _done_before(self, group: Sequence[Member]) -> dict[TenantKey, TenantPlan]:
        """What was committed although the connection was lost during COMMIT: the server remembers."""
        known = {member.key: self._written[member.key] for member in group if member.key in self._written}
        if not known:
            return {}
        writer = self.restorer.sessions.writer()
        numbers = {xid for xid, _ in known.values()}
        committed = {xid for xid in numbers if transaction_status(writer, xid) == "committed"}
        for key in known:
            del self._written[key]
        return {key: replace(plan, state=TenantState.DONE) for key, (xid, plan) in known.items() if xid in committed}

    def _send(self, staged: GroupStage, stage: Stage) -> None:
        try:
            staged.send(stage)
        except ValueRefusedError as error:
            raise SplitError from error

    def _plans(
        self, reader: Session, scope: Scope, group: Sequence[Member], staged: GroupStage
    ) -> tuple[list[TenantPlan], list[TenantImages]]:
        """The plans of those that are as simple as most: nothing in their way, nothing new since they were shown."""
        keys = [member.key for member in group]
        seen = read_snapshot(reader)
        runs = group_runs(reader, scope.catalog, scope.tables_of(keys), keys, _GROUP_BYTES_MAX)
        plans, images = [], []
        for member in group:
            assert member.past is not None
            image = self._images(member)
            staged.begin()
            try:
                plan = plan_on(reader, GroupLive(runs, member.key, seen), staged, scope, member.past, image)
            except (NotGroupableError, VaultError, Refused):
                continue
            if plan.state is TenantState.PLANNED:
                if plan.conflicts or (member.shown is not None and not plan.agrees_with(member.shown)):
                    continue
                staged.accept()
                images += [] if image is None else [image]
            elif plan.state is not TenantState.RIGHT:
                continue
            plans.append(plan)
        staged.begin()
        return plans, images

    def _images(self, member: Member) -> TenantImages | None:
        keeper, place = self.restorer.keeper, member.subject.place
        if not self.execute or keeper is None or place is None:
            return None
        return keeper.images(member.subject.tenant, place)

    def _check(self, stage: Stage, scope: Scope) -> TenantState:
        """Whether anything stands in the way of the staged rows. Whose it is does not matter here."""
        writer = self.restorer.sessions.writer()
        if next(find_conflicts(writer, scope.catalog, stage, scope.facts, TenantKey("")), None) is not None:
            raise SplitError
        return TenantState.PLANNED

    def _write(
        self, work: Work, scope: Scope, plans: Sequence[TenantPlan], images: Sequence[TenantImages]
    ) -> list[TenantPlan]:
        try:
            applied = apply_on(work, scope, plans, self.restorer.keeper, images)
        except (NotExactError, SurplusError, CountMismatchError, SwapRefusedError, ReferenceGoneError) as error:
            raise SplitError from error
        except psycopg.Error as error:
            told = explain(error, f"write the rows of {len(plans)} tenants")
            if isinstance(told, TransientError) and self.restorer.sessions.lost:
                if work.xid is not None:  # perhaps done: it may have been COMMIT's answer
                    self._written |= {plan.tenant.key: (work.xid, plan) for plan in plans}
                raise told from error  # no tenant's fault
            raise SplitError from error
        notes, kept = applied.notes, applied.kept
        return [replace(plan, state=TenantState.DONE, notes=(*plan.notes, *notes), kept=kept) for plan in plans]


def _noted(plans: Sequence[TenantPlan], notes: tuple[str, ...]) -> list[TenantPlan]:
    """With what is told of the group as a whole."""
    return [replace(plan, notes=(*plan.notes, *notes)) for plan in plans]


class _Shared:
    """Groups that several lanes take from, one at a time. What ends one lane ends all."""

    def __init__(self, groups: Iterator[list[Member]], goes_on: Callable[[], bool]) -> None:
        self._groups = groups
        self._goes_on = goes_on
        self._lock = Lock()
        self._stopped = False

    def next(self) -> list[Member] | None:
        with self._lock:
            if self._stopped or not self._goes_on():
                return None
            return next(self._groups, None)

    def stop(self) -> None:
        self._stopped = True


def _grouped(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Groups of small tenants, and every other tenant by itself, as soon as each is known."""
    group: list[Member] = []
    rows = 0
    for member in members:
        if not member.groupable:
            yield [member]
            continue
        if group and (len(group) >= TENANTS_MAX or rows + member.rows > _GROUP_ROWS_MAX):
            yield group
            group, rows = [], 0
        group.append(member)
        rows += member.rows
    if group:
        yield group
