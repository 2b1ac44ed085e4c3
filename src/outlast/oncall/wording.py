"""What a person reads who is paged: short where it is read aloud or costs by the piece, with the link first."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.core.page import Page
from outlast.messages import Message

_SHORT = ("sms", "voice", "push", "whatsapp")
_SHORT_ALERTS = 3
_TITLE_MAX, _SHORT_MAX, _DESCRIPTION_MAX = 250, 300, 1500


def paged(page: Page, method: str, link: str | None, *, doubtful: bool) -> Message:
    """A page, to one contact."""
    again = "(You may have had this before.) " if doubtful else ""
    title = f"{page.priority} {page.message}"[:_TITLE_MAX]
    if method in _SHORT:
        short = f"{again}{page.message[:_SHORT_MAX]} ({page.source or page.integration})"
        return Message(title if method == "push" else "", f"{short}\nAcknowledge: {link}" if link else short)
    lines = [f"{again}{page.message}", ""]
    lines += [f"Acknowledge: {link}", ""] if link else []
    lines += [page.description[:_DESCRIPTION_MAX], ""] if page.description else []
    lines += [f"Priority: {page.priority}. From: {page.source or page.integration}. At {page.at:%Y-%m-%d %H:%M:%S}Z."]
    lines += [f"Tags: {', '.join(page.tags)}."] if page.tags else []
    lines += [f"Outlast pages because {page.reason}."]
    lines += ["The vendor may have paged for it as well: its answer was lost."] if page.doubtful else []
    return Message(title, "\n".join(lines))


def several(alerts: Sequence[tuple[Page, str | None]], method: str, desk: str | None) -> Message:
    """Several alerts that are due at one contact at once, the most urgent first, each with its own link."""
    ranked = sorted(alerts, key=lambda one: (one[0].priority, one[0].at))
    first, shown = ranked[0][0], ranked[:_SHORT_ALERTS] if method in _SHORT else ranked
    title = f"{len(ranked)} alerts, the first: {first.priority} {first.message}"[:_TITLE_MAX]
    lines = []
    for page, link in shown:
        lines.append(f"{page.priority} {page.message[:_SHORT_MAX]} ({page.source or page.integration})")
        lines += [f"Acknowledge: {link}"] if link else []
    left = len(ranked) - len(shown)
    lines += [f"And {left} more{f': {desk}/?view=waiting' if desk else ''}"] if left else []
    if method in _SHORT:
        return Message(title if method == "push" else "", f"{len(ranked)} alerts.\n" + "\n".join(lines))
    reasons = "; ".join(dict.fromkeys(page.reason for page, _ in ranked))
    return Message(title, "\n".join([*lines, "", f"Outlast pages because {reasons}."]))


def unreached(page: Page, link: str | None, why: str, *, doubtful: bool = False) -> Message:
    """To those of last resort: nobody has this alert."""
    again = "(You may have had this before.) " if doubtful else ""
    lines = [f"{again}NOBODY COULD BE REACHED: {why}.", "", page.message, ""]
    lines += [link, ""] if link else []
    lines += [page.description[:_DESCRIPTION_MAX], ""] if page.description else []
    named = [one.name or one.id or "" for one in page.responders]
    lines += [f"For: {', '.join(named)}."] if any(named) else []
    lines += [f"Priority: {page.priority}. From: {page.source or page.integration}. At {page.at:%Y-%m-%d %H:%M:%S}Z."]
    lines += [f"Outlast pages because {page.reason}. Call somebody who can act."]
    return Message(f"NOBODY REACHED: {page.priority} {page.message}"[:_TITLE_MAX], "\n".join(lines))
