"""`outlast init KIND`: outlast.toml, the vault and its keys for a tool, where there is no database."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from outlast.cli import init as making
from outlast.cli.opening import Invocation
from outlast.core.errors import ExitCode, Refused, UsageError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was said on the command line of the tool."""

    kind: str
    site: str | None
    user: str | None
    page: str | None
    vault: str


def run(invocation: Invocation, path: Path, wanted: Wanted) -> ExitCode:
    """Make the vault, or, beside an outlast.toml that is there, say what to add to it."""
    from outlast.config import writing
    from outlast.sources.tools.client import token_variable
    from outlast.sources.tools.connectors import connector_of

    connector = connector_of(wanted.kind)
    for needed in connector.needs:
        if getattr(wanted, needed) is None:
            raise UsageError(f"{connector.title} needs --{needed}", hint=f"outlast init {_example(wanted.kind)}")
    section = writing.written_tool(kind=wanted.kind, site=wanted.site, user=wanted.user, page=wanted.page)
    if path.exists():
        raise Refused(
            f"{path} is there already, and init overwrites nothing",
            hint="To keep this tool in the same vault, add to it:\n" + section.strip(),
            code="exists",
        )
    making.refuse_existing(path)
    with ExitStack() as undo:
        made = making.make_vault(wanted.vault, path.parent, undo)
        text = writing.written_for_tools(vault=made, recovery_file=making.RECOVERY_FILE, section=section)
        making.write(path, text)
        undo.pop_all()
    variable = token_variable(wanted.kind)
    lines = [
        f"Wrote {path.name}, made the vault ({made.url}) and this host's keys ({making.KEY_FOLDER}/).",
        f"Take {making.RECOVERY_FILE} offline now, in two copies: it alone opens the vault when this machine is gone.",
        f"The token comes from {variable} or token_command ({connector.credentials.made_at}); it needs",
        f"{connector.credentials.needs}.",
        f"Next: outlast check --source {wanted.kind}, then outlast backup {wanted.kind}",
    ]
    fields = {
        "config": str(path),
        "vault": made.url,
        "vault_id": made.id,
        "recovery_key_file": str(path.parent / making.RECOVERY_FILE),
        "source": wanted.kind,
        "token_variable": variable,
    }
    return invocation.output.finish(fields, "\n".join(lines))


def _example(kind: str) -> str:
    if kind == "statuspage":
        return "statuspage --page kctbh9vrtdwd"
    return f"{kind} --site https://acme.atlassian.net --user backup@acme.example"
