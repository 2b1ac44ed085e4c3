"""What `check` says of a tool: which resources this token can read, and what the vendor's API does not give at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from outlast.core.errors import OutlastError
from outlast.sources.source import Notice
from outlast.sources.tools.client import Client, RefusedError
from outlast.sources.tools.connector import Connector, Resource

_OPTIONAL = frozenset({400, 402, 403, 404, 405, 410, 422})
_LOOKED_BACK = timedelta(hours=1)


def probe(connector: Connector, client: Client, site: Mapping[str, str], skip: frozenset[str]) -> tuple[Notice, ...]:
    """One cheap question a resource. A refusal stops a backup, unless the resource may be missing from a plan."""
    notices: list[Notice] = []
    for resource in connector.resources:
        table = connector.table(resource.name)
        if resource.name in skip:
            notices.append(Notice("info", "skipped", f"{table} is left out, as outlast.toml says", table=table))
        elif resource.parent is None:
            try:
                _ask(client, resource, site)
            except RefusedError as error:
                optional = resource.optional is not None and error.status in _OPTIONAL
                message = error.message if resource.optional is None else f"{error.message}; {resource.optional}"
                hint = error.hint and error.hint.replace('skip = ["…"]', f'skip = ["{resource.name}"]')
                level = "warning" if optional else "error"
                notices.append(Notice(level, error.code, message, hint, table, "protect"))
                if error.code == "token":
                    break
            except OutlastError as error:
                notices.append(Notice("error", error.code, error.message, error.hint, table, "protect"))
                break
    notices += [Notice("info", "cannot", f"not to be had: {what}", promise="protect") for what in connector.cannot]
    return tuple(notices)


def _ask(client: Client, resource: Resource, site: Mapping[str, str]) -> None:
    """The first page, of the last hour where there is such a question."""
    now = datetime.now(UTC)
    path = re.sub(r"\{([^}]+)\}", lambda match: site.get(match[1], match[0]), resource.path)
    params = {name: value(now) if callable(value) else value for name, value in resource.params.items()}
    if resource.changes is not None:
        params |= resource.changes.ask(now - _LOOKED_BACK, now)
    body = None
    if resource.body is not None:
        body, params = {**resource.body, **params}, {}
    next(iter(client.pages(path, resource.items, resource.paging, params, body)), None)
