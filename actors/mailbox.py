"""An actor's inbox: control messages overtake, a stop is seen the moment it is sent, and no ask is ever left without an answer.

One queue that any thread puts into, and two lanes that only the actor's own thread sees: what arrived is sorted into control and
data, and control is taken first. The same class serves threads and the simulator; only the queue under it differs.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import pykka
from pykka._envelope import Envelope
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

log = logging.getLogger(__name__)


class Control:
    """Base of the messages that overtake all others in an inbox. Among themselves they keep their order."""

    __slots__ = ()


class Asked(NamedTuple):
    """What an inbox hands over for an `ask`: pykka's loop would answer on return, the actor answers when the answer is true."""

    message: object
    reply_to: pykka.Future[Any]


class Arrivals(Protocol):
    """The queue under an inbox: many threads put, and after the inbox has closed many may take."""

    def put(self, item: Envelope[Any], /) -> None: ...

    def get(self) -> Envelope[Any]:
        """Take the oldest, waiting for ever."""
        ...

    def take(self, timeout: float | None, /) -> Envelope[Any] | None:
        """Take the oldest, or None after `timeout` seconds (0: at once; None: wait for ever)."""
        ...

    def qsize(self) -> int: ...


def _none(kind: type) -> int:
    return 0


class Inbox:
    """Where an actor's messages wait. `put` and `qsize` are for every thread, all else for the actor's own thread.

    `stop_overtakes`: pykka's stop goes in front of all data (a worker); otherwise it keeps its place, so that what was sent before
    it is handled first (a store).
    """

    __slots__ = (
        "_arrivals", "_behind", "_bounded", "_closed", "_control", "_data", "_most", "_put", "_stop", "_stop_overtakes", "_turn_away", "stopping",
    )  # fmt: skip

    def __init__(self, arrivals: Arrivals, *, stop_overtakes: bool) -> None:
        self._arrivals = arrivals
        self._put = arrivals.put
        self._control: deque[Envelope[Any]] = deque()
        self._data: deque[Envelope[Any]] = deque()
        self._stop_overtakes = stop_overtakes
        self._bounded: frozenset[type] = frozenset()
        self._most = 0
        self._turn_away: Callable[[Envelope[Any]], object] = _refuse
        self._behind: Callable[[type], int] = _none
        self._closed = False
        self._stop: Envelope[Any] | None = None
        self.stopping = False
        """A stop has been put. True at once, whatever still waits before it; may be read from any thread."""

    def bound(
        self, kinds: frozenset[type], most: int, turn_away: Callable[[Envelope[Any]], object], behind: Callable[[type], int] = _none
    ) -> None:  # fmt: skip
        """Take messages of these types only while fewer than `most` wait; `turn_away` is called with others, on the sender's thread, and so is
        `behind`: how many wait in the next inbox, where those of a type only go on to. Before the first message only.
        """
        self._bounded, self._most, self._turn_away, self._behind = kinds, most, turn_away, behind

    # --- any thread -----------------------------------------------------------------------------------------------------

    def put(self, envelope: Envelope[Any], /) -> None:
        """Add a message. Raises pykka.ActorDeadError for a tell to a closed inbox; an ask is answered with that error."""
        kind = type(envelope.message)
        if kind is _ActorStop:
            self.stopping = True
        elif kind in self._bounded and not self._closed and self.qsize() + self._behind(kind) >= self._most:
            self._turn_away(envelope)
            return
        if self._closed:
            _refuse(envelope)
            refused = [envelope]
        else:
            self._put(envelope)
            # The actor may have closed between the look and the put; then nobody but us would ever see the envelope.
            if not self._closed:
                return
            refused = self._refuse_arrivals()
        if envelope.reply_to is None and envelope in refused:
            raise pykka.ActorDeadError(f"{type(envelope.message).__name__} was sent to an actor that has stopped")

    def qsize(self) -> int:
        """How many messages wait, roughly while others put."""
        return len(self._control) + len(self._data) + self._arrivals.qsize()

    # --- the actor's thread ---------------------------------------------------------------------------------------------

    def get(self) -> Envelope[Any]:
        """For pykka's loop: the next message, waiting for ever. An ask arrives as a tell of `Asked`."""
        if self._stop is not None:
            stop, self._stop = self._stop, None
            return stop
        if self._arrivals.qsize():
            self._sort()
        lane = self._control or self._data
        return _deferred(lane.popleft() if lane else self._arrivals.get())

    def next(self, timeout: float | None) -> Envelope[Any] | None:
        """For an actor inside its own `receive`: the next message, an ask as `Asked`. Waits `timeout` seconds, None: for ever.

        None when the time is up, and also, at once, when a stop is what comes next: it stays there for pykka's loop, so the actor
        has only to return from `receive` (`stopping` tells the two apart).
        """
        if self._arrivals.qsize():
            self._sort()
        lane = self._control or self._data
        if not lane:
            if timeout is not None and timeout <= 0:
                return None
            arrived = self._arrivals.take(timeout)
            if arrived is None:
                return None
            self._place(arrived)
            lane = self._control or self._data
        if self.stopping and type(lane[0].message) is _ActorStop:
            return None
        return _deferred(lane.popleft())

    def next_past_stop(self, timeout: float | None) -> Envelope[Any] | None:
        """As `next`, but what was put behind a stop is handed over too: an actor that has been stopped and must still hear how its last
        writes and tasks end. The stop itself is kept for pykka's loop. None only when the time is up."""
        while (envelope := self.next(timeout)) is None:
            lane = self._control or self._data
            if not (self.stopping and lane):
                return None
            self._stop = lane.popleft()
        return envelope

    def urgent(self) -> bool:
        """Whether a control message or a stop waits. Cheap enough to ask between any two steps of work."""
        if self._arrivals.qsize():
            self._sort()
        return bool(self._control) or self.stopping

    def idle(self) -> bool:
        """Whether `next(0)` would be None: nothing waits, or only the stop is next."""
        if self._arrivals.qsize():
            self._sort()
        lane = self._control or self._data
        return not lane or (self.stopping and type(lane[0].message) is _ActorStop)

    def empty(self) -> bool:
        """For pykka's teardown, which alone calls it: close for good. Always True, as what waited has been refused."""
        self.close()
        return True

    def close(self) -> None:
        """Refuse what waits and all that will come: asks get pykka.ActorDeadError, tells raise it in their sender."""
        self._closed = True
        if self._stop is not None:
            stop, self._stop = self._stop, None
            _refuse(stop)
        for lane in (self._control, self._data):
            while lane:
                _refuse(lane.popleft())
        self._refuse_arrivals()

    def _sort(self) -> None:
        take = self._arrivals.get
        for _ in range(self._arrivals.qsize()):
            self._place(take())

    def _place(self, envelope: Envelope[Any]) -> None:
        message = envelope.message
        if isinstance(message, Control) or (self._stop_overtakes and type(message) is _ActorStop):
            self._control.append(envelope)
        else:
            self._data.append(envelope)

    def _refuse_arrivals(self) -> list[Envelope[Any]]:
        refused = []
        while (envelope := self._arrivals.take(0)) is not None:
            _refuse(envelope)
            refused.append(envelope)
        return refused


_PYKKAS_OWN = (_ActorStop, ProxyCall, ProxyGetAttr, ProxySetAttr)


def _deferred(envelope: Envelope[Any]) -> Envelope[Any]:
    """Turn an ask into a tell of `Asked`, except for what pykka's loop answers by itself."""
    if envelope.reply_to is not None and not isinstance(envelope.message, _PYKKAS_OWN):
        envelope.message = Asked(envelope.message, envelope.reply_to)
        envelope.reply_to = None
    return envelope


def _refuse(envelope: Envelope[Any]) -> None:
    """Answer an ask that will not be handled. A stop is answered as done: the actor has stopped."""
    if envelope.reply_to is None:
        return
    try:
        if type(envelope.message) is _ActorStop:
            envelope.reply_to.set(None)
        else:
            error = pykka.ActorDeadError(f"{type(envelope.message).__name__}: the actor stopped before it took this message")
            envelope.reply_to.set_exception((pykka.ActorDeadError, error, None))
    except Exception as error:  # a foreign future may be set already; the others behind it must still be answered
        log.debug("the reply to %s could not be set: %r", type(envelope.message).__name__, error)
