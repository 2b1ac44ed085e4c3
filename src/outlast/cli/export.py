"""`outlast export DIR`: tools' documents as plain files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from outlast.cli import tooling
from outlast.cli.opening import Invocation
from outlast.cli.render import age, count
from outlast.core.document import stamp
from outlast.core.errors import ExitCode, UsageError


def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made where it is not.")],
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Only this source of outlast.toml.")] = None,
) -> ExitCode:
    """Write tools' documents as plain files: Markdown, attachments, calendars.

    One file a document, with its fields as front matter and its comments below, attachments in a folder beside it, and
    each schedule as iCalendar. Reads the local copy, brought to the newest backup first where the vault can be read.
    What lies in DIR from an earlier export is written over; what is gone since stays. It is not encrypted.
    """
    from outlast.library.exporting import export as write

    invocation = Invocation.of(context)
    names = invocation.config.tools if source is None else (source,)
    if not names or (source is not None and invocation.config.tool(source) is None):
        raise UsageError("there is no tool to export", hint="Tools are described in docs/CONNECTORS.md.")
    now = datetime.now(UTC)
    lines, written = [], []
    with tooling.open_copy(invocation, names) as copy:
        for one in copy.sources():
            if one.source not in names:
                continue
            done = write(copy, folder, one.source)
            told = (
                f"{count(done.documents, 'document')}, {count(done.files, 'file')}, {count(done.calendars, 'calendar')}"
            )
            lines.append(f"{one.source}: {told}, as of {stamp(one.moment)} ({age(now - one.moment)} ago)")
            written.append(
                {
                    "source": one.source,
                    "run": one.run,
                    "moment": one.moment.isoformat(),
                    "documents": done.documents,
                    "files": done.files,
                    "calendars": done.calendars,
                }
            )
    return invocation.output.finish({"folder": str(folder), "sources": written}, "\n".join([*lines, f"in {folder}"]))
