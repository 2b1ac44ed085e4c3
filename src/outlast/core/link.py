"""Signed links: a word that lets whoever holds it do one thing, for a while, without a login.

A link names its purpose and its subject, and carries a keyed hash of both. It cannot be guessed or altered, is good for
one purpose only, and for nobody else's subject. Whether one was used already is the caller's to remember, by `id`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from binascii import Error as NotBase64
from dataclasses import dataclass
from datetime import UTC, datetime

from outlast.core.errors import Refused

KEY_BYTES = 32
_MAC_BYTES = 20
_TOKEN_CHARACTERS_MAX = 2_000


class LinkRefused(Refused):
    """The link is not one of ours, was altered, is for something else, or is too old. Which of these is not told."""

    default_code = "link"


@dataclass(frozen=True, slots=True)
class Link:
    """`subject` says whom or what it is about, in parts that the purpose defines. `id` differs from link to link."""

    purpose: str
    subject: tuple[str, ...]
    expires: datetime | None
    id: str


class LinkKey:
    """Makes and checks links. The key is KEY_BYTES of randomness that only this service knows."""

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"a link key has {KEY_BYTES} bytes")
        self._key = hashlib.sha256(b"outlast links" + key).digest()

    @staticmethod
    def generate() -> bytes:
        return secrets.token_bytes(KEY_BYTES)

    def make(
        self, purpose: str, subject: tuple[str, ...], expires: datetime | None = None, *, name: str | None = None
    ) -> str:
        """The token: letters, digits, `-`, `_` and one dot. With a `name` given it is the same each time."""
        until = None if expires is None else int(expires.timestamp())
        body = json.dumps([purpose, list(subject), until, name or secrets.token_urlsafe(9)], separators=(",", ":"))
        return f"{_text(body.encode())}.{_text(self._mac(body.encode()))}"

    def read(self, token: str, purpose: str, now: datetime) -> Link:
        """What a token says. Raises LinkRefused for any that this key did not make for it, or that expired."""
        link = self._read(token)
        if link is None or link.purpose != purpose or (link.expires is not None and now >= link.expires):
            raise LinkRefused(
                "this link is not valid, or not any more", hint="Ask for a new one where you got it from."
            )
        return link

    def _read(self, token: str) -> Link | None:
        if len(token) > _TOKEN_CHARACTERS_MAX:
            return None
        head, _, tail = token.partition(".")
        try:
            body, mac = _bytes(head), _bytes(tail)
        except (NotBase64, ValueError):
            return None
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        # A body with our hash is one that we wrote, so it has this form; its text must be the one form, too.
        if _text(body) != head or _text(mac) != tail:
            return None
        purpose, subject, until, name = json.loads(body)
        return Link(purpose, tuple(subject), None if until is None else datetime.fromtimestamp(until, UTC), name)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
