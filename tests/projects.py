"""A project folder with outlast.toml, as `outlast init` makes it: the product's commands as a test calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.commands import Outlast, Result


@dataclass(frozen=True)
class Project:
    """Runs commands in `outlast`'s folder, and fails the test with all they said where they did not end with 0."""

    outlast: Outlast
    url: str
    vault: str = "vault"  # a folder beside outlast.toml unless it is a URL

    @property
    def folder(self) -> Path:
        return self.outlast.folder

    @property
    def vault_folder(self) -> Path:
        return self.folder / self.vault

    @property
    def config(self) -> Path:
        return self.folder / "outlast.toml"

    @property
    def operator_key(self) -> str:
        """The identity that opens the vault, as `init` left it on this host."""
        text = (self.folder / ".outlast" / "operator.key").read_text()
        return next(line for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-"))

    def init(self, tenant_table: str, tenant_label: str, tables: Mapping[str, str] | None = None) -> Result:
        """`tables` are classifications that a person writes into the file afterwards."""
        result = self.outlast.done(
            "init", self.url, "--tenant-table", tenant_table, "--tenant-label", tenant_label, "--vault", self.vault
        )
        if tables:
            self.classify(tables)
        return result

    def classify(self, tables: Mapping[str, str]) -> None:
        left = dict(tables)
        lines = []
        for line in self.config.read_text().splitlines():
            name = next((name for name in left if line.startswith(_quoted(name))), None)
            lines.append(line if name is None else f"{_quoted(name)} = {_quoted(left.pop(name))}")
        assert not left, f"not in outlast.toml: {sorted(left)}"
        self.config.write_text("\n".join(lines) + "\n")

    def json(self, *arguments: str) -> dict[str, Any]:
        """A command with --json, done; what it printed."""
        return self.outlast.done("--json", *arguments).json

    def backup(self, *arguments: str) -> dict[str, Any]:
        return self.json("backup", *arguments)

    def restore(self, *tenants: str, options: Sequence[str] = ()) -> dict[str, Any]:
        """Restore tenants by key or label (either may begin with a dash), plan and execution in one go."""
        return self.json("restore", "--execute", *options, "--", *tenants)

    def objects(self) -> dict[str, bytes]:
        """Every object of a vault that is a folder, by its path."""
        return {
            str(path.relative_to(self.vault_folder)): path.read_bytes()
            for path in sorted(self.vault_folder.rglob("*"))
            if path.is_file()
        }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
