"""Letters by SMTP: plain text, one recipient each, with what mail programs need to end a subscription by one click."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from urllib.parse import urlsplit

from outlast.core.errors import UsageError
from outlast.incident.channels.outcome import SENT, Outcome, Went
from outlast.incident.letters import Letter

TIMEOUT_S = 30
_TAKEN, _FORWARDED, _PERMANENT = 250, 251, 500


@dataclass(frozen=True, slots=True)
class MailServer:
    """`starttls` is what smtp:// does where the server offers it; smtps:// speaks TLS from the first byte."""

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str, password: str | None) -> MailServer:
        """`smtp://USER@HOST:PORT` or `smtps://…`. Raises UsageError."""
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise UsageError("[mail] url is no mail server", hint="Write smtp://USER@HOST:587 or smtps://USER@HOST.")
        tls = parts.scheme == "smtps"
        return cls(parts.hostname, parts.port or (465 if tls else 25), tls, parts.username, password)


class Mailer:
    """One connection, opened when it is needed and kept. Not thread-safe: one sender, one Mailer."""

    def __init__(
        self,
        server: MailServer,
        sender: str,
        unsubscribe: Callable[[str], str],
        said_again: Callable[[Letter], str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._server = server
        self._sender = sender
        self._unsubscribe = unsubscribe
        self._said_again = said_again
        self._clock = clock
        self._connection: smtplib.SMTP | None = None

    def send(self, letter: Letter, *, again: bool = False) -> Outcome:
        message = self._message(letter, again)
        data_sent = False
        try:
            connection = self._connection or self._connect()
            self._address(connection, letter.address)
            data_sent = True
            code, _ = connection.data(message.as_bytes(policy=SMTP))
        except smtplib.SMTPRecipientsRefused as error:
            ((code, _),) = error.recipients.values()
            return Outcome(_of(code), f"the mail server refused the address ({code})")
        except smtplib.SMTPResponseException as error:
            self.close()
            # What is wrong with us or our server is no bounce of this address.
            return Outcome(Went.LATER, f"the mail server answered {error.smtp_code}")
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            went = Went.UNCLEAR if data_sent else Went.LATER
            return Outcome(went, f"the mail server could not be used ({type(error).__name__})")
        if code != _TAKEN:
            self.close()
            return Outcome(Went.LATER, f"the mail server answered {code}")
        return SENT

    def _address(self, connection: smtplib.SMTP, recipient: str) -> None:
        """What goes before the letter itself: until its last byte was sent it cannot have arrived."""
        connection.ehlo_or_helo_if_needed()
        code, answer = connection.mail(parseaddr(self._sender)[1])
        if code != _TAKEN:
            raise smtplib.SMTPSenderRefused(code, answer, self._sender)
        code, answer = connection.rcpt(recipient)
        if code not in (_TAKEN, _FORWARDED):
            connection.rset()
            raise smtplib.SMTPRecipientsRefused({recipient: (code, answer)})

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> smtplib.SMTP:
        server, context = self._server, ssl.create_default_context()
        if server.tls:
            connection: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
            connection.ehlo()
            if connection.has_extn("starttls"):
                connection.starttls(context=context)
                connection.ehlo()
        if server.user and server.password is not None:
            connection.login(server.user, server.password)
        self._connection = connection
        return connection

    def _message(self, letter: Letter, again: bool) -> EmailMessage:
        message = EmailMessage()
        domain = parseaddr(self._sender)[1].rpartition("@")[2]
        message["From"] = self._sender
        message["To"] = letter.address
        message["Subject"] = " ".join(letter.subject.split())
        message["Date"] = format_datetime(self._clock())
        message["Message-ID"] = f"<{letter.id}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        if letter.subscriber is not None:
            message["List-Unsubscribe"] = f"<{self._unsubscribe(letter.subscriber)}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(f"{letter.body}\n\n{self._said_again(letter)}" if again else letter.body)
        return message


def _of(code: int) -> Went:
    return Went.REFUSED if code >= _PERMANENT else Went.LATER
