"""The vault's header and its pin: which vault this is, and who may open and sign it.

The header in the store is a courtesy to people and to `--adopt`; what is trusted is the pin in outlast.toml.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from outlast.core.errors import CorruptionError, VaultError
from outlast.vault.keys import WriterKeys, seal
from outlast.vault.record import FORMAT, decode_record, digest, encode_record, unverified_fields
from outlast.vault.signature import NAMESPACE_HEADER
from outlast.vault.store import AlreadyExistsError, ObjectMissingError, Store

HEADER_PATH = "outlast.json"
NAMING_PATH = "naming.age"


@dataclass(frozen=True, slots=True)
class VaultPin:
    """What outlast.toml says the vault must be. The vault's own header is not trusted."""

    id: str
    recipients: tuple[str, ...]
    signers: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipients", tuple(self.recipients))
        object.__setattr__(self, "signers", tuple(self.signers))


def read_header(store: Store) -> dict[str, Any]:
    """What the vault says of itself, unverified. Raises VaultError where there is none, or one of a newer format."""
    try:
        return unverified_fields(store.get(HEADER_PATH), f"the header {HEADER_PATH} of the vault at {store.url}")
    except ObjectMissingError as error:
        raise VaultError(
            f"there is no vault at {store.url}",
            hint="Correct [vault] url in outlast.toml, or make a vault: outlast init",
            code="no-vault",
        ) from error


def verify_header(store: Store, pin: VaultPin) -> dict[str, Any]:
    """The header, held against the pin, and the naming key's object against the header. Raises CorruptionError."""
    what = f"the header {HEADER_PATH}"
    fields = decode_record(store.get(HEADER_PATH), NAMESPACE_HEADER, pin.signers, what)
    said = fields.get("id"), fields.get("recipients")
    if said != (pin.id, list(pin.recipients)) or not set(fields.get("signers", ())) <= set(pin.signers):
        raise CorruptionError(
            f"{what} does not say what outlast.toml pins",
            hint="Trust outlast.toml. It names the signers of all times: put back the line of one that was taken out.",
            code="header",
        )
    return fields


def create_vault(store: Store, keys: WriterKeys) -> VaultPin:
    """Make a vault: the naming key sealed to the recipients, then the header. Raises VaultError where one exists."""
    pin = VaultPin(str(uuid.uuid4()), keys.recipients, keys.signers)
    if store.exists(HEADER_PATH):
        raise _exists(store)
    naming = seal(keys.recipients, keys.naming.hex().encode() + b"\n")
    header = {
        "format": FORMAT,
        "id": pin.id,
        "created": datetime.now(UTC).isoformat(),
        "recipients": list(pin.recipients),
        "signers": list(pin.signers),
        "naming": digest(naming),
    }
    try:
        store.create(NAMING_PATH, naming)
        store.flush()
        store.create(HEADER_PATH, encode_record(header, NAMESPACE_HEADER, keys.signer))
    except AlreadyExistsError as error:
        raise _exists(store) from error
    store.flush()
    return pin


def _exists(store: Store) -> VaultError:
    return VaultError(
        f"there is a vault at {store.url} already, or the beginning of one",
        hint="Name another folder or prefix with --vault, or use the outlast.toml that goes with it.",
        code="vault-exists",
    )
