"""Whom an intent's names mean: a tenant by its key, or by its label as it was before the script or is after it. Pure.

A script may rename tenants, and even swap their names. A key is always itself; a label that could be two tenants', one
before and another one after, is nobody's: one of them would stand for the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal.finding import Finding, FindingKind, Weight, some_text
from outlast.rehearsal.observed import Observed

Labels = Mapping[TenantKey, Tenant]


@dataclass(frozen=True, slots=True)
class Meant:
    """Tenants by the names that mean them. `ambiguous` are names that could be several tenants'."""

    keys: Mapping[str, TenantKey] = field(default_factory=dict)
    ambiguous: Mapping[str, tuple[TenantKey, ...]] = field(default_factory=dict)

    @property
    def tenants(self) -> frozenset[TenantKey]:
        return frozenset(self.keys.values())


def meant(observed: Observed, names: Iterable[str]) -> Meant:
    """Whom each of the names means; one that means nobody is in neither."""
    wanted = set(names)
    known = {*observed.effect.tenants, *observed.tenants, *observed.formerly}
    keys = {str(key): key for key in known if key in wanted}
    labelled: dict[str, set[TenantKey]] = {}
    for labels in (observed.formerly, observed.tenants):
        for key, tenant in labels.items():
            if tenant.label in wanted and tenant.label not in keys:
                labelled.setdefault(tenant.label, set()).add(key)
    keys |= {name: key for name, found in labelled.items() if len(found) == 1 for key in found}
    return Meant(keys, {name: tuple(sorted(found)) for name, found in labelled.items() if len(found) > 1})


def ambiguities(observed: Observed, found: Meant) -> Iterable[Finding]:
    for name, tenants in sorted(found.ambiguous.items()):
        whose = some_text(f"{key} {_when(observed, key, name)}" for key in tenants)
        told = f"the label {name!r} does not say which tenant is meant: {whose}. List them by their keys"
        yield Finding(FindingKind.AMBIGUOUS, told, tenants=tenants, weight=Weight.SCRIPT)


def _when(observed: Observed, key: TenantKey, name: str) -> str:
    before = observed.formerly.get(key, Tenant(key)).label == name
    after = observed.tenants.get(key, observed.formerly.get(key, Tenant(key))).label == name
    return "has it before the script" if before and not after else "has it after the script" if not before else "has it"


def names_of(observed: Observed, keys: Iterable[TenantKey]) -> tuple[str, ...]:
    """Names for a draft: labels that production knows, new tenants' own; the key where a label is not clear."""
    labels = {key: observed.formerly.get(key, observed.tenants.get(key, Tenant(key))).label for key in keys}
    found = meant(observed, [label for label in labels.values() if label is not None]).keys
    return tuple(label if label is not None and found.get(label) == key else key for key, label in labels.items())
