"""A mailbox for those who are no actor: takes facts like one, hands them out as an iterator."""

from __future__ import annotations

import pykka
from pykka._envelope import Envelope

from callboard.actors.ports import Ports


class Postbox:
    """Stands where an ActorRef is expected: `tell`, `is_alive`, `actor_inbox`. One thread reads it."""

    actor_class: type = type("Postbox", (), {})

    def __init__(self, ports: Ports) -> None:
        self.actor_inbox = ports.inbox(stop_overtakes=False)
        self._open = True

    def tell(self, message: object) -> None:
        """Raises pykka.ActorDeadError once closed, so that the sender forgets it."""
        if not self._open:
            raise pykka.ActorDeadError("the postbox is closed")
        self.actor_inbox.put(Envelope(message))

    def is_alive(self) -> bool:
        return self._open

    def take(self, timeout: float | None) -> object | None:
        """The next message, or None after `timeout` seconds."""
        envelope = self.actor_inbox.next(timeout)
        return None if envelope is None else envelope.message

    def close(self) -> None:
        self._open = False
        self.actor_inbox.close()
