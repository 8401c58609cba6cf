"""The real twin of the ports: threads, clocks, chance, futures and timers of this machine, each met in this file only.

Nothing else in the room may import threading, time, random or queue, so nothing else can escape the simulator, whose twin is
`callboard.actors.testing.simulation.SimulatedPorts`.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import pykka
from pykka._envelope import Envelope

from callboard.actors.machine import Abandoned, Joinable, Ports, Timer
from callboard.actors.mailbox import Inbox
from callboard.jobs.errors import NoAnswer

__all__ = ["Abandoned", "AlreadySet", "Future", "Joinable", "Ports", "Reply", "ThreadPorts", "Timer"]

log = logging.getLogger(__name__)

AlreadySet = queue.Full
"""What a pykka future raises when it is set a second time."""

_new_lock = threading.Lock


# --- futures ----------------------------------------------------------------------------------------------------------


class Future:
    """One value or one error, set once, by anyone, from any thread. The first set wins and later ones are told so, never raised at."""

    __slots__ = ("_callbacks", "_done", "_error", "_lock", "_value", "_waiters")

    def __init__(self) -> None:
        self._lock = _new_lock()
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[Any] | None = None
        self._callbacks: list[Callable[[Future], object]] | None = None

    def set(self, value: object = None) -> bool:
        """Set the value. False if it was set before."""
        return self._settle(value, None)

    def set_error(self, error: BaseException) -> bool:
        """Set an error for `get` to raise. False if it was set before."""
        return self._settle(None, error)

    def done(self) -> bool:
        """Whether it is set."""
        return self._done

    def wait(self, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds (None: for ever). Whether it is set."""
        return self._done or self._wait(timeout)

    def get(self, timeout: float | None) -> Any:
        """The value, within `timeout` seconds (None, to be said in so many words: for ever). Raises the error set, or NoAnswer."""
        if not self._done and not self._wait(timeout):
            raise NoAnswer(f"no answer within {timeout:g} s; the request may still be carried out")
        if self._error is not None:
            raise self._error
        return self._value

    def add_done_callback(self, call: Callable[[Future], object]) -> None:
        """Have `call(future)` made once it is set: on the thread that sets it, or at once if it is. What it raises is logged."""
        with self._lock:
            if not self._done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(call)
                return
        self._call_back(call)

    def _settle(self, value: object, error: BaseException | None) -> bool:
        with self._lock:
            if self._done:
                return False
            self._value = value
            self._error = error
            self._done = True
            waiters, self._waiters = self._waiters, None
            callbacks, self._callbacks = self._callbacks, None
        if waiters is not None:
            self._wake(waiters)
        if callbacks is not None:
            for call in callbacks:
                self._call_back(call)
        return True

    def _call_back(self, call: Callable[[Future], object]) -> None:
        try:
            call(self)
        except Abandoned:
            raise
        except BaseException:  # noqa: BLE001 - a stranger's callback must not end the thread of the store that answers him
            log.exception("a callback of a future raised")

    # How to wait is all that the simulator's future does otherwise.

    def _wait(self, timeout: float | None) -> bool:
        gate = _new_lock()
        gate.acquire()
        with self._lock:
            if self._done:
                return True
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(gate)
        if gate.acquire(True, _wait_seconds(timeout)):
            return True
        with self._lock:
            if self._waiters is not None:
                self._waiters.remove(gate)
            return self._done

    def _wake(self, waiters: list[Any]) -> None:
        for gate in waiters:
            gate.release()


_ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Reply(pykka.Future[Any]):
    """pykka's future over one of ours: cheaper than pykka's own, and the twin decides how it waits.

    pykka makes it from the actor's class, before any ports are known; the simulator puts its own future in as it takes the ask.
    """

    def __init__(self, future: Future | None = None) -> None:
        super().__init__()
        self.future = Future() if future is None else future

    def get(self, *, timeout: float | None = None) -> Any:
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self.future.wait(timeout):
            raise pykka.Timeout(f"{timeout} seconds")
        return self.future.get(0)

    def set(self, value: Any | None = None) -> None:
        if self._get_hook is not None or not self.future.set(value):
            raise AlreadySet

    def set_exception(self, exc_info: _ExcInfo | None = None) -> None:
        kind, error, traceback = exc_info if exc_info is not None else sys.exc_info()
        if kind is None:
            raise ValueError("set_exception() outside of an except block needs an exc_info")
        if error is None:
            error = kind()
        if self._get_hook is not None or not self.future.set_error(error.with_traceback(traceback)):
            raise AlreadySet

    def set_get_hook(self, func: Callable[[float | None], Any]) -> None:
        if self.future.done():
            raise AlreadySet
        super().set_get_hook(func)


# --- the real twin ----------------------------------------------------------------------------------------------------


class ThreadPorts:
    """The real machine: threads, the system's clocks, its randomness. Thread-safe."""

    def __init__(self) -> None:
        self._timers = _TimerThread()
        self._random = random.Random()
        self._marks = threading.local()
        self.monotonic = time.monotonic
        self.wall = time.time
        self.random = self._random.random
        self.random_bytes = os.urandom

    def inbox(self, *, stop_overtakes: bool) -> Inbox:
        return Inbox(_ThreadArrivals(), stop_overtakes=stop_overtakes)

    def future(self) -> Future:
        return Future()

    def pykka_future(self) -> pykka.Future[Any]:
        return Reply()

    def call_later(self, seconds: float, call: Callable[[], object], /) -> Timer:
        return self._timers.call_at(time.monotonic() + seconds, call)

    def start_loop(self, loop: Callable[[], object], name: str) -> None:
        threading.Thread(target=loop, name=name, daemon=True).start()

    def thread(self, run: Callable[[], object], name: str) -> Joinable:
        return _RunningThread(run, name)

    def lock(self) -> AbstractContextManager[object]:
        return _new_lock()

    def sleep(self, seconds: float, /) -> None:
        time.sleep(seconds)

    def mark_run(self, inside: bool, /) -> None:
        self._marks.inside = inside

    def in_run(self) -> bool:
        return getattr(self._marks, "inside", False)

    def yield_point(self, name: str, /) -> None:
        pass

    def buggify(self, name: str, /) -> bool:
        return False

    def milestone(self, name: str, about: object, /) -> None:
        pass

    def close(self) -> None:
        self._timers.close()


class _ThreadArrivals(queue.SimpleQueue[Envelope[Any]]):
    """The queue of the standard library in C, with a None where it raises Empty."""

    def take(self, timeout: float | None, /) -> Envelope[Any] | None:
        try:
            return self.get() if timeout is None else self.get(True, min(timeout, threading.TIMEOUT_MAX))
        except queue.Empty:
            return None


class _RunningThread:
    def __init__(self, run: Callable[[], object], name: str) -> None:
        self._thread = threading.Thread(target=run, name=name, daemon=True)
        self._thread.start()

    def join(self, timeout: float | None) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()


class _TimerThread:
    """One thread for all timers, started at the first and asleep until the next is due."""

    def __init__(self) -> None:
        self._changed = threading.Condition(_new_lock())
        self._heap: list[tuple[float, int, _ThreadTimer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        if math.isnan(when):
            raise ValueError("the seconds of a timer are not a number")
        timer = _ThreadTimer(self, call)
        with self._changed:
            if self._closed:
                return timer
            entry = (when, next(self._numbers), timer)
            heapq.heappush(self._heap, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="callboard-timers", daemon=True)
                self._thread.start()
            elif self._heap[0] is entry:
                self._changed.notify()
        return timer

    def cancel(self, timer: _ThreadTimer) -> None:
        with self._changed:
            if timer.call is None:
                return
            timer.call = None
            self._cancelled += 1
            # Most timers are guards that never fire: without this, each would stay until its time.
            if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2].call is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (call := self._next_call()) is not None:
            try:
                call()
            except BaseException:  # noqa: BLE001 - the other timers go on
                log.exception("a timer's call raised")
            del call

    def _next_call(self) -> Callable[[], object] | None:
        with self._changed:
            while not self._closed:
                if not self._heap:
                    self._changed.wait()
                    continue
                when, _, timer = self._heap[0]
                left = when - time.monotonic()
                if timer.call is not None and left > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                    continue
                heapq.heappop(self._heap)
                if timer.call is None:
                    self._cancelled -= 1
                    continue
                call, timer.call = timer.call, None
                return call
        return None


class _ThreadTimer:
    __slots__ = ("_timers", "call")

    def __init__(self, timers: _TimerThread, call: Callable[[], object]) -> None:
        self._timers = timers
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self._timers.cancel(self)


def _wait_seconds(timeout: float | None) -> float:
    """A timeout as lock.acquire wants it: -1 for ever, never negative otherwise, never too large."""
    return -1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)
