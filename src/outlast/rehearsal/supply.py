"""Where a rehearsal's copy comes from: one that is kept, brought forward to the moment that is wanted, or a new one.

What is kept only saves time: whenever it does not fit, or cannot be opened, the copy is built from the vault.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from outlast.rehearsal.copy import SERVING, Builder, Copy, CopyFacts, chosen_entries, serve_copy
from outlast.rehearsal.copy_cache import Cache, Kind, best_effort
from outlast.rehearsal.copy_data import VaultPlace
from outlast.rehearsal.copy_refresh import Changes, bring_forward, changes_since
from outlast.rehearsal.workspace import sweep, workspace
from outlast.restore.moments import At
from outlast.sources.postgres.catalog import OwnershipSettings
from outlast.sources.postgres.isolation import may_isolate
from outlast.sources.postgres.server import serving, stop
from outlast.state.local import HostKey
from outlast.vault.reader import Vault

_KEEP_AGAIN_BYTES = 16 * 1024 * 1024
"""Once so much was brought forward, the copy is kept anew: or every later rehearsal would bring it forward again."""

Say = Callable[[str], None]


@dataclass
class Supply:
    """Gives copies of one source. `registry` is a folder of this host's state; `cache` None keeps nothing."""

    vault: Vault
    at: At
    place: VaultPlace
    settings: OwnershipSettings
    binaries: Path
    registry: Path
    host_key: HostKey
    only: tuple[str, ...] = ()
    jobs: int = 2
    keeps: bool = True
    base: Path | None = None  # where copies lie while they are used; else the system's temporary folder
    log_all: bool = False
    say: Say = lambda _: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def copy(self) -> Iterator[tuple[Copy, Path]]:
        """A fresh copy that runs, and its folder. Both are gone when the block ends."""
        sweep(self.registry)
        with workspace(self.registry, self.base) as folder:
            facts, cached = self._unpacked(folder) or (self._built(folder), False)
            with serve_copy(
                self.binaries, folder, facts, isolated=may_isolate(), cached=cached, log_all=self.log_all
            ) as copy:
                yield copy, folder

    # A new one

    def _built(self, folder: Path) -> CopyFacts:
        self.say(f"Building a copy from the vault, as of {self.at} …")
        builder = Builder(
            self.place, self.settings, self.binaries, folder, self.only, self.jobs, self.say, self.seconds
        )
        facts = builder.build(self.vault, self.at)
        self._keep(facts, folder)
        return facts

    def _keep(self, facts: CopyFacts, folder: Path) -> None:
        if self.keeps:
            started = time.monotonic()
            with best_effort():
                self._cache.keep(self._kind, facts, folder)
            self.seconds["keep"] = time.monotonic() - started

    # One that is kept

    @property
    def _cache(self) -> Cache:
        return Cache(self.registry, self.host_key)

    @property
    def _kind(self) -> Kind:
        settings = self.settings
        described = [settings.tenant_table, settings.tenant_key, settings.tenant_label, settings.tables]
        return Kind(self.place.source, str(self.binaries), json.dumps(described, sort_keys=True), self.only)

    def _unpacked(self, folder: Path) -> tuple[CopyFacts, bool] | None:
        """The kept copy, brought forward to the moment; None where there is none that can be."""
        facts = self._cache.facts(self._kind) if self.keeps else None
        if facts is None:
            return None
        if self._has_erased(facts):
            self._cache.forget(self._kind)
            return None
        started = time.monotonic()
        changes: Changes | None = Changes()
        if facts.moment != self.at.text:
            changes = changes_since(self.vault, self.place.source, facts, self.at)
        if changes is None or not self._cache.unpack(self._kind, folder):
            return None
        self.seconds["unpack"] = time.monotonic() - started
        if facts.moment == self.at.text:
            self.say(f"A copy as of {self.at} was kept.")
        else:
            self.say(f"A copy as of {facts.as_of:%Y-%m-%d %H:%M:%S} UTC was kept; it is brought to {self.at} …")
        if facts.moment != self.at.text:
            facts = self._brought_forward(folder, facts, changes)
            self.seconds["refresh"] = time.monotonic() - started - self.seconds["unpack"]
        return facts, True

    def _brought_forward(self, folder: Path, facts: CopyFacts, changes: Changes) -> CopyFacts:
        entries = chosen_entries(self.vault, self.place.source, self.at, self.only)
        with serving(self.binaries, folder, SERVING) as server:
            facts = bring_forward(server.url(facts.database), facts, changes, self.at, entries)
            stop(server)
        if changes.size_bytes > _KEEP_AGAIN_BYTES:
            self._keep(facts, folder)
        return facts

    def _has_erased(self, facts: CopyFacts) -> bool:
        erased = self.vault.ledger(self.place.source).erased
        return any(recipient in erased for _, _, recipient in facts.heads.values())
