"""The run record of a backup: what it points to, and what it says to those who hold a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import zstandard

from outlast import __version__
from outlast.capture.packing import RunContext
from outlast.capture.records import Records
from outlast.core.tenant import Tenant
from outlast.sources.source import Notice
from outlast.vault.keys import WriterKeys, seal
from outlast.vault.manifest import Head
from outlast.vault.run import CHAIN_MAX, RunDetails, RunIndex, RunRecord, encode


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a backup found, beside the tenants themselves."""

    started: datetime
    described: Mapping[str, Any]
    notices: tuple[Notice, ...]
    rows: int
    orphan_rows: int
    scope: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class EncodedRun:
    data: bytes
    written: int  # tenants for which objects were put


def encode_run(
    context: RunContext, index: RunIndex, records: Records, summary: RunSummary, keys: WriterKeys
) -> EncodedRun:
    """The record of the run that is pending in `records`, as the bytes of its object.

    A head that nobody here knows, after all tenants were looked at, is of one whose rows are all gone: a host that lost
    its state cannot say so in a manifest of that tenant's, not knowing its name. A full record leaves it out.
    """
    heads: dict[str, Head] = {}
    recipients: dict[str, str] = {}
    known: dict[str, Tenant] = {}
    named: dict[str, Tenant] = {}
    for record in records.pending():
        known[record.prefix] = record.tenant
        if record.head.run == context.run:
            heads[record.prefix] = record.head
        if index.recipients.get(record.prefix) != record.recipient:
            recipients[record.prefix] = record.recipient
        if record.prefix in recipients or records.label(record.tenant.key) != record.tenant.label:
            named[record.prefix] = record.tenant
    written = len(heads)
    everybody = {record.prefix: record.tenant for record in records.all()} | known
    left = index.heads.keys() if summary.scope is not None else index.heads.keys() & everybody.keys()
    full = _is_full(context.run, index, written) or len(left) < len(index.heads)
    if full:
        heads = {**{prefix: index.heads[prefix] for prefix in left}, **heads}
        recipients = {**index.recipients, **recipients}
        named = {prefix: everybody[prefix] for prefix in sorted(everybody) if prefix in heads}
    run = RunRecord(
        source=context.source,
        run=context.run,
        previous=index.record,
        started=summary.started,
        finished=datetime.now(UTC),
        moment=context.moment,
        full=full,
        index_from=context.run if full else index.full,
        heads=heads,
        recipients=recipients,
        sealed=seal(keys.recipients, _compressed(_details(summary, named))),
        scope=summary.scope,
        tool=f"outlast {__version__}",
        mark=index.mark,
    )
    return EncodedRun(encode(run, keys.signer), written)


def _is_full(run: int, index: RunIndex, written: int) -> bool:
    """Full at first, after a bounded number of others, and where a record costs as much as a full one anyway."""
    return index.run == 0 or run - index.full >= CHAIN_MAX or written >= len(index.heads) / 2


def _details(summary: RunSummary, named: Mapping[str, Tenant]) -> RunDetails:
    return RunDetails(
        tenants=tuple((prefix, tenant.key, tenant.label) for prefix, tenant in named.items()),
        rows=summary.rows,
        orphan_rows=summary.orphan_rows,
        database=dict(summary.described),
        notices=tuple(notice.message for notice in summary.notices),
    )


def _compressed(details: RunDetails) -> bytes:
    return zstandard.ZstdCompressor().compress(details.to_bytes())
