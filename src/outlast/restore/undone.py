"""An applied plan as the vault knows it, from its before-images alone: for hosts that did not make it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.keys import prefix_of
from outlast.vault.manifest import Head
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.undo import UndoObject, list_undo, read_entry

_NO_HEAD = Head(0, "", 0, 0)  # undoing asks for no manifest
_PLAN_LETTERS = 9


def find_undone(vault: Vault, sources: Iterable[str], given: str) -> list[tuple[str, str]]:
    """Source and id of the plans with before-images that are, or begin with, `given`."""
    if not re.fullmatch(r"[0-9a-z]+", given):
        return []
    found = set()
    for source in sources:
        folder = f"{source}/undo/"
        inner = f"{given}/" if len(given) >= _PLAN_LETTERS else ""
        for item in vault.store.list(folder + inner):
            plan = item.path.removeprefix(folder).partition("/")[0]
            if plan.startswith(given):
                found.add((source, plan))
    return sorted(found)


def undone_tenants(
    vault: Vault,
    source: str,
    plan: str,
    names: Sequence[str] | None = None,
    counts: Callable[[UndoObject], bool] = lambda _: True,
) -> list[TenantEntry]:
    """The tenants in a plan's before-images; only those of these keys, in their order, where `names` is given.

    `counts` tells whether an object does: an attempt that was not committed leaves one, too. Opens the tenants' keys.
    """
    newest: dict[str, UndoObject] = {}
    for one in list_undo(vault.store, source, plan, vault.pin.signers):
        if counts(one):
            for prefix in one.index.entries:
                if prefix not in newest or int(newest[prefix].index.xid) < int(one.index.xid):
                    newest[prefix] = one
    wanted: Iterable[str] = sorted(newest)
    if names is not None:
        naming = vault.naming()
        prefixes = (prefix_of(naming, source, TenantKey(name)) for name in names)
        wanted = [prefix for prefix in prefixes if prefix in newest]
    return [_entry(vault, source, prefix, newest[prefix]) for prefix in wanted]


def _entry(vault: Vault, source: str, prefix: str, found: UndoObject) -> TenantEntry:
    recipient = found.index.entries[prefix][0]
    shut = TenantEntry(Tenant(TenantKey(prefix)), prefix, recipient, _NO_HEAD)
    tenant = read_entry(found, prefix, vault.key(source, shut)).tenant
    return TenantEntry(tenant, prefix, recipient, _NO_HEAD)
