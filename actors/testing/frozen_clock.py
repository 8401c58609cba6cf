"""Real threads under a clock that stands still until the test moves it: delays, backoff and `ctx.sleep` without waiting.

Everything that a job or a library waits for by the clock follows it: timers, timeouts of inboxes, the wall clock on records. How long a
caller waits for an answer (`handle.wait(timeout=…)`) stays real: that is patience, not time.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pykka._envelope import Envelope

from callboard.actors.mailbox import Inbox
from callboard.actors.ports import ThreadPorts, Timer

log = logging.getLogger(__name__)

START = 1_800_000_000.0

GRACE = 0.002
"""Seconds: timers that are so little late are fired as well, as what is due at a time is looked for a millisecond behind it."""


class FrozenClock(ThreadPorts):
    """Ports whose clocks the test moves: `Runtime(ports=FrozenClock())`. Thread-safe."""

    def __init__(self, wall: float = START) -> None:
        """`wall`: what the wall clock shows, seconds since the epoch."""
        super().__init__()
        self._moved = threading.Condition()
        self._now = 1_000.0
        self._ahead = wall - self._now
        self._numbers = itertools.count()
        self._calls: list[tuple[float, int, _FrozenTimer]] = []
        self.monotonic = self._monotonic
        self.wall = self._wall

    def advance(self, seconds: float) -> None:
        """Move both clocks on, through every timer on the way: each is fired at its time, in order, on this thread.

        What they set off happens on its own threads: `drain` waits for it."""
        if not seconds >= 0:
            raise ValueError(f"a clock is moved on by 0 or more seconds, not {seconds!r:.60}")
        until = self._now + seconds
        while (timer := self._due(until)) is not None:
            timer.fire()

    def set_wall(self, wall: float) -> None:
        """Have the wall clock show something else, as people do; the monotonic one does not notice."""
        with self._moved:
            self._ahead = wall - self._now

    def inbox(self, *, stop_overtakes: bool) -> Inbox:
        return Inbox(_FrozenArrivals(self._moved, self._monotonic), stop_overtakes=stop_overtakes)

    def call_later(self, seconds: float, call: Callable[[], object], /) -> Timer:
        timer = _FrozenTimer(call)
        with self._moved:
            heapq.heappush(self._calls, (self._now + max(0.0, seconds), next(self._numbers), timer))
        if seconds <= 0:
            self.advance(0.0)
        return timer

    def sleep(self, seconds: float, /) -> None:
        """Only a moment of real time: whoever waits for another process must not wait for the test."""
        time.sleep(min(seconds, 0.01))

    def close(self) -> None:
        with self._moved:
            self._calls.clear()
        super().close()

    def _monotonic(self) -> float:
        return self._now

    def _wall(self) -> float:
        return self._now + self._ahead

    def _due(self, until: float) -> _FrozenTimer | None:
        """The next timer until then, with the clock at its time; None, with the clock at `until`."""
        with self._moved:
            timer = None
            if self._calls and self._calls[0][0] <= until + GRACE:
                when, _, timer = heapq.heappop(self._calls)
                self._now = max(self._now, when)
            else:
                self._now = max(self._now, until)
            self._moved.notify_all()
            return timer


class _FrozenTimer:
    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self._call = None

    def fire(self) -> None:
        call, self._call = self._call, None
        try:
            if call is not None:
                call()
        except BaseException:  # noqa: BLE001 - as the timer thread: the other timers go on
            log.exception("a timer's call raised")


class _FrozenArrivals:
    """A queue whose timeouts follow the clock."""

    def __init__(self, moved: threading.Condition, monotonic: Callable[[], float]) -> None:
        self._moved = moved
        self._monotonic = monotonic
        self._items: deque[Envelope[Any]] = deque()

    def put(self, item: Envelope[Any], /) -> None:
        with self._moved:
            self._items.append(item)
            self._moved.notify_all()

    def get(self) -> Envelope[Any]:
        item = self.take(None)
        assert item is not None
        return item

    def take(self, timeout: float | None, /) -> Envelope[Any] | None:
        with self._moved:
            until = None if timeout is None else self._monotonic() + timeout
            while not self._items:
                if until is not None and self._monotonic() >= until:
                    return None
                self._moved.wait()
            return self._items.popleft()

    def qsize(self) -> int:
        return len(self._items)
