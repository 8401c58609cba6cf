"""One timer for all jobs that wait for their time: it rings for the earliest."""

from __future__ import annotations

from callboard.actors.actor import send
from callboard.actors.machine import Ports, Timer
from callboard.actors.messages import Ref, TimeHasCome


class Alarm:
    """Belongs to one library actor, which gets `TimeHasCome`."""

    def __init__(self, ports: Ports, me: Ref) -> None:
        self._ports, self._me = ports, me
        self._timer: Timer | None = None
        self._due_ms: int | None = None

    def set(self, due_ms: int | None) -> None:
        """Ring at this time (ms since the epoch) at the latest; None: no wish."""
        if due_ms is None or (self._due_ms is not None and self._due_ms <= due_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_ms, me = due_ms, self._me
        self._timer = self._ports.call_later(max(0.0, due_ms / 1000 - self._ports.wall()) + 0.001, lambda: send(me, TimeHasCome()))

    def rang(self) -> None:
        """It has; whoever is due next is to be set anew."""
        self._due_ms = None
