"""Signatures in OpenSSH's SSHSIG format (ed25519), so that `ssh-keygen -Y verify` checks what Outlast wrote.

age does not authenticate its sender; these do. The format is openssh's PROTOCOL.sshsig.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from outlast.core.errors import CorruptionError, VaultKeyError

_MAGIC = b"SSHSIG"
_BEGIN = b"-----BEGIN SSH SIGNATURE-----\n"
_END = b"-----END SSH SIGNATURE-----\n"
_HASH = b"sha512"
_KEY_TYPE = b"ssh-ed25519"

NAMESPACE_HEADER = "outlast-header"
NAMESPACE_MARK = "outlast-mark"
NAMESPACE_RUN = "outlast-run"
NAMESPACE_LOG = "outlast-log"
NAMESPACE_MANIFEST = "outlast-manifest"


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _signed(namespace: str, data: bytes | memoryview) -> bytes:
    """What is really signed: the namespace and the hash of the message, never the message alone."""
    digest = hashlib.sha512(data).digest()
    return _MAGIC + _string(namespace.encode()) + _string(b"") + _string(_HASH) + _string(digest)


@dataclass(frozen=True, slots=True)
class Signer:
    """A signing key, as the text of an OpenSSH private key file: picklable, and usable by ssh-keygen."""

    private: str

    @classmethod
    def generate(cls) -> Signer:
        key = Ed25519PrivateKey.generate()
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        return cls(text.decode("ascii"))

    def __repr__(self) -> str:
        return "Signer(…)"

    @property
    def public(self) -> str:
        """`ssh-ed25519 AAAA…`, as it stands in outlast.toml and in an allowed_signers file."""
        return _public_half(self.private)

    def sign(self, namespace: str, data: bytes) -> bytes:
        """An armored signature over `data`."""
        key = _private(self.private)
        blob = base64.b64decode(self.public.split()[1])
        signature = _string(_KEY_TYPE) + _string(key.sign(_signed(namespace, data)))
        body = (
            _MAGIC
            + (1).to_bytes(4, "big")
            + _string(blob)
            + _string(namespace.encode())
            + _string(b"")
            + _string(_HASH)
            + _string(signature)
        )
        return _armor(body)


def _armor(body: bytes) -> bytes:
    encoded = base64.b64encode(body)
    lines = [encoded[start : start + 70] + b"\n" for start in range(0, len(encoded), 70)]
    return _BEGIN + b"".join(lines) + _END


def armored_bytes(namespace: str) -> int:
    """The size of a signature: ed25519's is always the same, so that it can be fetched with what it signs."""
    blob, signature = 4 + len(_KEY_TYPE) + 4 + 32, 4 + len(_KEY_TYPE) + 4 + 64
    body = len(_MAGIC) + 4 + 4 + blob + 4 + len(namespace) + 4 + 4 + len(_HASH) + 4 + signature
    return len(_armor(b"\0" * body))


@cache
def _public_half(private: str) -> str:
    key = _private(private).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode("ascii")


@cache
def _private(text: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_ssh_private_key(text.encode("ascii"), password=None)
    except ValueError as error:
        raise VaultKeyError(
            "cannot use the signing key: it is not an unencrypted OpenSSH private key",
            hint="Put back the file that `outlast init` made (signing.key under [keys] dir).",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise VaultKeyError("cannot use the signing key: it is not of type ed25519")
    return key


@cache
def _public(line: str) -> tuple[bytes, Ed25519PublicKey]:
    key = serialization.load_ssh_public_key(line.encode("utf-8"))
    if not isinstance(key, Ed25519PublicKey):
        raise VaultKeyError("a signer in outlast.toml is not of type ssh-ed25519")
    return base64.b64decode(line.split()[1]), key


def verify(signers: tuple[str, ...], namespace: str, data: bytes | memoryview, armored: bytes, what: str) -> None:
    """Raise CorruptionError unless one of `signers` signed `data`. `what` names it in the error."""
    try:
        blob, signature = _parse(armored, namespace)
        for line in signers:
            known, key = _public(line)
            if known == blob:
                key.verify(signature, _signed(namespace, data))
                return
    except (ValueError, IndexError, InvalidSignature) as error:
        raise CorruptionError(
            f"{what} does not carry a valid signature: it was changed after it was written", code="signature"
        ) from error
    raise CorruptionError(
        f"{what} is signed by a key that outlast.toml does not name",
        hint="If the signing key was replaced on purpose, add its public line to signers under [vault].",
        code="signature",
    )


def _parse(armored: bytes, namespace: str) -> tuple[bytes, bytes]:
    if not (armored.startswith(_BEGIN) and armored.endswith(_END)):
        raise ValueError("no armor")
    encoded = armored[len(_BEGIN) : -len(_END)]
    body = base64.b64decode(encoded.replace(b"\n", b""), validate=True)
    if _armor(body) != armored:
        raise ValueError("armor that says the same in other bytes")
    if body[:6] != _MAGIC or body[6:10] != (1).to_bytes(4, "big"):
        raise ValueError("not an SSHSIG of version 1")
    fields, rest = [], body[10:]
    while rest:
        size = int.from_bytes(rest[:4], "big")
        if len(rest) < 4 + size:
            raise ValueError("a field is cut")
        fields.append(rest[4 : 4 + size])
        rest = rest[4 + size :]
    blob, signed_namespace, reserved, algorithm, signature = fields
    if signed_namespace != namespace.encode() or reserved or algorithm != _HASH:
        raise ValueError("another namespace or hash")
    head = _string(_KEY_TYPE)
    if not signature.startswith(head) or signature[len(head) : len(head) + 4] != (64).to_bytes(4, "big"):
        raise ValueError("not an ed25519 signature")
    return blob, signature[len(head) + 4 :]
