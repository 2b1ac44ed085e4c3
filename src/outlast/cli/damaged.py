"""`restore --damage-since`: the tenants of a damage report, and for each what is to be taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from outlast.cli.opening import Invocation
from outlast.core.effect import Operation
from outlast.core.errors import Refused, UsageError
from outlast.core.recipe import Mode, Recipe

if TYPE_CHECKING:
    from outlast.core.plan import Plan
    from outlast.core.table import TableName
    from outlast.restore.damage import DamageReport
    from outlast.restore.history import At
    from outlast.restore.reversal import Reversal
    from outlast.vault.reader import TenantEntry

_LOSSES = frozenset({Operation.HARD_DELETE, Operation.TRUNCATE, Operation.SOFT_DELETE})


def check_options(recipe: Recipe, at: str, until: str | None, since: str | None) -> None:
    """Raises UsageError for options that do not go together."""
    if since is None:
        if until is not None:
            raise UsageError("--until goes with --damage-since", hint="Name the moment to restore to with --at.")
        return
    if at != "latest":
        raise UsageError(
            "--at does not go with --damage-since: each row comes back as it was just before it was deleted",
            hint="Leave --at out, or name tenants and --at without --damage-since.",
        )
    if recipe.mode is not Mode.MISSING or recipe.where:
        option = f"--mode {recipe.mode.value}" if recipe.mode is not Mode.MISSING else "--where"
        raise UsageError(
            f"{option} does not go with --damage-since, which takes back what was damaged and nothing else",
            hint="To make tenants equal to a moment: outlast restore TENANT… --at MOMENT --mode rewind",
        )


def cannot_tell(found: DamageReport) -> Refused | None:
    """Where the log knows of no damage, and does not know all that happened: that is not the same as none."""
    if found.found or not found.gaps:
        return None
    return Refused(
        f"cannot say whether somebody lost something: {found.gaps[0]}",
        hint=f"Compare tenants with how they were: outlast diff TENANT --at {found.begin} --to live",
        code="log-gap",
    )


def damage_of(
    invocation: Invocation,
    source: str,
    since: str,
    until: str | None,
    transactions: Sequence[int],
    *,
    excluded: frozenset[TableName] = frozenset(),
) -> DamageReport:
    """What was damaged since, by anybody or by these transactions."""
    end = None if until is None else invocation.moment(source, until, excluded=excluded)
    return _report(invocation, source, invocation.moment(source, since, excluded=excluded), end, transactions)


def _report(
    invocation: Invocation, source: str, since: At, until: At | None, transactions: Sequence[int]
) -> DamageReport:
    from outlast.restore.damage import report
    from outlast.restore.damage_reversal import only

    for xid in transactions:
        report(invocation.vault, source, since, until, xid=xid)  # told where there is none of that number
    found = report(invocation.vault, source, since, until)
    return only(found, transactions) if transactions else found


def damaged_entries(
    invocation: Invocation, source: str, found: DamageReport, names: Sequence[str]
) -> list[TenantEntry]:
    """Those whose rows were damaged, the largest loss first; or, where names are given, those. A TRUNCATE took rows of
    everybody who had some: then everybody is looked at."""
    from outlast.core.tenant import ALL, RESERVED
    from outlast.restore.history import all_entries, find_entries

    if names:
        end = replace(found.since, position=found.end, epoch=found.epoch)  # some tenants came within the time
        return list({one.prefix: one for one in find_entries(invocation.vault, source, names, end)}.values())
    timeline = found.since.timeline
    entries: dict[str, TenantEntry] = {}
    for one in found.tenants:
        if not any(operation in _LOSSES for _, _, operation in (*one.hard.counts, *one.soft.counts)):
            continue
        if one.tenant.key == ALL:
            entries |= {entry.prefix: entry for entry in all_entries(invocation.vault, source, found.since)}
        elif one.tenant.key not in RESERVED:
            base = timeline.epochs.base_of(found.epoch, one.prefix, found.end)
            entries[one.prefix] = timeline.entry(one.prefix, found.epoch, base, found.end)
    return list(entries.values())


def damage_to(invocation: Invocation, plan: Plan) -> Callable[[TenantEntry], Reversal]:
    """What a plan of `--damage-since` takes back, tenant by tenant."""
    from outlast.restore.damage_reversal import damage_reversal
    from outlast.restore.moments import resolve

    recipe, vault, source, spool = plan.recipe, invocation.vault, plan.source, invocation.config.key_dir
    assert recipe.damage_since is not None
    assert recipe.damage_until is not None
    since, until = (
        resolve(vault, source, text, spool, excluded=recipe.without)
        for text in (recipe.damage_since, recipe.damage_until)
    )
    found = _report(invocation, source, since, until, recipe.transactions)
    return lambda entry: damage_reversal(found, entry, whole=bool(recipe.transactions))
