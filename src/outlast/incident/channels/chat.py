"""Letters through Apprise: Slack, Teams and everything else that it knows by a URL. The URL is a secret."""

from __future__ import annotations

from outlast.incident.channels.outcome import SENT, Outcome, Went
from outlast.incident.letters import Letter
from outlast.messages import Message, Service


class Chat:
    """Keeps nothing open."""

    def send(self, letter: Letter) -> Outcome:
        try:
            service = Service(letter.address)
        except ValueError:
            return Outcome(Went.REFUSED, "Apprise does not know such an address")
        done = service.send(Message(letter.subject, letter.body))
        return SENT if done else Outcome(Went.LATER, "the service did not take it")

    def close(self) -> None:
        pass
