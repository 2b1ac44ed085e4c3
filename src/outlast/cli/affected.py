"""Which tenants an incident affects, as commands name them: by key or label, in a file, or by what a damage took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from outlast.cli.opening import Invocation
from outlast.core.errors import NotFoundError, OutlastError, UsageError
from outlast.core.tenant import RESERVED, Tenant, TenantKey


def named_tenants(invocation: Invocation, names: Sequence[str], file: Path | None) -> list[Tenant]:
    """Tenants by key or label. Without a vault at hand a name stands for itself: an incident is opened all the same."""
    names = [*names, *_lines(file)]
    if not names:
        return []
    try:
        from outlast.restore.history import find_entries, resolve

        vault, source = invocation.vault, invocation.config.document.incident.contacts_source
        return [entry.tenant for entry in find_entries(vault, source, names, resolve(vault, source))]
    except NotFoundError:
        raise
    except OutlastError as error:
        invocation.output.warn(f"the vault could not be asked who that is ({error.message}): taken as written")
        return [Tenant(TenantKey(name)) for name in names]


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the tenants' file {file}: {reason}") from error


@dataclass(frozen=True, slots=True)
class Alerted:
    """What an alert of the relay says of an incident: since when, which components, whose it may be."""

    began_at: datetime
    components: tuple[str, ...]
    tenants: tuple[Tenant, ...]
    note: str


def alerted(invocation: Invocation, name: str, components: Sequence[str]) -> Alerted:
    """Read from an alert by id, number or alias. A component counts that its entity, a tag or a detail names; tenants
    are those of its details `tenant` and `tenants`."""
    from outlast.cli.informing import database_of
    from outlast.relay import reading, tables
    from outlast.relay.event import Naming

    database, name = database_of(invocation), name.lstrip("#")
    database.install(tables.SCHEMA)
    with database.read() as connection:
        found = (reading.find(connection, naming, name) for naming in (Naming.ID, Naming.TINY, Naming.ALIAS))
        alert = next((one for one in found if one is not None), None)
    if alert is None:
        raise NotFoundError(f"there is no alert {name!r} here", hint="`outlast serve` lists them under /alerts.")
    details = {key.casefold(): value for key, value in (alert.details or {}).items()}
    words = {word.casefold() for word in (alert.entity, *alert.tags, *details.values())}
    listed = [*details.get("tenants", "").split(","), details.get("tenant", "")]
    tenants = named_tenants(invocation, [one.strip() for one in listed if one.strip()], None)
    return Alerted(
        datetime.fromtimestamp(alert.created_at, UTC),
        tuple(one for one in components if one.casefold() in words),
        tuple(tenants),
        f"from alert #{alert.tiny}: {alert.message}",
    )


def damaged_tenants(invocation: Invocation, since: str) -> Iterator[tuple[Tenant, int | None]]:
    """Who lost rows since a moment, and how many, from the log alone."""
    from outlast.cli.damaged import damage_of, damaged_entries

    source = invocation.config.document.incident.contacts_source
    found = damage_of(invocation, source, since, None, ())
    for entry in damaged_entries(invocation, source, found, ()):
        if entry.tenant.key not in RESERVED:
            lost = found.hard.of(entry.tenant.key).rows + found.soft.of(entry.tenant.key).rows
            yield entry.tenant, lost or None
