"""age files opened by OpenSSL: the same as pyrage makes of them, for every size and every changed byte."""

from __future__ import annotations

import pyrage  # type: ignore[import-untyped]
import pytest
from pyrage import x25519

from outlast.vault.age import ChangedError, NotOursError, SecretKey, open_age

OWN, OTHER = x25519.Identity.generate(), x25519.Identity.generate()
KEY = SecretKey.from_text(str(OWN))
PIECE = 64 * 1024


def sealed(plaintext: bytes, *identities: x25519.Identity) -> bytes:
    return bytes(pyrage.encrypt(plaintext, [identity.to_public() for identity in identities]))


@pytest.mark.parametrize("size", [0, 1, 2000, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7])
def test_every_size_is_opened(size: int) -> None:
    """Empty, small, and around the ends of pieces; alone, and as the second of two recipients."""
    plaintext = bytes(number % 251 for number in range(size))
    assert open_age(sealed(plaintext, OWN), [KEY]) == plaintext
    assert open_age(sealed(plaintext, OTHER, OWN), [KEY]) == plaintext
    assert open_age(sealed(plaintext, OTHER), [KEY, SecretKey.from_text(str(OTHER))]) == plaintext


def test_anothers_file_is_not_opened() -> None:
    """It is left to pyrage, which says why; so are other kinds of files."""
    for data in (sealed(b"secret", OTHER), b"", b"age-encryption.org/v1\n", pyrage.passphrase.encrypt(b"a", "b")):
        with pytest.raises(NotOursError):
            open_age(data, [KEY])


def test_no_changed_byte_is_believed() -> None:
    """Not one byte of head or body can be changed, and nothing cut off or added, at either end of a piece."""
    whole = sealed(b"row\n" * 100, OTHER, OWN)
    for place in range(len(whole)):
        changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        with pytest.raises((ChangedError, NotOursError)):
            open_age(changed, [KEY])
    large = sealed(bytes(2 * PIECE), OWN)
    body = len(large) - 2 * (PIECE + 16)
    shorter, longer = (large[:-1], large[: -(PIECE + 16)], large[: body - 1], large[:body]), (b"x", large[body:])
    for cut in (*shorter, *(large + more for more in longer)):
        with pytest.raises(ChangedError):
            open_age(cut, [KEY])
    first, second = large[body : body + PIECE + 16], large[body + PIECE + 16 :]
    with pytest.raises(ChangedError):
        open_age(large[:body] + second + first, [KEY])
