"""From outlast.toml to a tool that is written into: with a token of its own, so that backups can only read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast.core.errors import Refused

if TYPE_CHECKING:
    from outlast.cli.opening import Invocation
    from outlast.sources.tools.writing.writer import Writer

_PATIENCE_S_MAX = 60.0
"""A person waits."""


def writer(invocation: Invocation, name: str) -> Writer:
    """A tool's writer. Raises Refused where there is no token to write with, UsageError where a setting lacks."""
    from outlast.cli.tooling import base_of, given_token, lacking
    from outlast.sources.tools.client import Account, token_variable
    from outlast.sources.tools.connectors import connector_of
    from outlast.sources.tools.writing.hand import Hand
    from outlast.sources.tools.writing.writer import Terms
    from outlast.sources.tools.writing.writers import KINDS, writer_of

    settings = invocation.config.tool(name)
    assert settings is not None
    connector = connector_of(settings.kind)
    if settings.kind not in KINDS:
        raise Refused(f"nothing goes back to {connector.title}", hint="Keep it here: outlast failback --leave ID")
    user = settings.write_user or settings.user
    for needed in connector.needs:
        if getattr(settings, needed) is None and not (needed == "user" and user):
            raise lacking(name, needed, connector)
    variable = token_variable(name, "_WRITE")
    token = given_token(name, variable, settings.write_token_command)
    if token is None:
        raise Refused(
            f"there is no token to write to {name!r} with: the one for backups should only read",
            hint=f"Make one that may write, and set {variable}, or write_token_command in [sources.{name}].",
            code="no-write-token",
        )
    patience_s = min(settings.patience.total_seconds(), _PATIENCE_S_MAX)
    account = Account(
        name, connector, base_of(settings, connector), token, user, settings.requests_per_minute, 1.0, patience_s
    )
    return writer_of(Hand(account), Terms(settings.write_project, settings.write_issue_type, user))
