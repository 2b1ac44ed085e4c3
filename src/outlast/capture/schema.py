"""The schema as a tenant of its own, whose tables are pg_dump's sections and whose rows are their lines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from outlast.capture.packing import Packer, TenantDraft
from outlast.capture.records import TenantRecord
from outlast.core.table import Column, Ownership, OwnershipKind, Table, TableName
from outlast.core.tenant import SCHEMA, Tenant
from outlast.vault.chunk import Chunker


def pack_schema(
    dump: Mapping[str, bytes], packer: Packer, previous: TenantRecord | None, recipients: Mapping[str, str]
) -> list[TenantRecord]:
    """Put the dump; its record, or none where it is as it was. `recipients` are the keys that the vault has."""
    seen = {str(_section(name).name): hashlib.sha256(text).digest() for name, text in dump.items()}
    if (previous is not None and previous.seen == seen) or not dump:
        return []
    prefix = packer.prefix(SCHEMA)
    recipient = previous.recipient if previous else recipients.get(prefix)
    draft = TenantDraft(Tenant(SCHEMA), prefix, recipient or packer.new_key(Tenant(SCHEMA), prefix), previous, seen)
    for name, text in dump.items():
        chunker = Chunker(lambda _: b"")
        table = str(_section(name).name)
        packer.take(draft, table, chunker.add(text, text.count(b"\n")))
        packer.take(draft, table, chunker.finish())
    by_name = {str(table.name): table for table in map(_section, dump)}
    return [packer.finish(draft, by_name)]


def _section(name: str) -> Table:
    """A section of the schema as a table of lines."""
    return Table(TableName(SCHEMA, name), (Column("line", "text"),), (), (), Ownership(OwnershipKind.OWNED))
