"""`outlast search WORDS`: find documents in the local copy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import tooling
from outlast.cli.opening import Invocation
from outlast.cli.render import age, count
from outlast.core.document import stamp
from outlast.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.library.copy import Copied, Hit


def search(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="All of them must be in it.")],
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Only this source of outlast.toml.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many are shown.")] = 20,
) -> ExitCode:
    """Find words in tickets, pages, alerts and incidents, with no tool at hand.

    Reads the local copy, which is brought to the newest backup first where the vault can be read. Its age is said
    first. The last word may be the beginning of one.
    """
    invocation = Invocation.of(context)
    names = invocation.config.tools if source is None else (source,)
    if not names or (source is not None and invocation.config.tool(source) is None):
        raise UsageError("there is no tool to search in", hint="Tools are described in docs/CONNECTORS.md.")
    with tooling.open_copy(invocation, names) as copy:
        found = copy.search(" ".join(words), limit, source)
        sources = [one for one in copy.sources() if one.source in names]
    now = datetime.now(UTC)

    def text(console: Console) -> None:
        for one in sources:
            console.print(_aged(one, now))
        for hit in found:
            document = hit.document
            console.print(f"\n{hit.title}")
            console.print(f"  {hit.snippet}", soft_wrap=True)
            console.print(
                f"  outlast show --source {document.source} {document.tenant} {document.table} --key {document.key}"
            )
        console.print(f"\n{count(len(found), 'document')}" + (" (--limit shows more)" if len(found) == limit else ""))

    fields = {
        "sources": [
            {"source": one.source, "run": one.run, "age_seconds": round((now - one.moment).total_seconds())}
            for one in sources
        ],
        "found": [_fields(hit) for hit in found],
    }
    return invocation.output.finish(fields, text)


def _aged(one: Copied, now: datetime) -> str:
    return f"{one.source}: as of {stamp(one.moment)}, {age(now - one.moment)} ago (run {one.run})"


def _fields(hit: Hit) -> dict[str, object]:
    document = hit.document
    return {
        "source": document.source,
        "tenant": document.tenant,
        "table": document.table,
        "key": document.key,
        "title": hit.title,
        "snippet": hit.snippet,
        "updated_at": None if document.updated_at is None else document.updated_at.isoformat(),
    }
