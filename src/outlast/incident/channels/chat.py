"""Letters through Apprise: Slack, Teams and everything else that it knows by a URL. The URL is a secret."""

from __future__ import annotations

import logging
import warnings

from outlast.incident.channels.outcome import SENT, Outcome, Went
from outlast.incident.letters import Letter

# They print URLs at level WARNING, and the URL of a web hook is its password.
for _name in ("apprise", "urllib3", "requests"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


def send(letter: Letter) -> Outcome:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its plug-ins import what later Pythons lack
        import apprise
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="Outlast", app_desc="Outlast"))
    try:
        if not service.add(letter.address):
            return Outcome(Went.REFUSED, "Apprise does not know such an address")
        done = service.notify(title=letter.subject, body=letter.body, body_format="text")
    except Exception:  # noqa: BLE001 - whatever a plug-in raises, it means: not told; its text may hold the URL
        return Outcome(Went.LATER, "Apprise failed")
    return SENT if done else Outcome(Went.LATER, "the service did not take it")
