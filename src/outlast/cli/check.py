"""`outlast check`: what is protected, what is not, and what this server and this role cannot do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.sources.postgres.schema import Catalog, Notice

_MARKS = {"error": "ERROR  ", "warning": "warning", "info": "note   "}


class NotProtected(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "not-protected"


def check(
    context: typer.Context,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
    tables: Annotated[bool, typer.Option("--tables", help="List every table and whose it is.")] = False,
) -> ExitCode:
    """Say what is protected, what is not, and what this server and role cannot do.

    Reads the catalog, the role's privileges and the server's settings, and opens the vault. Counts the rows that point
    across tenants (30 seconds a table, 1 minute in all; what there was no time for is named). Changes nothing. An error
    is what would stop a backup, a warning says which promise is weaker and why. Of a tool it asks each resource once,
    and lists what the vendor's API does not give.

    Exit codes: 0 backups can run; 1 the source or vault could not be reached; 4 something stops a backup.
    """
    from outlast.sources.postgres.check import check as check_server

    invocation = Invocation.of(context)
    if invocation.config.tool(source) is not None:
        from outlast.cli import tooling

        return tooling.check(invocation, source, tables=tables)
    with invocation.session("check", source) as session:
        catalog = invocation.catalog(session, source)
        notices = (
            *check_server(session, catalog, following=invocation.following(source)),
            *of_vault(invocation),
            *_of_tripwire(invocation, source, catalog),
        )
    errors = [notice for notice in notices if notice.level == "error"]
    problem = None
    if errors:
        problem = NotProtected(
            f"{count(len(errors), 'thing stops', 'things stop')} every backup of {invocation.target(source)}",
            hint=errors[0].hint,
        )
    fields = {
        "source": source,
        "database": str(invocation.target(source)),
        "server_version": catalog.server_version,
        "tables": [
            {
                "table": str(table.name),
                "ownership": table.ownership.kind.value,
                "reason": table.ownership.reason,
                "bytes": table.size_bytes,
            }
            for table in catalog.tables
        ],
        "notices": [notice_fields(notice) for notice in notices],
    }

    def text(console: Console) -> None:
        if tables:
            rows = [(str(t.name), t.ownership.kind.value, t.ownership.reason) for t in catalog.tables]
            console.print(table_of(("table", "ownership", "why"), rows))
            console.print()
        console.print(_summary(invocation, catalog, source))
        for notice in notices:
            console.print(notice_text(notice, console.width))
        if not errors:
            console.print("Backups can run. Next: outlast backup")

    return invocation.output.finish(fields, text, problem=problem)


def of_vault(invocation: Invocation) -> Sequence[Notice]:
    """Whether the vault can be reached, written as this host, and read back as its operator."""
    from outlast.sources.postgres.schema import Notice

    notices = []
    for level, code, opened in (
        ("error", "vault", lambda: invocation.sealed_vault),
        ("error", "writer-keys", lambda: invocation.writer_keys),
        ("warning", "operator-key", lambda: invocation.vault),
    ):
        try:
            opened()
        except OutlastError as error:
            promise = "restore" if level == "warning" else "protect"
            notices.append(Notice(level, code, error.message, error.hint, promise=promise))
            break
    return notices


def _of_tripwire(invocation: Invocation, source: str, catalog: Catalog) -> Sequence[Notice]:
    """What stands against the halt that outlast.toml asks for. It stops no backup, so none of it is an error here."""
    from dataclasses import replace

    from outlast.cli.tripwiring import halt_notices, halter_of, rules_of, settings_of

    settings = settings_of(invocation)
    if not settings.enabled:
        return ()
    rules_of(settings, catalog)
    halter = halter_of(invocation, source)
    if halter is None:
        return ()
    try:
        found = halt_notices(invocation, source, halter, catalog)
    finally:
        halter.close()
    return [replace(one, level="warning" if one.level == "error" else one.level, promise="protect") for one in found]


def _summary(invocation: Invocation, catalog: Catalog, source: str) -> str:
    kinds = Counter(table.ownership.kind.value for table in catalog.tables)
    version = f"{catalog.server_version // 10000}.{catalog.server_version % 10000}"
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    return f"{invocation.target(source)}: PostgreSQL {version}, {count(len(catalog.tables), 'table')} ({told})"


def notice_text(notice: Notice, width: int) -> str:
    """A notice as `check` and `backup` print it, folded to a terminal's width."""
    weakens = f" [{notice.promise}]" if notice.promise else ""
    lines = wrap(
        f"{_MARKS.get(notice.level, notice.level)}  {notice.message}{weakens}", width, subsequent_indent=" " * 9
    )
    if notice.hint:
        lines += wrap(notice.hint, width, initial_indent=" " * 11, subsequent_indent=" " * 11)
    return "\n".join(lines)


def notice_fields(notice: Notice) -> dict[str, str | None]:
    """A notice in --json."""
    return {
        "level": notice.level,
        "code": notice.code,
        "message": notice.message,
        "hint": notice.hint,
        "table": str(notice.table) if notice.table else None,
        "promise": notice.promise,
    }
