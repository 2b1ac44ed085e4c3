"""How this process restores the tenants of a plan: its sessions, lanes and throttle, by outlast.toml and options.

`restore` and `apply` use it, and workers, which have only the plan.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from outlast.cli.opening import Invocation
from outlast.core.errors import Refused, VaultKeyError

if TYPE_CHECKING:
    from outlast.core.plan import Plan, TenantPlan
    from outlast.restore.ahead import ReadingAhead
    from outlast.restore.history import At, Past
    from outlast.restore.restoring import Restorer, Subject
    from outlast.restore.reversal import Reversal
    from outlast.restore.sessions import Sessions
    from outlast.restore.throttle import Throttle
    from outlast.restore.undo import UndoKeeper
    from outlast.sources.postgres.load import Load
    from outlast.sources.postgres.session import Session, Target
    from outlast.vault.reader import TenantEntry
    from outlast.vault.signature import Signer

_FETCHES_AT_ONCE = 8
_COLLECT_AFTER = (50_000, 20, 50)


@contextmanager
def opened_restorer(
    invocation: Invocation,
    plan: Plan,
    on_tenant: Callable[[TenantPlan], None],
    *,
    lanes: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Restorer]:
    """A Restorer for one plan, whose sessions are closed afterwards. `lanes` None: as outlast.toml has it."""
    from outlast.restore.restoring import Restorer
    from outlast.restore.sessions import Sessions
    from outlast.sources.postgres.write_facts import TriggerRules

    settings = invocation.config.document.restore
    limit_s = settings.lock_timeout.total_seconds()
    rules = TriggerRules(frozenset(settings.fire_triggers), frozenset(settings.accept_triggers))
    _collect_seldom()
    opened = Sessions(target_of(invocation, plan), lock_timeout_s=limit_s)
    with opened as sessions, _throttle(invocation, sessions, say) as throttle:
        yield Restorer(
            sessions,
            lambda session: invocation.catalog(session, plan.source),
            plan.recipe,
            keeper_of(invocation, plan),
            rules,
            lambda: shared_past(invocation, plan),
            on_tenant=on_tenant,
            lanes=lanes or invocation.config.document.jobs.parallel,
            before_group=throttle.hold,
            fetches_at_once=_FETCHES_AT_ONCE if invocation.store.is_remote else 1,
        )


def _collect_seldom() -> None:
    """What a restore makes by the hundred thousand is in no cycle, and looking for some was a tenth of its time."""
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def target_of(invocation: Invocation, plan: Plan) -> Target:
    from outlast.sources.postgres.session import Target

    return invocation.restore_target(plan.source) if plan.target is None else Target(plan.target)


def keeper_of(invocation: Invocation, plan: Plan) -> UndoKeeper | None:
    """What keeps the plan's before-images in the vault; None where it was asked to go without."""
    from outlast.restore.undo import UndoKeeper
    from outlast.vault.undo import UndoWriter

    if plan.recipe.without_undo:
        return None
    return UndoKeeper(lambda: UndoWriter(invocation.store, plan.source, plan.id, undo_signer(invocation)))


def undo_signer(invocation: Invocation) -> Signer:
    """Raises Refused where this host has no keys to write to the vault: nothing could be undone then."""
    try:
        return invocation.writer_keys.signer
    except VaultKeyError as error:
        raise Refused(
            f"cannot write to the source from this host: what `outlast undo` needs could not be kept ({error.message})",
            hint="Put naming.key and signing.key of the host that backs up under [keys] dir here, or run it there."
            " If they are lost, restore with --without-undo.",
            code="no-undo",
        ) from error


def entries_of(invocation: Invocation, plan: Plan, names: Sequence[str]) -> list[TenantEntry]:
    """Tenants by key or label as of the plan's moment; of a damage, as of its end: some came within it.

    Of an undo, by key, as its plan's before-images have them: no run has to know them, nor this host the plan.
    """
    from outlast.restore.history import find_entries, resolve
    from outlast.restore.undone import undone_tenants

    if plan.recipe.undo_of:
        found = undone_tenants(invocation.vault, plan.source, plan.recipe.undo_of, names)
        if gone := set(names) - {entry.tenant.key for entry in found}:
            raise Refused(
                f"{len(gone):,} tenants of plan {plan.recipe.undo_of} have no before-image in the vault any more",
                hint="What is left of it: outlast undo with its id plans anew.",
                code="nothing-to-undo",
            )
        return found
    moment = plan.recipe.damage_until or moment_text(plan)
    at = resolve(invocation.vault, plan.source, moment, excluded=plan.recipe.without)
    return find_entries(invocation.vault, plan.source, names, at)


def read_ahead(invocation: Invocation, tenants: int) -> ReadingAhead | None:
    """A process that is to read what is stored of so many tenants, started before anything else is known: it takes as
    long to start as we do. None where it would not pay. Ends with the command."""
    from outlast.restore.ahead import TENANTS_MIN, ReadingAhead

    if tenants < TENANTS_MIN or len(os.sched_getaffinity(0)) == 1:
        return None
    return invocation.closing.enter_context(ReadingAhead())


def begin_ahead(
    invocation: Invocation, ahead: ReadingAhead, source: str, moment: At, entries: Sequence[TenantEntry]
) -> None:
    """Have it read, where the moment is a run's own: what the log adds to one is read by us."""
    from outlast.restore.ahead import Wanted

    if moment.position is None:
        url, pin, identity = invocation.store.url, invocation.pin, invocation.identity
        ahead.begin(Wanted(url, pin, identity, source, str(moment), entries))


def subjects_of(
    invocation: Invocation, plan: Plan, entries: Sequence[TenantEntry], ahead: ReadingAhead | None = None
) -> list[Subject]:
    """The tenants with what is wanted of them, which is read as each one's turn comes, where it was not `ahead`."""
    from outlast.restore.restoring import Subject
    from outlast.restore.undo import Place

    read: Callable[[TenantEntry], Past | Reversal]
    if plan.recipe.undo_of:
        read = _undone(invocation, plan)
    elif plan.recipe.damage_since:
        from outlast.cli.damaged import damage_to

        read = damage_to(invocation, plan)
    else:
        read = _stored(invocation, plan, ahead)
    return [
        Subject(entry.tenant, lambda entry=entry: read(entry), Place(entry.prefix, entry.recipient))  # type: ignore[misc]
        for entry in entries
    ]


def _stored(invocation: Invocation, plan: Plan, ahead: ReadingAhead | None) -> Callable[[TenantEntry], Past]:
    from outlast.restore.history import resolve, restorable

    vault = invocation.vault
    at = resolve(vault, plan.source, moment_text(plan), excluded=plan.recipe.without)

    def read(entry: TenantEntry) -> Past:
        return restorable(vault, plan.source, entry, at)

    return read if ahead is None else lambda entry: ahead.past(entry, read)


def _undone(invocation: Invocation, plan: Plan) -> Callable[[TenantEntry], Reversal]:
    from outlast.restore.undo import reversal_of
    from outlast.vault.undo import list_undo

    vault, undone = invocation.vault, plan.recipe.undo_of
    assert undone is not None
    objects = list_undo(vault.store, plan.source, undone, vault.pin.signers)
    committed = committed_in(target_of(invocation, plan))

    def read(entry: TenantEntry) -> Reversal:
        key = vault.key(plan.source, entry)
        return reversal_of(vault.store, objects, entry.prefix, undone, key, committed)

    return read


def committed_in(target: Target) -> Callable[[str], bool]:
    """Tells of a transaction of that database, by its number, whether it was committed. Asks once; safe for lanes."""
    from outlast.restore.attempt import transaction_status
    from outlast.sources.postgres.session import connect

    known: dict[str, bool] = {}
    lock = Lock()

    def committed(xid: str) -> bool:
        with lock:
            if xid not in known:
                with connect(target, role="restore", autocommit=True) as session:
                    # One too old for the server to remember counts: what it wrote is held against what is live anyway
                    known[xid] = transaction_status(session, xid) != "aborted"
            return known[xid]

    return committed


def shared_past(invocation: Invocation, plan: Plan) -> Past:
    """The shared tables as they were at the plan's moment."""
    from outlast.core.tenant import SHARED
    from outlast.restore.history import find_entry, past_at, resolve

    at = resolve(invocation.vault, plan.source, moment_text(plan), excluded=plan.recipe.without)
    return past_at(invocation.vault, plan.source, find_entry(invocation.vault, plan.source, SHARED, at), at)


def moment_text(plan: Plan) -> str:
    """How the plan's moment is named again, here or on another machine."""
    return plan.at or f"run:{plan.run}"


@contextmanager
def _throttle(invocation: Invocation, sessions: Sessions, say: Callable[[str], None]) -> Iterator[Throttle]:
    from outlast.restore.throttle import Throttle
    from outlast.sources.postgres.load import read_load
    from outlast.sources.postgres.session import connect

    settings = invocation.config.document.jobs
    opened: list[Session] = []

    def read() -> Load:
        if not opened or opened[0].closed:
            opened[:] = [connect(sessions.target, role="restore", autocommit=True)]
        return read_load(opened[0])

    lag_max = settings.lag_max
    yield Throttle(
        read,
        None if lag_max is None else lag_max.total_seconds(),
        settings.active_max,
        settings.pause_max.total_seconds(),
        say,
    )
    for session in opened:
        session.close()
