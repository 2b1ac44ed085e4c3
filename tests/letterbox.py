"""A real SMTP server on this host: what a test's letters arrive at."""

from __future__ import annotations

import asyncio
import email
import email.policy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.servers import free_port


@dataclass
class Letterbox:
    """`letters` are those that came, each with its recipient. Addresses in `unknown` are refused for good; at those in
    `cut` the connection ends once, after the letter was taken and before that is said."""

    port: int
    unknown: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    letters: list[tuple[str, EmailMessage]] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content: Any = envelope.content
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        with self.came:
            self.letters += [(address, message) for address in envelope.rcpt_tos]
            self.came.notify_all()
        if self.cut & set(envelope.rcpt_tos):
            self.cut -= set(envelope.rcpt_tos)
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 OK"

    def wait_for(self, number: int, timeout_s: float = 60) -> None:
        """Until so many letters came."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.letters) >= number, timeout_s), len(self.letters)

    def to(self, address: str) -> list[EmailMessage]:
        return [message for recipient, message in self.letters if recipient == address]

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"


@contextmanager
def receiving_mail() -> Iterator[Letterbox]:
    """A mailbox for as long as the block lasts."""
    mailbox = Letterbox(free_port())
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port, data_size_limit=10**7)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()
