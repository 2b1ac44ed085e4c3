"""Letters that come back later: what a mail server reports (RFC 3464) of a letter of ours that reached nobody.

Only a report that returns our letter's Message-ID, and only of a letter that was sent, counts, and once: who forges one
has to have that letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser

_PERMANENT = "5"


def refused_letter(data: bytes) -> str | None:
    """The id of the letter that a report says will never arrive; None for whatever is no such report."""
    report = BytesParser(policy=policy.default).parsebytes(data)
    if report.get_content_type() != "multipart/report" or not any(_failures(report)):
        return None
    for part in report.walk():
        name = _returned(part).get("Message-ID") if part.get_content_type() in _RETURNED else None
        if name:
            return str(name).strip().strip("<>").partition("@")[0]
    return None


_RETURNED = ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers")


def _returned(part: Message) -> Message:
    """The headers of the letter that came back, whole or as text."""
    inside = part.get_payload()
    if isinstance(inside, list) and inside:
        return inside[0]  # type: ignore[return-value]
    content = part.get_payload(decode=True)
    return BytesParser(policy=policy.default).parsebytes(
        content if isinstance(content, bytes) else b"", headersonly=True
    )


def _failures(report: EmailMessage) -> Iterator[bool]:
    for part in report.walk():
        if part.get_content_type() not in ("message/delivery-status", "message/global-delivery-status"):
            continue
        groups = part.get_payload()
        for group in groups if isinstance(groups, list) else []:
            if isinstance(group, Message) and group.get("Action"):
                status = str(group.get("Status") or _PERMANENT).strip()
                yield str(group["Action"]).strip().casefold() == "failed" and status.startswith(_PERMANENT)
