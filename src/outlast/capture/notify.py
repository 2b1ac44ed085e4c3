"""Who is told of an incident, and what: one message by Apprise, to chat, mail, pager or a web hook.

The text is pure (`compose`); messages.py has what carries it. What cannot be sent is reported to the caller, and stops
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from outlast.capture.incident import COMMITTED, IN_PROGRESS, Deed, Incident
from outlast.core.errors import UsageError
from outlast.core.tenant import Tenant, TenantKey
from outlast.messages import Message, Service, printed

if TYPE_CHECKING:
    from outlast.sources.postgres.halt import Halted, SessionSeen

VARIABLE = "OUTLAST_NOTIFY"
TENANTS_TOLD_MAX = 10
DEEDS_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class Halting:
    """What is said of the halt: `halted` where one was made; else `why_not`."""

    halted: Halted | None = None
    seen: tuple[SessionSeen, ...] = ()
    why_not: str = "no role is named under halt_roles in outlast.toml"


def urls(environ: Mapping[str, str], command: str | None) -> tuple[str, ...]:
    """Whom to tell. Raises where the command fails; gives nothing where nobody was named."""
    text = environ.get(VARIABLE)
    if text is None and command is not None:
        text = printed(command, "notify_command")
    return tuple((text or "").split())


class Notifier:
    """Sends messages. Apprise is loaded, and its URLs are read, when this is made: not when somebody must be told."""

    def __init__(self, given: Sequence[str]) -> None:
        self._services: list[tuple[str, Service]] = []
        for number, url in enumerate(given, start=1):
            kind = url.partition(":")[0]
            try:
                service = Service(url)
            except ValueError:
                raise UsageError(
                    f"notification URL no. {number} is none that Apprise knows (it is not shown: it may hold a secret)",
                    hint=f"Mend it in {VARIABLE} or in what notify_command prints; Apprise's documentation lists them.",
                    code="notify-url",
                ) from None
            self._services.append((f"no. {number} ({kind if kind.isalnum() else 'unknown'})", service))

    def __len__(self) -> int:
        return len(self._services)

    def send(self, message: Message, only: Sequence[str] | None = None) -> tuple[str, ...]:
        """Tell everybody, or those that `only` names, all at once; gives those that could not be told, by number and
        kind. Never raises."""
        from concurrent.futures import ThreadPoolExecutor

        services = [(name, service) for name, service in self._services if only is None or name in only]
        with ThreadPoolExecutor(max_workers=max(1, len(services))) as workers:
            told = list(workers.map(lambda one: one[1].send(message), services))
        return tuple(name for (name, _), done in zip(services, told, strict=True) if not done)


def compose(
    source: str, incident: Incident, halting: Halting, thresholds: Mapping[str, int], *, again: bool = False
) -> Message:
    """One message: what, who, since when, the transactions, what was done about it, and the command to run next.

    `again`: of this incident somebody was told before; now it has grown, or it has ended.
    """
    what = _what(incident, thresholds)
    lines = [
        f"What: {'; '.join(what)}.",
        f"Who: {_who(incident)}.",
        f"Since: {_time(incident.since)}.",
        f"Transactions: {_transactions(incident, halting)}.",
        f"Halt: {_halt(halting)}.",
        *_next(incident, halting),
    ]
    return Message(_title(source, incident, again=again), "\n".join(lines))


def _title(source: str, incident: Incident, *, again: bool) -> str:
    if incident.tenants:
        one = incident.tenants == 1
        verb = ("has lost" if one else "have lost") if incident.ended else ("is losing" if one else "are losing")
        stage = ("it is over: " if incident.ended else "it goes on: ") if again else ""
        return f"Outlast: {stage}{_tenants(incident.tenants)} of {source} {verb} data"
    if incident.spared:
        return f"Outlast: {source} was about to lose {_tenants(len(incident.spared))}; it was rolled back"
    return f"Outlast: {', '.join(sorted(incident.tables)) or 'data'} of {source} is being lost"


_WORDS = {
    "tenant_roots": "{value} tenants' root rows were deleted",
    "tenant_share": "{value} tenants have lost a large share of their rows",
    "tenants_a_minute": "{value} tenants lost rows within a minute",
    "truncate": "TRUNCATE of a table that tenants own",
    "drop": "DROP of a table that tenants own",
    "declared_max": "{value} declared closings, more than are usual",
    "soft_deleted_roots": "{value} tenants' root rows were soft-deleted",
}


def _what(incident: Incident, thresholds: Mapping[str, int]) -> list[str]:
    told = []
    for rule, value in sorted(incident.rules.items()):
        words = _WORDS[rule].format(value=value)
        words = words.replace("1 tenants' root rows were", "1 tenant's root row was") if value == 1 else words
        words = words.replace("1 tenants have", "1 tenant has") if value == 1 else words
        told.append(f"{words} (rule {rule} = {thresholds.get(rule, 1)})")
    if incident.tables:
        told.append(f"tables: {', '.join(sorted(incident.tables))}")
    return told


def _tenants(number: int) -> str:
    return "1 tenant" if number == 1 else f"{number:,} tenants"


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _who(incident: Incident) -> str:
    parts = []
    if incident.lost:
        until = "in all" if incident.ended else "so far"
        parts += [_named(incident, incident.lost), f"{_rows(incident.rows)} of {_tenants(incident.tenants)} {until}"]
    if incident.spared:
        parts += [f"rolled back, so nothing is lost of: {_named(incident, incident.spared)}"]
    return "; ".join(parts) or "every tenant that had rows there; how many is not known"


def _named(incident: Incident, rows: Mapping[TenantKey, int]) -> str:
    largest = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{Tenant(key, incident.labels.get(key))} {_rows(number)}" for key, number in largest[:TENANTS_TOLD_MAX]]
    return ", ".join(named) + (f" and {len(rows) - len(named):,} more" if len(rows) > len(named) else "")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _transactions(incident: Incident, halting: Halting) -> str:
    if not incident.deeds:
        return "none is known"
    sessions = {one.xid: one for one in (halting.halted.sessions if halting.halted else halting.seen)}
    outcomes = halting.halted.outcomes if halting.halted else {}
    deeds = sorted(incident.deeds.values(), key=lambda deed: (deed.outcome != IN_PROGRESS, deed.at))
    told = [_transaction(deed, sessions.get(str(deed.xid & 0xFFFFFFFF)), outcomes) for deed in deeds[:DEEDS_TOLD_MAX]]
    more = f" and {len(deeds) - len(told):,} more" if len(deeds) > len(told) else ""
    return "; ".join(told) + more


def _transaction(deed: Deed, session: SessionSeen | None, outcomes: Mapping[int, str]) -> str:
    state = f"committed {_time(deed.time)}" if deed.outcome == COMMITTED else outcomes.get(deed.xid, deed.outcome)
    state = "ended before its COMMIT: nothing of it is lost" if state == "aborted" else state
    who = f", {session}" if session else ""
    number = f"{deed.xid}" if deed.xid else "of an unknown number"
    return f"{number} ({state}; {_rows(deed.rows)}{who})"


def _halt(halting: Halting) -> str:
    halted = halting.halted
    if halted is None:
        return f"nobody was halted: {halting.why_not}"
    parts = [f"{', '.join(halted.roles) or 'no further role'} cannot log in any more"]
    parts.append(f"{halted.ended} session{'' if halted.ended == 1 else 's'} ended")
    others = sorted({str(one) for one in halted.sessions if not one.ended and one.xid})
    parts += [f"AT WORK ON IT AND NOT HALTED: {one}" for one in others]
    parts += [f"FAILED: {failure}" for failure in halted.failures]
    return f"{'; '.join(parts)} (in {halted.seconds:.2f} s)"


def _next(incident: Incident, halting: Halting) -> list[str]:
    since = since_word(incident)
    lines = [f"Next: outlast damage --since {since}", f"Then: outlast restore --damage-since {since}"]
    return lines + (["When it is over: outlast tripwire reset"] if halting.halted else [])


def since_word(incident: Incident) -> str:
    """The moment just before it began, as `--since` takes it: exact where a transaction of it has committed."""
    first = incident.first()
    if first is not None and first.commit is not None and first.xid:
        return f"before:{first.xid}"
    return f"{incident.since:%Y-%m-%dT%H:%M:%SZ}"
