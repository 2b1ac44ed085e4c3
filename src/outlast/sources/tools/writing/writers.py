"""The writers there are, by kind; each is imported when it is asked for."""

from __future__ import annotations

import importlib

from outlast.sources.tools.writing.hand import Hand
from outlast.sources.tools.writing.writer import Terms, Writer

_NAMES = {"jira": "Jira", "opsgenie": "Opsgenie", "pagerduty": "PagerDuty", "confluence": "Confluence"}
KINDS = tuple(_NAMES)
"""The tools that can be written into."""


def writer_of(hand: Hand, terms: Terms) -> Writer:
    """The writer of an account; `kind` is one of KINDS."""
    kind = hand.account.connector.kind
    writer: Writer = getattr(importlib.import_module(f"outlast.sources.tools.writing.{kind}"), _NAMES[kind])(
        hand, terms
    )
    return writer
