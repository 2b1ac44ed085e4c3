"""Signed links by which a person acknowledges from a phone, without a login: each is of one notice and works once.

The token is the notice's number and an end, signed; nothing in it can be guessed or changed. That it was not used yet,
and the alert not acknowledged meanwhile, the database says (paging.py). A link is short, since it goes into an SMS.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LIFETIME = timedelta(hours=24)
_HEAD = struct.Struct(">QI")
_MAC_BYTES = 16
_WHAT = b"outlast acknowledgement link 1\0"


@dataclass(frozen=True, slots=True)
class Token:
    notice: int
    until: datetime


def signed(key: bytes, notice: int, until: datetime) -> str:
    """The token of a notice's link: 38 characters that need no escaping."""
    head = _HEAD.pack(notice, int(until.timestamp()))
    return _text(head + _mac(key, head))


def opened(key: bytes, token: str, now: datetime) -> Token | None:
    """What a token stands for; None where it is not ours, was changed, or is over."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(data) != _HEAD.size + _MAC_BYTES or _text(data) != token:
        return None
    head, mac = data[: _HEAD.size], data[_HEAD.size :]
    if not hmac.compare_digest(mac, _mac(key, head)):
        return None
    notice, until = _HEAD.unpack(head)
    found = Token(notice, datetime.fromtimestamp(until, UTC))
    return found if now < found.until else None


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _mac(key: bytes, head: bytes) -> bytes:
    return hmac.digest(key, _WHAT + head, hashlib.sha256)[:_MAC_BYTES]


# Feeds

_FEED = b"outlast calendar feed 1\0"


def feed_key(key: bytes, schedule: str) -> str:
    """What opens a schedule's feed: a part of its address, since calendars cannot log in. It has no end."""
    return _text(hmac.digest(key, _FEED + schedule.encode(), hashlib.sha256)[:_MAC_BYTES])


def feed_opens(key: bytes, schedule: str, given: str) -> bool:
    return hmac.compare_digest(feed_key(key, schedule).encode(), given.encode())
