"""A local copy with given documents, filled from a vault as on any other day; and an outlast.toml beside it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outlast.core.document import encode_row
from outlast.library.copy import FILE_NAME
from outlast.library.filling import fill
from tests.vaults import SOURCE, folder_vault

AT = datetime(2026, 3, 2, 5, 6, 7, tzinfo=UTC)
Tables = Mapping[str, Mapping[str, Mapping[str, Any]]]

_CONFIG = """\
[vault]
url = "vault"
id = "no-vault-is-read"
recipients = ["age1"]
signers = ["ssh-ed25519 A"]

[sources.main]
url = "postgresql://nobody@127.0.0.1:1/nothing"
tenant_table = "tenants"
"""


def fill_copy(path: Path, tables: Tables) -> Path:
    """Documents by table and key, in the copy at `path`."""
    writer = folder_vault(path.parent / "the-vault")
    stored = {
        table: [encode_row(key, AT, dict(document)) + b"\n" for key, document in sorted(documents.items())]
        for table, documents in tables.items()
    }
    writer.back_up({"acme": stored})
    fill(path, writer.vault(), SOURCE)
    return path


def make_project(folder: Path, tables: Tables, more: str = "") -> Path:
    """An outlast.toml whose vault and database are both away, and a copy. Returns the file."""
    fill_copy(folder / ".outlast" / FILE_NAME, tables)
    config = folder / "outlast.toml"
    config.write_text(_CONFIG + more, encoding="utf-8")
    return config
