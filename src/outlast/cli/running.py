"""How a guarded run is opened on this host: its receipt, its approvals, the session as the script's role, the vault."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from outlast.cli.opening import Invocation
from outlast.cli.restoring import undo_signer
from outlast.core.errors import NotFoundError, Refused

if TYPE_CHECKING:
    from outlast.core.tenant import Tenant, TenantKey
    from outlast.rehearsal.receipt import Receipt
    from outlast.rehearsal.rehearse import Rehearsal, Request
    from outlast.rehearsal.run import About, Runner
    from outlast.restore.moments import At
    from outlast.restore.undo import Place
    from outlast.vault.reader import TenantEntry
    from outlast.vault.receipt import ReceiptShelf, Record


def whoever() -> str:
    """The name of whoever is at this terminal, where no other was given."""
    return getpass.getuser()


def shelf_of(invocation: Invocation, source: str) -> ReceiptShelf:
    from outlast.vault.receipt import ReceiptShelf

    pin = invocation.pin
    return ReceiptShelf(invocation.store, source, pin.recipients, pin.signers, invocation.vault.identity)


def receipt_for(invocation: Invocation, request: Request, done: Rehearsal, by: str | None) -> Receipt | None:
    """The receipt of a rehearsal; None, with the reason said, where there is none to give."""
    from outlast.rehearsal.verdict import Outcome

    if done.verdict.outcome is not Outcome.WITHIN:
        return None
    try:
        return give_receipt(invocation, request, done, by or whoever())
    except Refused as error:
        invocation.output.note(f"No receipt: {error.message}.\nHint: {error.hint}")
        return None


def give_receipt(invocation: Invocation, request: Request, done: Rehearsal, by: str) -> Receipt:
    """Keep a receipt for a rehearsal that was within its intent. Raises Refused where it cannot be run guarded, and
    where this host has no key to sign it with."""
    from outlast.rehearsal.receipt import Receipt, schema_digest

    if request.script is None or request.intent is None:
        raise Refused("a command has no receipt: running it is unguarded", hint="A .sql file can be run guarded.")
    now = datetime.now(UTC)
    receipt = Receipt.of(
        done.observed,
        request.script,
        request.intent,
        source=request.source,
        schema=schema_digest(done.catalog),
        by=by,
        now=now,
        expires=now + invocation.config.document.rehearsal.receipt_max_age,
    )
    signer = undo_signer(invocation)
    shelf_of(invocation, request.source).put(receipt.id, receipt.to_content(), signer)
    return receipt


@dataclass(frozen=True)
class Held:
    """A receipt out of the vault, with who approved it and the runs that used it."""

    shelf: ReceiptShelf
    receipt: Receipt
    record: Record
    approved_by: tuple[str, ...]
    runs: tuple[Record, ...]


def hold(invocation: Invocation, source: str, given: str) -> Held:
    """A receipt by its id or how it begins."""
    from outlast.rehearsal.receipt import Receipt

    shelf = shelf_of(invocation, source)
    record = shelf.get(shelf.find(given))
    receipt = Receipt.from_content(record.content)
    approvers = invocation.config.document.rehearsal.approvers
    names = dict.fromkeys(str(one.content["by"]) for one in shelf.approvals(receipt.id, approvers))
    return Held(shelf, receipt, record, tuple(names), tuple(shelf.runs(receipt.id)))


def check_approvals(invocation: Invocation, held: Held) -> None:
    """Raise Refused where fewer people than outlast.toml asks for have approved it, whoever rehearsed it apart."""
    needed = invocation.config.document.rehearsal.approvals
    others = [name for name in held.approved_by if name.casefold() != held.receipt.by.casefold()]
    if len(others) < needed:
        of = f"{len(others)} of {needed} approvals" if needed > 1 else "no approval"
        raise Refused(
            f"receipt {held.receipt.id} has {of} by somebody other than {held.receipt.by}, who rehearsed it",
            hint=f"Somebody of [rehearsal] approvers in outlast.toml: outlast approve {held.receipt.id}",
            code="not-approved",
        )


def done_tenants(held: Held, committed: Mapping[str, bool]) -> frozenset[str] | None:
    """The tenants for whom the receipt was used already; None: all of it was."""
    used: set[str] = set()
    for run in held.runs:
        if not committed[run.path]:
            continue
        tenants = run.content["tenants"]
        if tenants is None:
            return None
        used.update(tenants)
    return frozenset(used)


def committed_runs(invocation: Invocation, source: str, runs: Sequence[Record]) -> Mapping[str, bool]:
    """Of each run of a receipt, by its path, whether its transaction was committed: the server knows."""
    from outlast.restore.attempt import transaction_status
    from outlast.sources.postgres.session import connect

    found = {run.path: not run.content["xid"] for run in runs}  # an unguarded one has no transaction, and counts
    asked = [run for run in runs if run.content["xid"]]
    if asked:
        with connect(invocation.script_target(source), role="run", autocommit=True) as session:
            for run in asked:
                # One too old for the server to remember counts: a receipt is never used twice
                found[run.path] = transaction_status(session, run.content["xid"]) != "aborted"
    return found


@dataclass
class RunKeeper:
    """Keeps each transaction of one run in the vault before it commits. `numbers` are taken one by one."""

    held: Held
    invocation: Invocation
    run: str
    by: str
    tenants: tuple[str, ...] | None = None
    number: int = 0

    def record(self, about: About) -> None:
        self.number = max(self.number, len(self.held.runs)) + 1
        content = {
            "run": self.run,
            "xid": about.xid,
            "database": about.database,
            "by": self.by,
            "at": datetime.now(UTC).isoformat(),
            "tenants": None if self.tenants is None else list(self.tenants),
            "approved_by": list(self.held.approved_by),
            "effect": about.effect.to_record(),
            "kept": about.kept,
        }
        self.held.shelf.claim(self.held.receipt.id, self.number, content, undo_signer(self.invocation))


@contextmanager
def opened_runner(invocation: Invocation, keeper: RunKeeper) -> Iterator[Runner]:
    """A Runner for one receipt, whose session is closed afterwards."""
    from outlast.rehearsal.performing import Settings
    from outlast.rehearsal.run import Runner
    from outlast.restore.undo import UndoKeeper
    from outlast.sources.postgres.session import connect
    from outlast.vault.undo import UndoWriter

    receipt = keeper.held.receipt
    settings = invocation.config.document.rehearsal
    limits = Settings(settings.lock_timeout.total_seconds(), settings.statement_timeout.total_seconds())
    target = invocation.script_target(receipt.source)
    with connect(target, role="run", autocommit=True, read_only=False) as session:
        yield Runner(
            session,
            lambda connection: invocation.catalog(connection, receipt.source),
            UndoKeeper(lambda: UndoWriter(invocation.store, receipt.source, keeper.run, undo_signer(invocation))),
            lambda tenants: places_of(invocation, receipt.source, tenants),
            keeper.record,
            limits,
            receipt.undo_waived_by is None,
            settings.attempts,
            invocation.output.note,
        )


def places_of(
    invocation: Invocation, source: str, tenants: Iterable[TenantKey]
) -> Mapping[TenantKey, tuple[Tenant, Place]]:
    """Where each tenant's before-images belong; one that the vault does not know yet is left out."""
    from outlast.restore.history import find_entries
    from outlast.restore.moments import resolve
    from outlast.restore.undo import Place

    at = resolve(invocation.vault, source, "latest", invocation.config.key_dir)
    found = {}
    wanted = sorted(tenants)
    try:
        entries = find_entries(invocation.vault, source, wanted, at)
    except NotFoundError:
        entries = [entry for name in wanted for entry in _entry(invocation, source, name, at)]
    for entry in entries:
        found[entry.tenant.key] = (entry.tenant, Place(entry.prefix, entry.recipient))
    return found


def _entry(invocation: Invocation, source: str, name: str, at: At) -> list[TenantEntry]:
    from outlast.restore.history import find_entries

    try:
        return find_entries(invocation.vault, source, [name], at)
    except NotFoundError:
        return []
