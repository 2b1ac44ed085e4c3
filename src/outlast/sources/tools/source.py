"""A tool as a Source: one site, fetched into its mirror and read from there.

A tool has no snapshot. The moment of a reading is when its fetch began: what was there then was seen; what changed
while it ran may be in it already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outlast.core.moment import Lsn, Moment
from outlast.core.row import KeyKind
from outlast.core.table import Table
from outlast.core.tenant import Tenant, TenantKey
from outlast.sources.source import Basis, Block, Fingerprint, Notice, Slice, Watcher
from outlast.sources.tools.client import Account, Client, Clock
from outlast.sources.tools.connector import Connector
from outlast.sources.tools.fetch import Fetch, Fetched, FetchOptions
from outlast.sources.tools.mirror import Mirror, Sealer

_BLOCK_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A site of a vendor. `tenant` is what people call it; `site` what paths may name (a status page's id)."""

    account: Account
    tenant: Tenant
    site: Mapping[str, str]
    options: FetchOptions
    mirror: Path
    sealer: Sealer
    clock: Clock = field(default_factory=Clock)

    def __str__(self) -> str:
        return str(self.account)

    @property
    def connector(self) -> Connector:
        return self.account.connector

    @contextmanager
    def read(self, watcher: Watcher) -> Iterator[ToolReading]:
        """See Source.read. Fetches what changed first."""
        with Mirror(self.mirror, self.sealer) as mirror:
            yield ToolReading(self, mirror, self.fetch(mirror, watcher))

    def fetch(self, mirror: Mirror, watcher: Watcher) -> Fetched:
        with closing(Client(self.account, self.clock)) as client:
            client.get(self._path(self.connector.probe))
            now = datetime.fromtimestamp(self.clock.wall(), UTC)
            return Fetch(self.connector, client, mirror, self.site, self.options, watcher, now).run()

    def check(self) -> tuple[Notice, ...]:
        """What this token can read, asked of each resource that has no parent, and what the API does not give."""
        from outlast.sources.tools.probing import probe

        with closing(Client(self.account, self.clock)) as client:
            client.get(self._path(self.connector.probe))
            return probe(self.connector, client, self.site, self.options.skip)

    def _path(self, path: str) -> str:
        for name, value in self.site.items():
            path = path.replace(f"{{{name}}}", value)
        return path

    def whole(self) -> ToolSource:
        """The same, taking nothing for unchanged."""
        return replace(self, options=replace(self.options, full=True))


class ToolReading:
    """See Reading."""

    counts_for_nothing = True
    tenant_kind = KeyKind.TEXT

    def __init__(self, source: ToolSource, mirror: Mirror, fetched: Fetched) -> None:
        self._source = source
        self._mirror = mirror
        self._fetched = fetched

    @property
    def moment(self) -> Moment:
        return Moment(self._fetched.started, Lsn(0), Lsn(0), "")

    @property
    def basis(self) -> Basis:
        number = self._fetched.round
        return Basis(f"mirror/{self._mirror.note('id')['id']}", number, number, number)

    @property
    def tables(self) -> tuple[Table, ...]:
        return self._source.connector.tables()

    @property
    def notices(self) -> tuple[Notice, ...]:
        return self._fetched.notices

    @property
    def described(self) -> Mapping[str, Any]:
        return {
            "kind": self._source.connector.kind,
            "site": str(self._source.account),
            "requests": self._fetched.requests,
        }

    @property
    def rows(self) -> _MirrorRows:
        return _MirrorRows(self._mirror, self._source.tenant.key)

    def tenants(self) -> Mapping[TenantKey, Tenant]:
        tenant = self._source.tenant
        return {tenant.key: tenant}

    def fingerprints(
        self,
        tables: Sequence[Table],
        *,
        tenants: Sequence[TenantKey] | None,
        since: int | None,
        sessions: int,
        advance: Callable[[str], None],
    ) -> Iterator[tuple[int, Mapping[TenantKey, Fingerprint]]]:
        """The mirror numbers the states of each table."""
        del tenants, since, sessions
        for number, table in enumerate(tables):
            rows = self._mirror.count(table.name.name)
            if rows:
                versions = str(self._mirror.version(table.name.name))
                yield number, {self._source.tenant.key: Fingerprint(rows, versions)}
            advance(str(table.name))

    def slices(self, tables: Sequence[Table], tenants: Collection[TenantKey], count: int) -> tuple[Slice, ...]:
        del tables, tenants, count
        return (Slice(),)

    def count_rows(self, tables: Sequence[Table]) -> dict[str, int]:
        return {str(table.name): self._mirror.count(table.name.name) for table in tables}

    def schema(self) -> Callable[[], Mapping[str, bytes]]:
        """A tool has none."""
        return dict

    def settle(self) -> None:
        """What a vendor answered is not undone by a crash of ours; and of theirs we cannot know."""


@dataclass(frozen=True, slots=True)
class _MirrorRows:
    """Read in one process only: Reading.counts_for_nothing says so."""

    mirror: Mirror
    tenant: TenantKey

    @contextmanager
    def open(self) -> Iterator[_MirrorReader]:
        yield _MirrorReader(self.mirror, self.tenant)


@dataclass(frozen=True, slots=True)
class _MirrorReader:
    mirror: Mirror
    tenant: TenantKey

    def blocks(
        self, table: Table, tenants: Collection[TenantKey], *, share: float, within: Slice | None
    ) -> Iterator[Block]:
        del share, within
        if self.tenant not in tenants:
            return
        lines: list[bytes] = []
        size = 0
        for _, place in self.mirror.keys(table.name.name):
            row = self.mirror.at(place)
            lines.append(row + b"\n")
            size += len(row)
            if size >= _BLOCK_BYTES:
                yield Block(self.tenant, b"".join(lines), len(lines))
                lines, size = [], 0
        if lines:
            yield Block(self.tenant, b"".join(lines), len(lines))

    def close(self) -> None:
        """The mirror is closed by the reading."""
