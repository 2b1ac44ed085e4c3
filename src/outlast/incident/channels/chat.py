"""Letters through Apprise: Slack, Teams and everything else that it knows by a URL. The URL is a secret."""

from __future__ import annotations

from collections.abc import Callable

from outlast.incident.channels.outcome import SENT, Outcome, Went
from outlast.incident.letters import Letter
from outlast.messages import Message, Service


class Chat:
    """Keeps nothing open. `said_again` is the sentence of a letter that may have arrived already."""

    def __init__(self, said_again: Callable[[Letter], str]) -> None:
        self._said_again = said_again

    def send(self, letter: Letter, *, again: bool = False) -> Outcome:
        body = f"{letter.body}\n\n{self._said_again(letter)}" if again else letter.body
        try:
            service = Service(letter.address)
        except ValueError:
            return Outcome(Went.REFUSED, "Apprise does not know such an address")
        done = service.send(Message(letter.subject, body))
        return SENT if done else Outcome(Went.LATER, "the service did not take it")

    def close(self) -> None:
        pass
