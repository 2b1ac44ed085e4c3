"""The kinds of tools that there is a connector for, as outlast.toml and `init` name them."""

from __future__ import annotations

KINDS = ("opsgenie", "pagerduty", "jira", "confluence", "statuspage")
