"""Drafts: what can be said from the facts alone, in every language of the page. Never an ETA that nobody gave.

Pure. A draft says what is certain at this moment: who is affected, how many are restored and how fast that goes, and
whether anything is missing. What it does not know it leaves out, or says that it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from outlast.incident.incident import AffectedTenant, Incident, Status, TenantState
from outlast.incident.words import Words, words

RATE_WINDOW = timedelta(minutes=5)
"""Over which "at the moment" is measured."""


def first_word(incident: Incident, languages: Sequence[str], *, writes: bool = False) -> Mapping[str, str]:
    """The first public word, which needs nobody to compose anything. `writes`: affected tenants get letters."""
    return {language: _first(incident, words(language), writes) for language in languages}


def _first(incident: Incident, say: Words, writes: bool) -> str:
    said = [say(f"updates.opened.{incident.severity.value}", title=incident.title)]
    if incident.tenants:
        said += _scope(incident, say, writes)
    return " ".join(said)


def _scope(incident: Incident, say: Words, writes: bool) -> list[str]:
    """Whoever reads "we write to each" and hears nothing believes to be well: it is said where letters leave alone."""
    number = len(incident.tenants)
    return [say("updates.scope", number), *([say("updates.written", number)] if writes else [])]


def progress(incident: Incident, languages: Sequence[str], now: datetime, *, writes: bool = False) -> Mapping[str, str]:
    """How far things are."""
    return {language: " ".join(_progress(incident, words(language), now, writes)) for language in languages}


def _progress(incident: Incident, say: Words, now: datetime, writes: bool) -> list[str]:
    tenants = list(incident.tenants.values())
    if not tenants:
        return [say("updates.still"), say("updates.scope_unknown")]
    said = [] if incident.scoped else _scope(incident, say, writes)
    restored = [one for one in tenants if one.state is TenantState.RESTORED]
    queued = incident.counted(TenantState.QUEUED)
    if restored:
        said.append(say("updates.restored", len(restored), total=len(tenants)))
        said += _rate(restored, say, now) if queued else []
        said += _losses(restored, say)
    elif queued:
        said.append(say("updates.queued", queued))
    if failed := incident.counted(TenantState.FAILED):
        said.append(say("updates.failed", failed))
    return said or [say("updates.still")]


def _rate(restored: Sequence[AffectedTenant], say: Words, now: datetime) -> list[str]:
    times = [one.restored_at for one in restored if one.restored_at is not None and one.restored_at > now - RATE_WINDOW]
    if not times:
        return []
    span = max(timedelta(minutes=1), now - min(times))
    rate = round(len(times) / (span / timedelta(minutes=1)))
    return [say("updates.rate", rate)] if rate else []


def _losses(restored: Sequence[AffectedTenant], say: Words) -> list[str]:
    if missing := sum(bool(one.rows_missing) for one in restored):
        return [say("updates.missing", missing)]
    return [say("updates.complete")] if all(one.rows_missing == 0 for one in restored) else []


def last_word(incident: Incident, languages: Sequence[str]) -> Mapping[str, str]:
    """The word that ends it."""
    return {language: " ".join(_last(incident, words(language))) for language in languages}


def _last(incident: Incident, say: Words) -> list[str]:
    said = [say("updates.resolved")]
    restored = [one for one in incident.tenants.values() if one.state is TenantState.RESTORED]
    if restored and len(restored) == len(incident.tenants):
        said += [say("updates.resolved_all", len(restored)), *_losses(restored, say)]
    return said


def status_of(incident: Incident) -> Status:
    """The status that the facts speak for, while nobody says otherwise."""
    if incident.counted(TenantState.QUEUED) or incident.counted(TenantState.RESTORED):
        return Status.MONITORING if _all_restored(incident) else Status.IDENTIFIED
    return incident.status if incident.status is not Status.RESOLVED else Status.INVESTIGATING


def _all_restored(incident: Incident) -> bool:
    return bool(incident.tenants) and all(one.state is TenantState.RESTORED for one in incident.tenants.values())


def finished(incident: Incident) -> bool:
    """Whether the last affected tenant is proven, so that nothing of it is left to do."""
    return _all_restored(incident)
