"""`outlast damage`: who lost what since a moment, in which transactions, from the log alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.damaged import cannot_tell
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, table_of, time
from outlast.core.effect import Operation
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.core.effect import Effect
    from outlast.restore.damage import DamagedTenant, DamageReport, DamagingTransaction

_TENANTS_SHOWN_MAX = 50
_TRANSACTIONS_SHOWN_MAX = 20


class DamageFoundError(OutlastError):
    """Somebody lost something."""

    exit_code = ExitCode.FOUND
    default_code = "damage"


def damage(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="MOMENT", help="From: a timestamp, an LSN, run:7, or before:TRANSACTION.")
    ],
    until: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="To: another moment; else the end of the log.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(metavar="TENANT", help="Only this tenant, by key or label; with samples of keys.")
    ] = None,
    transaction: Annotated[
        int | None, typer.Option(metavar="XID", help="Only what this transaction did; 32 bits of its number will do.")
    ] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Show who lost what since a moment, the largest first, and in which transactions, from the log alone.

    Rows deleted, truncated, or moved to another tenant, and tables dropped; soft-deleted rows apart, since they are
    still there. Refused where the log does not cover the whole time.

    Exit codes: 0 nobody lost anything; 2 there is no such moment, tenant or transaction; 3 the log does not cover the
    time, or not all that happened in it; 4 somebody lost something.
    """
    from outlast.restore.damage import report, samples
    from outlast.restore.history import find_entry

    invocation = Invocation.of(context)
    vault = invocation.vault
    begin = invocation.moment(source, since)
    end = None if until is None else invocation.moment(source, until)
    prefix = None if tenant is None else find_entry(vault, source, tenant, begin).prefix
    found = report(vault, source, begin, end, prefix=prefix, xid=transaction)
    keys = samples(found, vault, source, found.tenants[0]) if tenant is not None and found.tenants else None
    problem: OutlastError | None = cannot_tell(found)
    if found.found:
        problem = DamageFoundError(_summary(found), hint=_next(found, begin.text, until))
    fields = {
        "since": begin.text,
        "resolved": begin.told,
        "until": str(found.end),
        "as_of": found.epoch.as_of.isoformat(),
        "tenants": [_tenant_fields(one, one.hard) for one in found.tenants if one.hard],
        "soft_deleted": [_tenant_fields(one, one.soft) for one in found.tenants if one.soft],
        "transactions": [_transaction_fields(one) for one in found.transactions],
        "dropped": [{"table": name, "xid": xid} for name, xid in found.dropped],
        "gaps": list(found.gaps),
        "unseen": [str(table) for table in found.unseen],
        "effect": found.hard.to_json(),
    }
    return invocation.output.finish(fields, lambda console: _print(console, found, keys), problem=problem)


def _tenant_fields(one: DamagedTenant, effect: Effect) -> dict[str, object]:
    return {"tenant": one.tenant.key, "label": one.tenant.label, "effect": effect.to_json()}


def _transaction_fields(one: DamagingTransaction) -> dict[str, object]:
    return {
        "xid": one.xid,
        "lsn": str(one.lsn),
        "time": one.time.isoformat(),
        "tenants": len({*one.hard.tenants, *one.soft.tenants}),
        "effect": one.hard.to_json(),
        "soft_deleted": one.soft.to_json(),
    }


def _summary(found: DamageReport) -> str:
    hard = [one for one in found.tenants if one.hard]
    soft = [one for one in found.tenants if one.soft]
    truncated = {table for _, table, operation in found.hard.counts if operation is Operation.TRUNCATE}
    rows = found.hard.rows - found.hard.total(Operation.TRUNCATE)
    lost = [count(rows, "row")] if rows else []
    lost += [f"all they had in {', '.join(sorted(truncated))}"] if truncated else []
    parts = [f"{count(len(hard), 'tenant')} lost {' and '.join(lost)}"] if hard else []
    parts += [f"{count(found.soft.rows, 'row')} of {count(len(soft), 'tenant')} soft-deleted"] if soft else []
    parts += [f"{count(len(found.dropped), 'table')} dropped"] if found.dropped else []
    return ", ".join(parts)


def _next(found: DamageReport, since: str, until: str | None) -> str | None:
    more = f" --until {until}" if until else ""
    return f"To put back what was deleted: outlast restore --damage-since {since}{more}" if found.hard else None


def _print(console: Console, found: DamageReport, keys: Effect | None) -> None:
    console.print(f"From {found.since} to {found.end}; the log knows everything up to {time(found.epoch.as_of)}.")
    for title, effects in (
        ("Lost", [(one, one.hard) for one in found.tenants if one.hard]),
        ("Soft-deleted: the rows are still there", [(one, one.soft) for one in found.tenants if one.soft]),
    ):
        if effects:
            console.print(f"\n{title}")
            console.print(
                _tenant_table([(one, keys if keys and effect is one.hard else effect) for one, effect in effects])
            )
            if len(effects) > _TENANTS_SHOWN_MAX:
                console.print(f"… and {len(effects) - _TENANTS_SHOWN_MAX:,} more tenants (--json shows all of them).")
    if found.transactions:
        console.print("\nTransactions")
        console.print(_transaction_table(found.transactions[:_TRANSACTIONS_SHOWN_MAX]))
        if len(found.transactions) > _TRANSACTIONS_SHOWN_MAX:
            more = len(found.transactions) - _TRANSACTIONS_SHOWN_MAX
            console.print(f"… and {more:,} more transactions (--json shows all of them).")
    for name, xid in found.dropped:
        console.print(f"Table {name} was dropped by transaction {xid}, with the rows of every tenant.")
    for gap in found.gaps:
        console.print(f"Not known: {gap}")
    for table in found.unseen:
        console.print(
            f"Not known: rows deleted from {table}, which is followed for inserts alone."
            f" Compare: outlast diff TENANT --at {found.begin} --to live"
        )
    if not found.found:
        known = " that the log would know of" if found.unseen or found.gaps else ""
        console.print(f"Nobody lost a row{known}.")


def _tenant_table(effects: list[tuple[DamagedTenant, Effect]]) -> object:
    rows = []
    for one, effect in effects[:_TENANTS_SHOWN_MAX]:
        name = str(one.tenant)
        for (_, table, operation), number in sorted(effect.counts.items(), key=lambda item: -item[1].rows):
            shown = ", ".join(number.samples) + (", …" if number.samples and number.rows > len(number.samples) else "")
            many = "all" if operation is Operation.TRUNCATE else f"{number.rows:,}"
            rows.append((name, table, operation.value, many, shown))
            name = ""
    if not any(keys for *_, keys in rows):
        return table_of(("tenant", "table", "operation", "rows"), [row[:-1] for row in rows], right=(3,))
    return table_of(("tenant", "table", "operation", "rows", "keys"), rows, right=(3,))


def _transaction_table(transactions: tuple[DamagingTransaction, ...]) -> object:
    rows = []
    for one in transactions:
        tenants = len({*one.hard.tenants, *one.soft.tenants})
        rows.append((str(one.xid), time(one.time), str(one.lsn), f"{tenants:,}", f"{one.hard.rows + one.soft.rows:,}"))
    return table_of(("transaction", "committed", "LSN", "tenants", "rows"), rows, right=(3, 4))
