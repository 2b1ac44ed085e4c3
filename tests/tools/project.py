"""A project folder whose sources are tools: outlast.toml, the vault and its keys, without a database."""

from __future__ import annotations

from pathlib import Path

from outlast.config.document import VaultSettings
from outlast.vault.header import create_vault
from outlast.vault.keys import WriterKeys, generate_identity
from outlast.vault.store import open_store


def write(folder: Path, name: str, kind: str, tenant: str = "acme", **settings: object) -> None:
    """Make the vault and the keys as `init` does, and write an outlast.toml with one tool."""
    keys_folder = folder / ".outlast"
    keys_folder.mkdir(mode=0o700, parents=True)
    _, recovery = generate_identity("recovery")
    operator, operator_recipient = generate_identity("operator")
    (keys_folder / "operator.key").write_text(operator)
    (keys_folder / "operator.key").chmod(0o600)
    keys = WriterKeys.generate((recovery, operator_recipient))
    keys.save(keys_folder)
    pin = create_vault(open_store(str(folder / "vault"), make=True), keys)
    vault = VaultSettings(url="vault", id=pin.id, recipients=pin.recipients, signers=pin.signers)
    lines = [
        "[vault]",
        f'url = "{vault.url}"',
        f'id = "{vault.id}"',
        f"recipients = {list(vault.recipients)}".replace("'", '"'),
        f"signers = {list(vault.signers)}".replace("'", '"'),
    ]
    (folder / "outlast.toml").write_text("\n".join(lines) + "\n" + section(name, kind, tenant, **settings))


def section(name: str, kind: str, tenant: str = "acme", **settings: object) -> str:
    """The lines of one tool."""
    lines = [f"\n[sources.{name}]", f'kind = "{kind}"', f'tenant = "{tenant}"', "requests_per_minute = 1000000"]
    lines += [f"{key} = {_written(value)}" for key, value in {"patience": "3s", **settings}.items()]
    return "\n".join(lines) + "\n"


def _written(value: object) -> str:
    return str(value).replace("'", '"') if isinstance(value, int | list) else f'"{value}"'
