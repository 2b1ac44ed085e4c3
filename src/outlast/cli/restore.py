"""`outlast restore TENANT…`: plan to put tenants back, show it, and with --execute do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.carrying_out import Way, carry_out
from outlast.cli.damaged import cannot_tell, check_options, damage_of, damaged_entries
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.recipes import Extent, recipe_of
from outlast.cli.restoring import begin_ahead, read_ahead
from outlast.core.errors import ExitCode, UsageError
from outlast.core.plan import Mode, Plan, new_plan_id
from outlast.core.recipe import Prefer

if TYPE_CHECKING:
    pass


def restore(
    context: typer.Context,
    tenants: Annotated[
        list[str] | None, typer.Argument(metavar="TENANT...", help="Keys or labels of the tenants.")
    ] = None,
    tenants_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with one tenant's key or label a line.")
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="MOMENT", help="latest, a timestamp, run:7, an LSN, or before:TRANSACTION.")
    ] = "latest",
    mode: Annotated[
        Extent, typer.Option(help="missing: put back what is gone. rewind: make everything as it was.")
    ] = Extent.MISSING,
    delete_newer: Annotated[
        bool, typer.Option("--delete-newer", help="With --mode rewind: delete the rows that came since.")
    ] = False,
    table: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="Only this table; may be given several times.")
    ] = None,
    exclude_table: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="All but this table; may be given several times.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Only the row of --table with this key, and what was deleted along with it."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="With --mode rewind: the larger value of this column stays."),
    ] = None,
    on_conflict: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONSTRAINT=POLICY", help="What to do where its value is taken: suffix, null, skip, remap, abort."
        ),
    ] = None,
    with_shared: Annotated[
        bool, typer.Option("--with-shared", help="Put back shared rows that the tenants' rows point at, too.")
    ] = False,
    damage_since: Annotated[
        str | None,
        typer.Option(metavar="MOMENT", help="Take back what was deleted since; without TENANT: everybody's."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="With --damage-since: and up to this moment.")
    ] = None,
    transaction: Annotated[
        list[int] | None,
        typer.Option(metavar="XID", help="With --damage-since: all that this transaction deleted or changed, only."),
    ] = None,
    prefer: Annotated[
        Prefer | None,
        typer.Option(help="With --damage-since, for rows changed again since: live leaves them, vault does not."),
    ] = None,
    without_undo: Annotated[
        bool, typer.Option("--without-undo", help="Keep nothing to take it back with: this host has no signing.key.")
    ] = False,
    into: Annotated[
        str | None, typer.Option(metavar="URL", help="Write into this database with the same tables instead.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now, as planned, instead of only showing it.")] = (
        False
    ),
    parallel: Annotated[
        int | None, typer.Option(min=1, max=32, metavar="N", help="Groups of tenants restored at once.")
    ] = None,
    job: Annotated[
        bool, typer.Option("--job", help="Make it a durable job, as a restore of very many tenants always is.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Put the job into the queue and leave it to the workers there.")
    ] = False,
    events: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Append a JSON line for each tenant as it is finished; - is stdout."),
    ] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Plan to put tenants back into the live tables, and with --execute do it.

    Each tenant is one transaction, which is committed only if what it reads back is exactly what was planned. Rows of
    other tenants are never touched, and with --mode missing no row that exists. What stands in the way is listed, and
    refused with exit code 3. What a restore changed can be taken back: outlast undo PLAN.
    """
    invocation = Invocation.of(context)
    names = _names(tenants or [], tenants_file, needed=damage_since is None)
    ahead = read_ahead(invocation, len(names)) if damage_since is None else None
    from outlast.restore.history import find_entries

    recipe = recipe_of(
        Mode(mode.value),
        table or [],
        where or [],
        keep or [],
        on_conflict or [],
        delete_newer=delete_newer,
        excluded=exclude_table or [],
    )
    recipe = replace(recipe, with_shared=with_shared, without_undo=without_undo)
    check_options(recipe, at, until, damage_since)
    chosen = tuple(transaction or ())
    if damage_since is None and (chosen or prefer):
        raise UsageError(f"{'--transaction' if chosen else '--prefer'} goes with --damage-since")
    damage = None
    if damage_since is not None:
        damage = damage_of(invocation, source, damage_since, until, chosen, excluded=recipe.without)
    if damage is not None:
        since, end = damage.since.text, str(damage.end)
        recipe = replace(
            recipe, mode=Mode.REVERSE, damage_since=since, damage_until=end, transactions=chosen, prefer=prefer
        )
    moment = invocation.moment(source, at, excluded=recipe.without) if damage is None else damage.since
    now = datetime.now(UTC)
    plan = Plan(
        new_plan_id(now),
        "restore",
        source,
        recipe,
        moment.run.run,
        str(moment),
        now,
        (),
        into,
        at=moment.text,
    )
    if damage is not None:
        entries = damaged_entries(invocation, source, damage, names)
        unknown = cannot_tell(damage)
        if unknown is not None:
            raise unknown
    else:
        found = find_entries(invocation.vault, source, names, moment)
        entries = list({entry.prefix: entry for entry in found}.values())
        if ahead is not None:
            begin_ahead(invocation, ahead, source, moment, entries)
    return carry_out(invocation, plan, entries, Way(parallel, job, events, detach, ahead), executed=execute)


def _names(tenants: Sequence[str], file: Path | None, *, needed: bool = True) -> list[str]:
    names = list(tenants)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the tenants' file {file}: {reason}") from error
        names += [line.strip() for line in lines if line.strip()]
    if not names and needed:
        raise UsageError(
            "no tenant is named", hint="outlast restore TENANT…, or --tenants-file FILE; see outlast tenants"
        )
    return list(dict.fromkeys(names))
