"""The text of a new outlast.toml, as `init` writes it for a person to read."""

from __future__ import annotations

import json
from dataclasses import dataclass

from outlast.config.document import VaultSettings


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table of the proposal that `init` writes."""

    name: str
    words: str
    reason: str


def quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(
    *,
    url: str,
    tenant_table: str,
    tenant_key: str | None = None,
    tenant_label: str | None,
    vault: VaultSettings,
    recovery_file: str,
    tables: tuple[TableEntry, ...],
) -> str:
    """The text of a new outlast.toml."""
    width = max((len(quoted(table.name)) for table in tables), default=0)
    words = max((len(quoted(table.words)) for table in tables), default=0)
    lines = [
        f"{quoted(table.name):<{width}} = {quoted(table.words):<{words}}  # {_one_line(table.reason)}".rstrip(" #")
        for table in tables
    ]
    key = f"tenant_key = {quoted(tenant_key)}\n" if tenant_key else ""
    label = f"tenant_label = {quoted(tenant_label)}" if tenant_label else '# tenant_label = "slug"'
    return _TEXT.format(
        vault_url=quoted(vault.url),
        vault_id=quoted(vault.id),
        recipients="".join(f"  {quoted(recipient)},\n" for recipient in vault.recipients),
        signers="".join(f"  {quoted(signer)},\n" for signer in vault.signers),
        recovery_file=recovery_file,
        url=quoted(url),
        tenant_table=quoted(tenant_table),
        label=key + label,
        tables="\n".join(lines),
    )


def written_tool(*, kind: str, site: str | None, user: str | None, page: str | None) -> str:
    """The section of a tool."""
    given = {"site": site, "user": user, "page": page}
    lines = [f"{name} = {quoted(value)}" for name, value in given.items() if value is not None]
    return _TOOL_TEXT.format(kind=kind, name=kind.upper(), lines="\n".join(lines) + ("\n" if lines else ""))


def written_for_tools(*, vault: VaultSettings, recovery_file: str, section: str) -> str:
    """The text of a new outlast.toml that has a tool and no database."""
    head = _TEXT[: _TEXT.index("[sources.main]")].format(
        vault_url=quoted(vault.url),
        vault_id=quoted(vault.id),
        recipients="".join(f"  {quoted(recipient)},\n" for recipient in vault.recipients),
        signers="".join(f"  {quoted(signer)},\n" for signer in vault.signers),
        recovery_file=recovery_file,
    )
    tail = _TEXT[_TEXT.index("[retention]") : _TEXT.index("# While `outlast follow` runs")]
    return head + section + "\n" + tail.rstrip() + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


_TOOL_TEXT = """\
[sources.{kind}]
kind = "{kind}"
{lines}# token_command = "pass show {kind}"  # or OUTLAST_{name}_TOKEN in the environment; never the token itself
# share = 0.5             # of the vendor's rate limit: people need the rest
# attachment_mb_max = 100
"""

_TEXT = """\
# Outlast's configuration, written by `outlast init`. No secret stands here: it can go into version control.
# Every setting is described in docs/REFERENCE.md. After a change: `outlast check`.

[vault]
url = {vault_url}
id = {vault_id}
# Who can open the vault: the recovery key ({recovery_file}; keep it offline), and this host's operator.
recipients = [
{recipients}]
# Whose signatures are believed.
signers = [
{signers}]

[keys]
dir = ".outlast"  # this host's keys and local state: never into version control

[sources.main]
kind = "postgresql"
url = {url}
# password_command = "pass show database"  # or PGPASSWORD, or ~/.pgpass
# restore_url = "postgresql://outlast_restore@…"  # where the role above may only read
tenant_table = {tenant_table}
{label}

# Whose each table is. Read this list once, line by line: it decides what a customer gets back.
#   "owned by COLUMN"       COLUMN holds the tenant's key
#   "owned through COLUMN"  COLUMN references a table whose rows have a tenant
#   "shared"                reference data of all tenants: kept, and never changed by a tenant's restore
#   "ignored"               not kept
#   "undecided"             stops every backup until one of the others stands there
[sources.main.tables]
{tables}

[retention]
grace_days = 7   # between marking something and deleting it
keep_days = 30   # `outlast prune` keeps every run younger than this

[status]
max_age = "26h"  # `outlast status` ends with 4 where a tenant's newest restorable moment is older

# While `outlast follow` runs: whose deletion is ordinary, and who is shut out when customers vanish. Who is told
# stands in the environment's OUTLAST_NOTIFY. Prove it: outlast tripwire test
# [tripwire]
# tombstone = "account_closures"  # a row there declares that its tenant is being closed
# halt_roles = ["maintenance"]    # what scripts log in as; never the application's own role

[hooks]
# after_restore = "/usr/local/bin/reindex"  # gets the restored tenants' keys on its standard input, one a line
"""
