"""Tenants by number: what the route map keeps of them, and the keys that their frames are sealed to.

A number stands for a tenant on this host only. A key is made when a tenant's first frame is about to be written, and is
in the vault before that frame is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from outlast.capture.route_ids import ORPHAN_NUMBER, SHARED_NUMBER
from outlast.capture.route_map import RouteMap
from outlast.core.errors import Refused
from outlast.core.tenant import ORPHAN, RESERVED, SHARED, Tenant, TenantKey
from outlast.state.local import HostKey
from outlast.vault.keys import WriterKeys, key_path
from outlast.vault.store import AlreadyExistsError, Store

_CACHE_MAX = 50_000
_RESERVED_NUMBERS = {ORPHAN_NUMBER: ORPHAN, SHARED_NUMBER: SHARED}


@dataclass(frozen=True, slots=True)
class Numbered:
    """A tenant as frames need it. `recipient` None: no key is known yet."""

    number: int
    tenant: Tenant
    prefix: str
    recipient: str | None


class Numbering:
    """Numbers for tenants' keys. New ones, and what changes of others, reach the disk by `save`."""

    def __init__(self, map_: RouteMap, host_key: HostKey, keys: WriterKeys, source: str) -> None:
        self._map = map_
        self._host_key = host_key
        self._keys = keys
        self._source = source
        self._numbers: dict[bytes, int] = {}
        self._tenants: dict[int, Numbered] = {}
        self._unsaved: dict[int, Numbered] = {}
        self._named: set[int] = set()
        self._made: dict[str, str] = {}
        self._next = map_.last_tenant() + 1

    def number_of(self, key: bytes) -> int:
        """The number of the tenant whose key has this text; a new one where it has none yet."""
        found = self._numbers.get(key)
        return self._find(key) if found is None else found

    def of(self, number: int) -> Numbered:
        found = self._tenants.get(number)
        if found is not None:
            return found
        sealed = self._map.tenant_row(number)
        if sealed is None and number in _RESERVED_NUMBERS:
            return self._add(number, _RESERVED_NUMBERS[number], None)
        assert sealed is not None, "a route leads to a tenant that has no number"
        return self._keep(self._opened(number, sealed))

    def everyone(self) -> list[int]:
        """Every tenant that has a number, orphans among them."""
        numbers = {number for number, _ in self._map.tenant_rows()} | self._unsaved.keys()
        return sorted((numbers | {ORPHAN_NUMBER}) - {SHARED_NUMBER})

    def relabel(self, number: int, label: str | None, *, told: bool = False) -> bool:
        """Note a tenant's label; whether it is another than was known. `told`: a run tells it, the log need not."""
        known = self.of(number)
        if known.tenant.label == label:
            return False
        self._set(replace(known, tenant=Tenant(known.tenant.key, label)))
        if not told:
            self._named.add(number)
        return True

    def label_of(self, key: TenantKey) -> str | None:
        """A tenant's label, where this host knows it; gives nobody a number."""
        number = self._numbers.get(key.encode("utf-8", "surrogateescape"))
        if number is None:
            row = self._map.find_tenant(self._host_key.name(key))
            number = None if row is None else row[0]
        return None if number is None else self.of(number).tenant.label

    def take_named(self) -> set[int]:
        """Tenants that got a key or another label since this was last asked."""
        named, self._named = self._named, set()
        return named

    def made_before(self, recipients: Mapping[str, str]) -> None:
        """Keys, by folder, that segments are sealed to, and that may not be noted here."""
        self._made.update(recipients)

    def with_key(
        self, number: int, store: Store, erased: frozenset[str], known: Callable[[str], str | None]
    ) -> Numbered:
        """The tenant with a key to seal to: the one that its runs have, for that is never swept. One made now is
        in the vault then, and the tenant to be named."""
        tenant = self.of(number)
        for found in (known(tenant.prefix), tenant.recipient, self._made.get(tenant.prefix)):
            if found is not None and found not in erased:
                return tenant if found == tenant.recipient else self._set(replace(tenant, recipient=found))
        key = self._keys.new_key(tenant.tenant)
        with suppress(AlreadyExistsError):  # an answer that was lost: nobody else could have made this very key
            store.create(key_path(self._source, tenant.prefix, key.recipient), key.wrapped)
        self._named.add(number)
        return self._set(replace(tenant, recipient=key.recipient))

    def save(self) -> None:
        """Put what is new on disk; before the routes that name it."""
        if not self._unsaved:
            return
        rows = [
            (number, self._host_key.name(one.tenant.key), self._sealed(one)) for number, one in self._unsaved.items()
        ]
        self._map.put_tenants(rows)
        self._unsaved.clear()
        if len(self._tenants) > _CACHE_MAX:
            self._tenants.clear()
            self._numbers.clear()

    def forget(self) -> None:
        """The map was cleared."""
        self._numbers.clear()
        self._tenants.clear()
        self._unsaved.clear()
        self._named.clear()
        self._next = self._map.last_tenant() + 1

    def _find(self, key: bytes) -> int:
        text = TenantKey(key.decode("utf-8", "surrogateescape"))
        if text in RESERVED:
            raise Refused(
                f"cannot follow: a tenant's key is {text!r}, a name that Outlast keeps for itself",
                hint="Rename that tenant's key.",
            )
        row = self._map.find_tenant(self._host_key.name(text))
        if row is None:
            number, self._next = self._next, self._next + 1
            self._add(number, text, None)
        else:
            number = row[0]
            self._keep(self._opened(number, row[1]))
        self._numbers[key] = number
        return number

    def _add(self, number: int, key: TenantKey, label: str | None) -> Numbered:
        return self._set(Numbered(number, Tenant(key, label), self._keys.prefix(self._source, key), None))

    def _set(self, tenant: Numbered) -> Numbered:
        self._unsaved[tenant.number] = tenant
        return self._keep(tenant)

    def _keep(self, tenant: Numbered) -> Numbered:
        self._tenants[tenant.number] = tenant
        return tenant

    def _sealed(self, one: Numbered) -> bytes:
        fields = [one.tenant.key, one.tenant.label, one.recipient]
        return self._host_key.seal(json.dumps(fields).encode(), b"follow tenant")

    def _opened(self, number: int, sealed: bytes) -> Numbered:
        key, label, recipient = json.loads(self._host_key.open(sealed, b"follow tenant"))
        tenant = Tenant(TenantKey(key), label)
        return Numbered(number, tenant, self._keys.prefix(self._source, tenant.key), recipient)
