"""`outlast status`: how old is what every tenant could be restored to, the oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import age, count, table_of
from outlast.core.errors import ExitCode, OutlastError, UsageError
from outlast.core.moment import Moment
from outlast.core.tenant import Tenant

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.restore.moments import At
    from outlast.vault.reader import TenantEntry
    from outlast.vault.run import RunRecord


class TooOld(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "too-old"


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest moment to which a tenant can be restored."""

    tenant: Tenant
    run: int
    moment: Moment
    age: timedelta


def status(
    context: typer.Context,
    max_age: Annotated[
        str | None, typer.Option(metavar="AGE", help="What is too old, such as 26h; else [status] max_age.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many tenants to list.")] = 20,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Show every tenant's newest restorable moment, the oldest first.

    Made for a monitor: it reads the vault only, and ends with 4 where a tenant's newest restorable moment is older than
    --max-age, where there is no backup at all, or where the log that `outlast follow` writes is behind by more than
    [status] max_lag.

    Exit codes: 0 all are recent; 1 the vault could not be read; 4 one is too old.
    """
    from outlast.restore.history import all_entries, resolve

    invocation = Invocation.of(context)
    allowed = _allowed(invocation, max_age)
    runs = invocation.vault.runs(source)
    if not runs:
        invocation.config.any_source(source)
    if others := [name for name in invocation.config.document.sources if name != source]:
        invocation.output.note(f"Of {source} alone; there are other sources: {', '.join(others)} (--source NAME)")
    if not runs:
        none = TooOld(f"there is no backup of source {source!r} yet", hint=f"Make one: outlast backup {source}")
        return invocation.output.finish({"run": None, "tenants": []}, "", problem=none)
    now = datetime.now(UTC)
    latest = resolve(invocation.vault, source)
    newest = newest_moments(all_entries(invocation.vault, source, latest), runs, now, latest)
    old = [one for one in newest if one.age > allowed]
    problem: OutlastError | None = None
    if old:
        problem = TooOld(
            f"{count(len(old), 'tenant is', 'tenants are')} older than {age(allowed)}, the oldest {age(old[0].age)}",
            hint="Run `outlast backup`, and see why the last ones did not (cron, systemd).",
        )
    log, lag = _log(invocation, latest, now)
    problem = problem or lag
    fields = {
        "log": log,
        "run": runs[-1].run,
        "moment": runs[-1].moment.to_json(),
        "age_seconds": round((now - runs[-1].moment.time).total_seconds()),
        "max_age_seconds": round(allowed.total_seconds()),
        "tenants": [_fields(one, allowed) for one in newest],
    }

    def text(console: Console) -> None:
        rows = [_row(one, allowed) for one in newest[:limit]]
        console.print(table_of(("tenant", "newest restorable moment", "run", "age", ""), rows, right=(2,)))
        if len(newest) > limit:
            console.print(f"… and {len(newest) - limit:,} more, none of them older (--limit shows more).")
        last = age(now - runs[-1].moment.time)
        console.print(f"{count(len(newest), 'tenant')}, {count(len(runs), 'run')}; the last backup is {last} old.")
        if log is not None:
            console.print(
                f"The log has every commit up to {log['as_of']}, {age(timedelta(seconds=log['lag_seconds']))} ago."
            )

    return invocation.output.finish(fields, text, problem=problem)


def _log(invocation: Invocation, latest: At, now: datetime) -> tuple[dict[str, Any] | None, OutlastError | None]:
    """How far the log goes, and the problem if that is too long ago."""
    epoch = latest.timeline.epochs.newest
    if epoch is None:
        return None, None
    lag = now - epoch.as_of
    allowed = invocation.config.document.status.max_lag
    fields = {
        "position": str(epoch.position),
        "as_of": epoch.as_of.astimezone(UTC).isoformat(),
        "lag_seconds": round(lag.total_seconds()),
        "max_lag_seconds": None if isinstance(allowed, str) else round(allowed.total_seconds()),
        "exact": latest.position == epoch.position or latest.position is None,
    }
    if isinstance(allowed, str) or lag <= allowed:
        return fields, None
    return fields, TooOld(
        f"the log is {age(lag)} behind: what was committed since is not protected",
        hint='See why `outlast follow` does not run. Where it was given up on purpose: [status] max_lag = "off".',
        code="lagging",
    )


def newest_moments(
    entries: Sequence[TenantEntry], runs: Sequence[RunRecord], now: datetime, latest: At | None = None
) -> list[Newest]:
    """Each tenant's newest restorable moment, the oldest first.

    The log's end, where it is later than the runs, is everybody's. A run that looked at everybody vouches for all, also
    for those it found unchanged. One that looked at some only (`backup --tenant`) vouches for these.
    """
    found = []
    for entry in entries:
        run = next((one for one in reversed(runs) if one.scope is None or entry.prefix in one.scope), runs[0])
        moment = run.moment
        if latest is not None and latest.position is not None and latest.moment.time >= moment.time:
            moment = latest.moment
        found.append(Newest(entry.tenant, run.run, moment, now - moment.time))
    return sorted(found, key=lambda one: (one.moment.time, one.tenant.label or one.tenant.key))


def _allowed(invocation: Invocation, given: str | None) -> timedelta:
    if given is None:
        return invocation.config.document.status.max_age
    from outlast.config.settings import duration

    try:
        allowed = duration(given)
    except ValueError as error:
        raise UsageError(f"--max-age {error}", hint="For example: --max-age 26h") from None
    assert isinstance(allowed, timedelta)
    return allowed


def _row(one: Newest, allowed: timedelta) -> tuple[str, ...]:
    return (str(one.tenant), str(one.moment), str(one.run), age(one.age), "TOO OLD" if one.age > allowed else "")


def _fields(one: Newest, allowed: timedelta) -> dict[str, Any]:
    return {
        "tenant": one.tenant.key,
        "label": one.tenant.label,
        "run": one.run,
        "moment": one.moment.to_json(),
        "age_seconds": round(one.age.total_seconds()),
        "too_old": one.age > allowed,
    }
