"""age files opened by OpenSSL's primitives: half the time of a small one, a third of the time of a large one.

Only what Outlast writes: binary files sealed to X25519 recipients (https://age-encryption.org/v1). Sealing, and all
that is not of this form, is pyrage's. The header is authenticated by its own code, and each piece of the body by its.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_VERSION = b"age-encryption.org/v1\n"
_STANZA = b"-> X25519 "
_END = b"--- "
_INFO = b"age-encryption.org/v1/X25519"
_NO_NONCE = bytes(12)
_NO_SALT = bytes(32)
_SHARE_BYTES, _WRAPPED_BYTES, _MAC_BYTES, _NONCE_BYTES, _TAG_BYTES = 32, 32, 32, 16, 16
_BLOCK_BYTES = 64
_INNER, _OUTER = bytes(byte ^ 0x36 for byte in range(256)), bytes(byte ^ 0x5C for byte in range(256))
_PIECE_BYTES = 64 * 1024 + _TAG_BYTES
_HEADER_BYTES_MAX = 64 * 1024
_LETTERS = {letter: number for number, letter in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}


class NotOursError(Exception):
    """This is no file of the form that is opened here, or none of these keys opens it: pyrage has the last word."""


class ChangedError(Exception):
    """The file's key was found, and its bytes are not those that were sealed."""


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One X25519 identity."""

    private: X25519PrivateKey = field(repr=False)
    public: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `AGE-SECRET-KEY-1…`, whose form was checked already."""
        private = X25519PrivateKey.from_private_bytes(_data(text.lower(), "age-secret-key-"))
        return cls(private, private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def open_age(sealed: bytes, keys: Sequence[SecretKey]) -> bytes:
    """The plaintext. Raises NotOursError, ChangedError."""
    end = sealed.find(b"\n" + _END, 0, _HEADER_BYTES_MAX) + 1
    line_end = sealed.find(b"\n", end)
    if not sealed.startswith(_VERSION) or not end or line_end < 0:
        raise NotOursError
    file_key = _file_key(sealed[len(_VERSION) : end], keys)
    mac = _decoded(sealed[end + len(_END) : line_end], _MAC_BYTES)
    header_key = _derived(file_key, _NO_SALT, b"header")
    if not hmac.compare_digest(_hmac(header_key, sealed[: end + len(_END) - 1]), mac):
        raise ChangedError
    body = line_end + 1 + _NONCE_BYTES
    return _body(sealed, body, ChaCha20Poly1305(_derived(file_key, sealed[line_end + 1 : body], b"payload")))


def _file_key(stanzas: bytes, keys: Sequence[SecretKey]) -> bytes:
    lines = stanzas.split(b"\n")[:-1]
    for head, wrapped_text in zip(lines[::2], lines[1::2], strict=False):
        if not head.startswith(_STANZA):
            raise NotOursError
        share, wrapped = _decoded(head[len(_STANZA) :], _SHARE_BYTES), _decoded(wrapped_text, _WRAPPED_BYTES)
        for key in keys:
            try:
                shared = key.private.exchange(X25519PublicKey.from_public_bytes(share))
                wrapping = _derived(shared, share + key.public, _INFO)
                return ChaCha20Poly1305(wrapping).decrypt(_NO_NONCE, wrapped, None)
            except (InvalidTag, ValueError):
                continue
    raise NotOursError


def _body(sealed: bytes, start: int, cipher: ChaCha20Poly1305) -> bytes:
    """The pieces, each under its number, the last one marked: none can be cut off, moved or left out."""
    pieces: list[bytes] = []
    size = len(sealed)
    if start + _TAG_BYTES > size:
        raise ChangedError
    try:
        while start < size:
            end = min(start + _PIECE_BYTES, size)
            nonce = len(pieces).to_bytes(11, "big") + (b"\x01" if end == size else b"\x00")
            pieces.append(cipher.decrypt(nonce, sealed[start:end], None))
            start = end
    except InvalidTag as error:
        raise ChangedError from error
    if len(pieces) > 1 and not pieces[-1]:
        raise ChangedError  # an empty last piece is another writing of the same
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256, of which age takes one block."""
    return _hmac(_hmac(salt, secret), info + b"\x01")


def _hmac(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256 with a key of up to 64 bytes: a third of the time of hmac.digest, which asks OpenSSL for the
    algorithm each time; opening a file takes seven to eleven of them."""
    block = key.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(block.translate(_INNER) + message).digest()
    return hashlib.sha256(block.translate(_OUTER) + inner).digest()


def _decoded(text: bytes, size: int) -> bytes:
    """Base64 without padding, in its one canonical writing."""
    try:
        data = binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise NotOursError from error
    if len(data) != size or binascii.b2a_base64(data, newline=False).rstrip(b"=") != text:
        raise NotOursError
    return data


def _data(text: str, prefix: str) -> bytes:
    """The 32 bytes in Bech32, whose checksum was checked already."""
    number = 0
    for letter in text[len(prefix) + 1 : -6]:
        number = number << 5 | _LETTERS[letter]
    return (number >> 4).to_bytes(32, "big")
