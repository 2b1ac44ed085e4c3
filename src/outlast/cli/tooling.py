"""What commands do with a tool that they do not do with a database: open it, check it, keep the local copy current."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.cli.opening import Invocation
    from outlast.config.tool import ToolSettings
    from outlast.library.copy import LocalCopy
    from outlast.restore.history import Past
    from outlast.sources.source import Watcher
    from outlast.sources.tools.connector import Connector
    from outlast.sources.tools.source import ToolSource

_MB = 1024 * 1024


def tool_source(invocation: Invocation, name: str, *, full: bool = False, quick: bool = False) -> ToolSource:
    """The tool as outlast.toml describes it. Raises UsageError where a setting or the token is missing."""
    from outlast.core.tenant import Tenant, TenantKey
    from outlast.sources.tools.client import Account
    from outlast.sources.tools.connectors import connector_of
    from outlast.sources.tools.fetch import FetchOptions
    from outlast.sources.tools.source import ToolSource

    settings = invocation.config.tool(name)
    assert settings is not None
    connector = connector_of(settings.kind)
    for needed in connector.needs:
        if getattr(settings, needed) is None:
            raise lacking(name, needed, connector)
    unknown = set(settings.skip) - {one.name for one in connector.resources}
    if unknown:
        names = ", ".join(one.name for one in connector.resources)
        raise UsageError(f"[sources.{name}] skip: there is no {sorted(unknown)[0]!r}", hint=f"There are: {names}.")
    account = Account(
        name,
        connector,
        base_of(settings, connector),
        _token(name, settings),
        settings.user,
        settings.requests_per_minute,
        settings.share,
        settings.patience.total_seconds(),
    )
    history = settings.history_days
    options = FetchOptions(
        skip=frozenset(settings.skip),
        full=full,
        reconcile=settings.reconcile,
        quick=settings.sweep if quick else None,
        content_bytes_max=settings.attachment_mb_max * _MB,
        begins=None if history is None else datetime.now(UTC) - timedelta(days=history),
    )
    tenant = Tenant(TenantKey(settings.page or settings.tenant or name), settings.tenant or name)
    site = {"page": settings.page or ""}
    return ToolSource(account, tenant, site, options, mirror_path(invocation, name), invocation.state.host_key)


def base_of(settings: ToolSettings, connector: Connector) -> str:
    """Where its API is."""
    return (settings.site or connector.base).rstrip("/") + connector.under


def lacking(name: str, setting: str, connector: Connector) -> UsageError:
    return UsageError(
        f"[sources.{name}] lacks {setting!r}, which {connector.title} needs",
        hint="It is described in docs/REFERENCE.md under [sources.NAME] (a tool).",
    )


def mirror_path(invocation: Invocation, name: str) -> Path:
    """Where what was fetched waits: this host's, encrypted."""
    return invocation.config.key_dir / f"{name}.mirror.sqlite"


def copy_path(invocation: Invocation) -> Path:
    """Where the local copy is."""
    from outlast.library.copy import FILE_NAME

    return invocation.config.key_dir / FILE_NAME


def _token(name: str, settings: ToolSettings) -> str:
    from outlast.sources.tools.client import token_variable

    variable = token_variable(name)
    token = given_token(name, variable, settings.token_command)
    if token is None:
        raise UsageError(
            f"there is no token for source {name!r}",
            hint=f"Set {variable}, or token_command in [sources.{name}].",
            code="no-token",
        )
    return token


def given_token(name: str, variable: str, command: str | None) -> str | None:
    """A token out of the environment, or printed by a command; None where neither gives one."""
    from outlast.sources.secret import secret_of

    token = os.environ.get(variable)
    if not token and command:
        token = secret_of(command, "token")
    if not token:
        return None
    if not token.isprintable() or not token.isascii() or " " in token:
        raise UsageError(f"the token for source {name!r} has characters that no token has", hint="Is it quoted?")
    return token


def check(invocation: Invocation, name: str, *, tables: bool) -> ExitCode:
    """`outlast check` of a tool."""
    from outlast.cli.check import NotProtected, notice_fields, notice_text, of_vault
    from outlast.cli.render import count, table_of

    tool = tool_source(invocation, name)
    notices = (*tool.check(), *of_vault(invocation))
    errors = [notice for notice in notices if notice.level == "error"]
    problem = None
    if errors:
        told = count(len(errors), "thing stops", "things stop")
        problem = NotProtected(f"{told} every backup of {tool}", hint=errors[0].hint)
    rows = [
        (str(tool.connector.table(one.name)), one.parent or "", "changes" if one.changes else "swept", _lost(one))
        for one in tool.connector.resources
    ]
    fields = {
        "source": name,
        "kind": tool.connector.kind,
        "site": str(tool),
        "tables": [dict(zip(("table", "parent", "read_by", "not_set_by_api"), row, strict=True)) for row in rows],
        "notices": [notice_fields(notice) for notice in notices],
    }

    def text(console: Console) -> None:
        if tables:
            console.print(table_of(("table", "belongs to", "read by", "cannot be written back"), rows))
            console.print()
        console.print(f"{tool}: {count(len(rows), 'table')}")
        for notice in notices:
            console.print(notice_text(notice, console.width))
        if not errors:
            console.print(f"Backups can run. Next: outlast backup {name}")

    return invocation.output.finish(fields, text, problem=problem)


def document_key(invocation: Invocation, source: str, table: str, key: str | None) -> str | None:
    """The key of the document that people call `key` (OPS-123), by the local copy; else what was given."""
    from outlast.library.copy import LocalCopy

    if key is None or key.isdigit() or not copy_path(invocation).is_file():
        return key
    with LocalCopy.open(copy_path(invocation)) as copy:
        if copy.get(source, table, key) is not None:
            return key
        found = [
            hit.document.key
            for hit in copy.search(key, 1000, source)
            if hit.document.table == table and hit.document.document.get("key") == key
        ]
    return found[0] if len(found) == 1 else key


def live_state(invocation: Invocation, name: str) -> Past:
    """The tool as it is now: fetched into the mirror, and read from there. Nothing is written to the vault."""
    from outlast.capture.backup import Silent
    from outlast.restore.reading_state import past_of_reading
    from outlast.state.local import WriterLock

    tool = tool_source(invocation, name)
    invocation.closing.enter_context(WriterLock(invocation.config.key_dir, name))
    reading = invocation.closing.enter_context(tool.read(Silent()))
    return past_of_reading(reading, tool.tenant)


def _lost(resource: object) -> str:
    return ", ".join(resource.write.lost)  # type: ignore[attr-defined]


def refresh_copy(invocation: Invocation, names: Sequence[str], watcher: Watcher | None = None) -> None:
    """Bring the local copy to the newest run of these tools. Needs the operator's identity."""
    from outlast.library.filling import fill

    for name in names:
        if watcher is not None:
            watcher.stage("filling the local copy", None)
        if invocation.vault.numbers(name):
            fill(copy_path(invocation), invocation.vault, name)


def refresh_after(invocation: Invocation, name: str, watcher: Watcher) -> None:
    """The same after a backup, which stands whatever becomes of the copy. Without the key there is none."""
    from outlast.core.errors import OutlastError

    if not invocation.may_open:
        return
    try:
        refresh_copy(invocation, (name,), watcher)
    except OutlastError as error:
        invocation.output.note(f"Note: the run stands, but the local copy was not brought to it: {error.message}.")


def open_copy(invocation: Invocation, names: Sequence[str]) -> LocalCopy:
    """The local copy, refreshed where the vault can be read and has newer runs; else as it is, which is said."""
    from outlast.core.errors import OutlastError
    from outlast.library.copy import LocalCopy

    try:
        refresh_copy(invocation, names)
    except OutlastError as error:
        if not copy_path(invocation).is_file():
            raise
        invocation.output.note(f"Note: the vault cannot be read now ({error.message}); this is the local copy.")
    return LocalCopy.open(copy_path(invocation))
