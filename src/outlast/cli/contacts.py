"""Affected tenants' own e-mail addresses, out of the vault: where they survived what took them from the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from outlast.cli.opening import Invocation
from outlast.core.errors import NotFoundError, OutlastError, TransientError

if TYPE_CHECKING:
    from outlast.core.tenant import Tenant
    from outlast.incident.incident import Incident
    from outlast.incident.subscribers import Wish

_CONTACTS_MAX = 50
_RUNS_MAX = 20


def contacts_of(
    invocation: Invocation, incident: Incident, tenants: Sequence[Tenant], say: Callable[[str], None]
) -> Mapping[str, Sequence[Wish]]:
    """Addresses by tenant key, as they were before the incident began. Who has none is said to the operator.

    Raises TransientError where the vault does not answer: nobody is to go unwritten for that.
    """
    settings = invocation.config.document.incident
    if settings.contacts is None:
        return {}
    table, _, column = settings.contacts.rpartition(".")
    found: dict[str, Sequence[Wish]] = {}
    for tenant in tenants:
        found[tenant.key], problem = _contacts(invocation, incident, tenant, table, column)
        if problem is not None:
            say(f"{tenant} is NOT written to: no address is found ({problem})")
    return found


def _contacts(
    invocation: Invocation, incident: Incident, tenant: Tenant, table: str, column: str
) -> tuple[list[Wish], str | None]:
    """The addresses; or, where there are none, why."""
    from outlast.core.tenant import TenantKey
    from outlast.incident.subscribers import Channel, Wish

    source = invocation.config.document.incident.contacts_source
    problem = f"the vault has none in {table}.{column}, which [incident] contacts names"
    for at in _moments(invocation, source, incident):
        try:
            addresses = _column(invocation, source, TenantKey(tenant.key), table, column, at)
        except TransientError:
            raise
        except OutlastError as error:
            problem = error.message  # that moment is not to be had: the next one is tried
            continue
        if addresses:
            return [Wish(Channel.EMAIL, address, tenant=tenant.key) for address in addresses], None
    return [], problem


def _moments(invocation: Invocation, source: str, incident: Incident) -> Iterator[str]:
    """Where to look, the best first: just before it began, and at what was kept last. Of a tenant that is gone the
    newest state is an empty one, and the alarm may be later than the first loss: then the newest run that has some."""
    yield f"{incident.began_at:%Y-%m-%dT%H:%M:%SZ}"
    yield incident.began_at.isoformat()
    yield "latest"
    for number in reversed(invocation.vault.numbers(source)[-_RUNS_MAX:]):
        yield f"run:{number}"


def _column(invocation: Invocation, source: str, tenant: str, table: str, column: str, at: str) -> list[str]:
    from outlast.core.row import fields, value
    from outlast.core.table import TableName
    from outlast.restore.history import find_entry, past_at, resolve

    vault = invocation.vault
    moment = resolve(vault, source, at, invocation.config.key_dir)
    past = past_at(vault, source, find_entry(vault, source, tenant, moment), moment)
    stored = past.tables.get(TableName.parse(table))
    if stored is None:
        return []
    if column not in stored.layout.columns:
        raise NotFoundError(f"[incident] contacts: table {table} has no column {column}")
    position = stored.layout.columns.index(column)
    addresses: dict[str, None] = {}
    for block in past.read(stored):
        for row in block.splitlines():
            text = value(fields(row)[position])
            if text and "@" in text:
                addresses[text] = None
            if len(addresses) == _CONTACTS_MAX:
                return list(addresses)
    return list(addresses)
