"""From outlast.toml to paging: the services that reach people, those of last resort, the copy. For its commands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from outlast.cli.opening import Invocation
    from outlast.library.copy import LocalCopy
    from outlast.oncall.channels import AppriseChannels
    from outlast.oncall.lookup import Lookup
    from outlast.oncall.paging import Paging
    from outlast.oncall.schedule import Override
    from outlast.state.database import Database


def channels_of(invocation: Invocation) -> AppriseChannels:
    """The services, tried out. Those of OUTLAST_NOTIFY are of last resort too."""
    from outlast.capture.notify import urls
    from outlast.oncall.channels import read

    document = invocation.config.document
    last_resort = urls(os.environ, document.tripwire.notify_command)
    found = read(os.environ, document.paging.command, last_resort)
    if not found.last_resort:
        invocation.output.warn(
            "nobody is named for where a page reaches nobody: set OUTLAST_NOTIFY, or a `fallback URL` line of "
            "OUTLAST_PAGING or [paging] command"
        )
    return found


def lookup_of(invocation: Invocation) -> Lookup:
    """The local copy, opened when it is first there."""
    from outlast.core.errors import NotFoundError
    from outlast.library.copy import FILE_NAME, LocalCopy
    from outlast.oncall.lookup import Lookup

    path = invocation.config.key_dir / FILE_NAME
    kept: list[LocalCopy] = []

    def opened() -> LocalCopy | None:
        if not kept:
            try:
                kept.append(invocation.closing.enter_context(LocalCopy.open(path)))
            except NotFoundError:
                return None
        return kept[0]

    return Lookup(opened)


def paging_of(
    invocation: Invocation,
    database: Database,
    lookup: Lookup,
    *,
    note: Callable[[Connection, str, str], None] | None = None,
    close_alert: Callable[[str], None] | None = None,
) -> Paging:
    """Paging on the shared state, as outlast.toml has it."""
    from outlast.oncall import overrides
    from outlast.oncall.paging import Paging

    document = invocation.config.document

    def laid() -> Mapping[str, Sequence[Override]]:
        return overrides.laid_by_schedule(overrides.all_of(database))

    paging = Paging(
        database,
        channels_of(invocation),
        lookup.directory,
        laid,
        public_url=document.serve.public_url,
        default_policy=document.paging.default_policy,
        close_alert=close_alert,
    )
    if note is not None:
        paging.note = note
    return paging
