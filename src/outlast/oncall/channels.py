"""By which services contacts are reached: templates of Apprise URLs, one or more for each method.

They are lines `METHOD URL`, with `{address}` where the contact's address goes, from the environment (OUTLAST_PAGING) or
a command; they hold secrets and stand in no error of ours. A method may have several services: the next is tried where
one does not take it. `fallback URL` lines are those of last resort, and have no address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from outlast.core.errors import UsageError
from outlast.messages import Message, Service, printed

VARIABLE = "OUTLAST_PAGING"
FALLBACK = "fallback"
METHODS = ("email", "sms", "voice", "push", "whatsapp")
_PLACE = "{address}"


@dataclass(frozen=True, slots=True)
class Sent:
    """How sending went; `told` is for people, and has no secret in it. `final`: trying again would not help."""

    ok: bool
    told: str
    final: bool = False


class Channels(Protocol):
    """What sends. Called from several threads at once; blocks; never raises."""

    def send(self, method: str, address: str, message: Message) -> Sent: ...

    def shout(self, message: Message) -> Sent:
        """Tell those of last resort. ok: at least one service took it."""


@dataclass(frozen=True, slots=True)
class AppriseChannels:
    """Apprise's services by method."""

    templates: Mapping[str, Sequence[str]] = field(repr=False)
    last_resort: Sequence[Service] = field(default=(), repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(sorted(self.templates))

    def send(self, method: str, address: str, message: Message) -> Sent:
        templates = self.templates.get(method, ())
        if not templates:
            return Sent(False, f"there is no service for {method}", final=True)
        for number, template in enumerate(templates, start=1):
            try:
                service = Service(template.replace(_PLACE, quote(address, safe="@" if method == "email" else "")))
            except ValueError:
                continue  # such an address is none for this service
            if service.send(message):
                return Sent(True, f"taken by {_kind(template)}" + (f", no. {number}" if number > 1 else ""))
        kinds = ", ".join(dict.fromkeys(_kind(one) for one in templates))
        return Sent(False, f"not taken by {kinds}")

    def shout(self, message: Message) -> Sent:
        if not self.last_resort:
            return Sent(False, f"nobody is named as the last resort (fallback lines of {VARIABLE}, or OUTLAST_NOTIFY)")
        with ThreadPoolExecutor(len(self.last_resort)) as pool:  # one that hangs keeps no other waiting
            taken = sum(pool.map(lambda service: service.send(message), self.last_resort))
        return Sent(taken > 0, f"{taken} of {len(self.last_resort)} services of last resort took it")


def read(environ: Mapping[str, str], command: str | None, last_resort: Sequence[str] = ()) -> AppriseChannels:
    """The templates, tried out: a line that cannot be used is an error now, and not at night."""
    text = environ.get(VARIABLE)
    if text is None and command is not None:
        text = printed(command, "[paging] command")
    templates: dict[str, list[str]] = {}
    fallbacks = list(last_resort)
    for number, line in enumerate((text or "").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        method, _, url = line.strip().partition(" ")
        url = url.strip()
        if method == FALLBACK:
            fallbacks.append(url)
            continue
        _check(number, method, url)
        templates.setdefault(method, []).append(url)
    return AppriseChannels(templates, [_service(url, f"fallback no. {n}") for n, url in enumerate(fallbacks, start=1)])


def _check(number: int, method: str, url: str) -> None:
    if method not in METHODS:
        raise UsageError(
            f"line {number} of {VARIABLE} begins with none of {', '.join(METHODS)} or {FALLBACK}",
            hint="Write METHOD and a URL of Apprise's: email mailtos://user:password@mail.example.org?to={address}",
            code="paging-url",
        )
    if _PLACE not in url:
        raise UsageError(
            f"line {number} of {VARIABLE} ({method}) has no {_PLACE}: every page would go to the same place",
            hint=f"Write {_PLACE} where the contact's address goes.",
            code="paging-url",
        )
    example = "somebody@example.org" if method in ("email", "push") else quote("+15550100999")
    _service(url.replace(_PLACE, example), f"line {number} of {VARIABLE} ({method})")


def _service(url: str, what: str) -> Service:
    try:
        return Service(url)
    except ValueError:
        raise UsageError(
            f"{what} is no URL that Apprise knows (it is not shown: it may hold a secret)",
            hint="Apprise's documentation lists them.",
            code="paging-url",
        ) from None


def _kind(url: str) -> str:
    kind = url.partition(":")[0]
    return kind if kind.isalnum() else "a service"
