"""One message and the service that carries it: chat, mail, pager, telephone or a web hook, by a URL of Apprise's.

Such a URL holds secrets: it comes from the environment or from a command, never from outlast.toml, and stands in no
error, log or message of ours. Whom to tell, and what, is decided by those who send.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import warnings
from dataclasses import dataclass
from typing import Any

from outlast.core.errors import OutlastError

COMMAND_TIMEOUT_S = 60

# They print URLs at level WARNING, and a URL of a web hook is its password.
for _name in ("apprise", "urllib3", "requests"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


@dataclass(frozen=True, slots=True)
class Message:
    title: str
    body: str


class Service:
    """Where messages go, by one URL. Apprise is loaded, and the URL read, when this is made. Raises ValueError where
    Apprise does not know such a URL. Several threads may send."""

    def __init__(self, url: str) -> None:
        self._url = url
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its plug-ins import what later Pythons lack
            _apprise(url)

    def send(self, message: Message) -> bool:
        """Whether the service took it. Never raises."""
        try:
            # Anew each time: Apprise has a service wait for seconds between two messages (5.5 for mail), and what one
            # keeps of a message under way is not for two threads. How often somebody is told is decided by us.
            service = _apprise(self._url)
            return bool(
                service.notify(title=message.title, body=message.body, notify_type="failure", body_format="text")
            )
        except Exception:  # noqa: BLE001 - whatever a plug-in raises means: not told; its text may hold the URL
            return False


def _apprise(url: str) -> Any:
    import apprise

    found = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Outlast", app_desc="Outlast"))
    if not found.add(url):
        raise ValueError("Apprise does not know such a URL")
    return found


def printed(command: str, setting: str) -> str:
    """What the user's own command prints: Apprise URLs. `setting` names it in errors, which never quote it."""
    hint = "Try it by hand: it must print Apprise URLs, one a line, and exit with 0."
    try:
        done = subprocess.run(  # split without a shell
            shlex.split(command), capture_output=True, check=False, timeout=COMMAND_TIMEOUT_S, text=True
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise OutlastError(f"{setting} could not be run ({type(error).__name__})", hint=hint) from None
    if done.returncode:
        raise OutlastError(f"{setting} failed with exit code {done.returncode}", hint=hint)
    return done.stdout
