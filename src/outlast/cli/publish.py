"""`outlast publish`: write the status page to where customers read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.informing import database_of, kept_file, teller_of
from outlast.cli.opening import Invocation
from outlast.cli.render import age
from outlast.cli.render import time as shown_time
from outlast.core.errors import ExitCode, OutlastError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def publish(
    context: typer.Context,
    to: Annotated[
        str | None, typer.Option(metavar="PLACE", help="A folder or bucket; otherwise [page] to in outlast.toml.")
    ] = None,
) -> ExitCode:
    """Write the status page to where customers read it.

    `outlast serve` and `outlast incident watch` do it by themselves. Needs neither the database nor the vault; where
    the state of incidents cannot be read either, the files that were written last are published again, and say how old
    they are. Exit code 4 then.
    """
    from outlast.incident import publish as publishing
    from outlast.incident import site

    invocation, now = Invocation.of(context), datetime.now(UTC)
    place = to or invocation.config.document.page.to
    if place is None:
        raise UsageError(
            "nothing says where the status page goes",
            hint='Write to = "FOLDER or s3://BUCKET" under [page] in outlast.toml, or give --to.',
        )
    target = publishing.place(place, Path.cwd() if to else invocation.config.path.parent)
    old: timedelta | None = None
    try:
        files: Mapping[str, bytes] = site.files(teller_of(invocation, database_of(invocation), print).page(now))
        publishing.keep(kept_file(invocation), files, now)
    except OutlastError as error:
        kept = publishing.kept(kept_file(invocation))
        files, old = kept.files, now - kept.at
        invocation.output.warn(f"{error.message}: what was written at {shown_time(kept.at)} is published again")
    number = publishing.publish(target, files)
    told = f"Published {number} files to {place}"
    return invocation.output.finish(
        {"files": number, "to": place, "age_seconds": None if old is None else int(old.total_seconds())},
        f"{told}." if old is None else f"{told}: as of {age(old)} ago.",
        exit_code=ExitCode.DONE if old is None else ExitCode.FOUND,
    )
