"""Finding some tenants of a vault by key or label, all in one pass and without reading what it holds of all others.

How a vault is read, and what a tenant consists of, is reader.py's.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from outlast.core.errors import CorruptionError, NotFoundError, UsageError
from outlast.core.tenant import RESERVED, Tenant, TenantKey
from outlast.vault.folded import collector_paused
from outlast.vault.keys import prefix_of
from outlast.vault.run import RunRecord, run_path

if TYPE_CHECKING:
    from outlast.vault.reader import TenantEntry, Vault

_NAMES_COMPARED_MAX = 20_000  # looking for close names among more takes seconds
_UNKNOWN_SHOWN_MAX = 10


def find_tenants(vault: Vault, source: str, names: Sequence[str], number: int | None = None) -> list[TenantEntry]:
    """Tenants by keys or labels as of a run (None: the newest), in the order of their names.

    Raises NotFoundError that tells all unknown names, with close ones; UsageError where several tenants fit a name.
    """
    chain = vault.chain(source, number)
    known = _reserved(vault, source, names) or _known(vault, chain, frozenset(names))
    by_key = {tenant.key: prefix for prefix, tenant in known.items()}
    by_label: dict[str, list[str]] = {}
    for prefix, tenant in known.items():
        by_label.setdefault(tenant.label or "", []).append(prefix)
    found, unknown = [], []
    for name in names:
        entries: list[TenantEntry] = []
        for fitting in ([by_key[TenantKey(name)]] if name in by_key else [], by_label.get(name, [])):
            entries = entries or [
                entry for prefix in fitting if (entry := _entry(vault, chain, prefix, known[prefix])) is not None
            ]
        if len(entries) > 1:
            keys = ", ".join(sorted(entry.tenant.key for entry in entries))
            raise UsageError(f"{len(entries)} tenants have the label {name!r}", hint=f"Use the key: {keys}.")
        found += entries
        unknown += [] if entries else [name]
    if unknown:
        raise _unknown(vault, source, number, chain, unknown)
    return found


def _reserved(vault: Vault, source: str, names: Sequence[str]) -> dict[str, Tenant]:
    """Reserved names by their folders, which follow from them, so that no list of everybody has to be opened."""
    if not names or not RESERVED.issuperset(names):
        return {}
    naming = vault.naming()
    return {prefix_of(naming, source, TenantKey(name)): Tenant(TenantKey(name)) for name in names}


def _known(vault: Vault, chain: Sequence[RunRecord], wanted: frozenset[str]) -> dict[str, Tenant]:
    """Who may be meant, by prefix; the newest label counts."""
    known: dict[str, Tenant] = {}
    with collector_paused():
        for record in reversed(chain):
            listed = _listed(vault, record)
            named = [one for one in listed if one[1] in wanted or one[2] in wanted or one[0] in known]
            known |= {prefix: Tenant(TenantKey(key), label) for prefix, key, label in named}
    return known


def _listed(vault: Vault, record: RunRecord) -> Sequence[tuple[str, str, str | None]]:
    try:
        listed: Sequence[tuple[str, str, str | None]] = json.loads(vault.opened_details(record))["tenants"]
    except (ValueError, KeyError, TypeError) as error:
        what = f"run record {run_path(record.source, record.run)}"
        raise CorruptionError(f"the sealed part of {what} cannot be read", code="run-record") from error
    return listed


def _entry(vault: Vault, chain: Sequence[RunRecord], prefix: str, tenant: Tenant) -> TenantEntry | None:
    from outlast.vault.reader import TenantEntry

    head = next((found for record in chain if (found := record.heads.get(prefix)) is not None), None)
    recipient = next((key for record in chain if (key := record.recipients.get(prefix)) is not None), None)
    if head is None or recipient is None:
        return None
    ledger = vault.ledger(chain[0].source)
    if recipient in ledger.erased or ledger.forgotten(chain[0].run, prefix):
        return None
    return TenantEntry(tenant, prefix, recipient, head)


def _unknown(
    vault: Vault, source: str, number: int | None, chain: Sequence[RunRecord], names: Sequence[str]
) -> NotFoundError:
    known = {text for record in chain for _, key, label in _listed(vault, record) for text in (key, label) if text}
    known -= RESERVED
    close = difflib.get_close_matches(names[0], known, 3) if len(known) <= _NAMES_COMPARED_MAX else []
    shown = ", ".join(repr(name) for name in names[:_UNKNOWN_SHOWN_MAX])
    more = f" and {len(names) - _UNKNOWN_SHOWN_MAX:,} more" if len(names) > _UNKNOWN_SHOWN_MAX else ""
    what = f"there is no tenant {shown}" if len(names) == 1 else f"there are no tenants {shown}{more}"
    run = chain[0].run if chain else 0
    last = _last_run_with(vault, source, chain, names)
    if last is not None:
        return NotFoundError(
            f"{what} in the vault at run {run}: their rows were gone by then"
            if len(names) > 1
            else f"tenant {shown} has no rows in the vault at run {run}: they were gone by then",
            hint=f"The last run that has {'all of them' if len(names) > 1 else 'it'}: --at run:{last}",
            code="nothing-left",
        )
    return NotFoundError(
        f"{what} in the vault" + (f" at run {run}" if number is not None else f" of source {source!r}"),
        hint=f"Did you mean {' or '.join(close)}?" if close else "List them: outlast tenants",
        code="unknown-tenant",
    )


def _last_run_with(vault: Vault, source: str, chain: Sequence[RunRecord], names: Sequence[str]) -> int | None:
    """The last run before this chain of records at which all of these names were known, if there is one."""
    wanted = frozenset(names)
    while chain and (number := _before(vault, source, chain[-1].run)) is not None:
        chain = vault.chain(source, number)
        there = [
            tenant for prefix, tenant in _known(vault, chain, wanted).items() if _entry(vault, chain, prefix, tenant)
        ]
        if wanted <= {text for tenant in there for text in (tenant.key, tenant.label)}:
            return number
    return None


def _before(vault: Vault, source: str, run: int) -> int | None:
    """The newest run before this one that was not forgotten."""
    return max((number for number in vault.numbers(source) if number < run), default=None)
