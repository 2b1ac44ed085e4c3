"""`restore --damage-since`: the tenants of a damage report, and for each the rows that it lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from outlast.cli.opening import Invocation
from outlast.core.effect import Operation
from outlast.core.errors import UsageError
from outlast.core.recipe import Mode, Recipe

if TYPE_CHECKING:
    from outlast.core.plan import Plan
    from outlast.restore.damage import DamageReport
    from outlast.restore.history import Past
    from outlast.vault.reader import TenantEntry

_LOSSES = frozenset({Operation.HARD_DELETE, Operation.TRUNCATE})


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
    if recipe.mode is not Mode.MISSING:
        raise UsageError(
            f"--mode {recipe.mode.value} does not go with --damage-since, which only puts back deleted rows",
            hint="To make tenants equal to a moment: outlast restore TENANT… --at MOMENT --mode rewind",
        )


def damage_of(invocation: Invocation, source: str, since: str, until: str | None) -> DamageReport:
    from outlast.restore.damage import report

    end = None if until is None else invocation.moment(source, until)
    return report(invocation.vault, source, invocation.moment(source, since), end)


def damaged_entries(
    invocation: Invocation, source: str, found: DamageReport, names: Sequence[str]
) -> list[TenantEntry]:
    """Those whose rows were deleted, the largest loss first; or, where names are given, those. A TRUNCATE took rows of
    everybody who had some: then everybody is looked at."""
    from outlast.core.tenant import ALL, RESERVED
    from outlast.restore.history import all_entries, find_entries

    if names:
        return list({one.prefix: one for one in find_entries(invocation.vault, source, names, found.since)}.values())
    timeline = found.since.timeline
    entries: dict[str, TenantEntry] = {}
    for one in found.tenants:
        if not any(operation in _LOSSES for _, _, operation in one.hard.counts):
            continue
        if one.tenant.key == ALL:
            entries |= {entry.prefix: entry for entry in all_entries(invocation.vault, source, found.since)}
        elif one.tenant.key not in RESERVED:
            base = timeline.epochs.base_of(found.epoch, one.prefix, found.end)
            entries[one.prefix] = timeline.entry(one.prefix, found.epoch, base, found.end)
    return list(entries.values())


def lost_rows(invocation: Invocation, plan: Plan) -> Callable[[TenantEntry], Past]:
    """What a plan of `--damage-since` puts back, tenant by tenant."""
    from outlast.restore.damage import report
    from outlast.restore.deleted import deleted_past
    from outlast.restore.moments import resolve

    since, until = plan.recipe.damage_since, plan.recipe.damage_until
    assert since is not None
    assert until is not None
    vault, source, spool = invocation.vault, plan.source, invocation.config.key_dir
    found = report(vault, source, resolve(vault, source, since, spool), resolve(vault, source, until, spool))
    return lambda entry: deleted_past(found, entry, invocation.config.key_dir)
