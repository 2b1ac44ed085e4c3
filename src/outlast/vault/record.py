"""A record: one line of JSON and an armored signature over that line, its newline included.

The header, run records and marks are records. `head -1 RECORD | ssh-keygen -Y verify …` checks one without this code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.core.errors import CorruptionError, VaultError
from outlast.vault.signature import Signer, verify

FORMAT = 1

_ARMOR = b"-----BEGIN SSH SIGNATURE-----\n"


def encode_record(fields: Mapping[str, Any], namespace: str, signer: Signer) -> bytes:
    """The object's bytes. `fields` says its format and is ASCII once encoded."""
    line = json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
    return line + signer.sign(namespace, line)


def decode_record(data: bytes, namespace: str, signers: Sequence[str], what: str) -> dict[str, Any]:
    """Verify and read. Raises CorruptionError that names `what`, or VaultError for a newer format."""
    return record_fields(data[: verified_bytes(data, namespace, signers, what)], what)


def verified_bytes(data: bytes, namespace: str, signers: Sequence[str], what: str) -> int:
    """How many bytes the record's line has, its signature verified. Raises CorruptionError that names `what`."""
    split = data.find(_ARMOR)
    if split < 0:
        raise CorruptionError(f"{what} carries no signature: it was cut or changed", code="signature")
    verify(tuple(signers), namespace, memoryview(data)[:split], data[split:], what)
    return split


def unverified_fields(data: bytes, what: str) -> dict[str, Any]:
    """What a record says of itself, whoever wrote it: good for telling apart, never for trusting."""
    return record_fields(data.partition(_ARMOR)[0], what)


def record_fields(line: bytes, what: str) -> dict[str, Any]:
    """A record's members. Raises CorruptionError, or VaultError for a newer format."""
    try:
        fields = json.loads(line)
        version = fields["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"{what} cannot be read: it is no record", code="record") from error
    if not isinstance(fields, dict) or not isinstance(version, int):
        raise CorruptionError(f"{what} cannot be read: it is no record", code="record")
    if version > FORMAT:
        raise newer_format(what, version)
    return fields


def newer_format(what: str, version: int) -> VaultError:
    return VaultError(
        f"{what} is of format {version}, and this Outlast reads up to {FORMAT}", hint="Upgrade Outlast.", code="format"
    )


def digest(data: bytes) -> str:
    """What the next record's `previous` says of this one: the SHA-256 of the whole object."""
    return hashlib.sha256(data).hexdigest()
