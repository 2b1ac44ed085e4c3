"""Subscribers out of a Statuspage backup: its documents in, wishes out. Pure.

Contact data was lost in 2022 together with the sites. What cannot be taken over (a telephone number, one who never
confirmed or has left) is counted by its reason, and never dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from outlast.incident.subscribers import Channel, Wish

_CHANNELS = {"email": Channel.EMAIL, "webhook": Channel.WEBHOOK, "slack": Channel.APPRISE, "teams": Channel.APPRISE}


def wishes(
    rows: Iterable[Mapping[str, Any]], components: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Wish], dict[str, int]]:
    """What can be taken over, and how many could not be by reason. `components` are documents by their ids."""
    found: list[Wish] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        reason = _reason(row)
        if reason is not None:
            left_out[reason] += 1
            continue
        channel, address = _place(row)
        names = [components[one].get("name") for one in row.get("components") or [] if one in components]
        found += [Wish(channel, address, component=name) for name in names or [None]]
    return found, dict(left_out)


def _reason(row: Mapping[str, Any]) -> str | None:
    if row.get("quarantined_at"):
        return "quarantined by Statuspage"
    if row.get("purge_at"):
        return "never confirmed, or has left"
    mode = str(row.get("mode") or "email")
    if mode not in _CHANNELS or not _place(row)[1]:
        return f"{mode}: not carried over"
    channel, address = _place(row)
    if channel is Channel.APPRISE and not address.startswith("https://"):
        return f"{mode}: its address is not https"  # a customer wrote it: it must not choose among Apprise's services
    return None


def _place(row: Mapping[str, Any]) -> tuple[Channel, str]:
    mode = str(row.get("mode") or "email")
    channel = _CHANNELS[mode]
    address = row.get("email") if channel is Channel.EMAIL else row.get("endpoint")
    return channel, str(address or "")
