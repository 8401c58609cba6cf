"""One open library as the runtime holds it: who belongs to it, and how it is closed without taking anything from user code that still runs.

The order of closing is the point: first nothing new begins and all that runs is asked to leave; then its actors stop, those that write last;
the lock goes when the last line of user code has returned, and not before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pykka

from callboard.actors.actor import send, tell_stop
from callboard.actors.messages import BeginClose, CloseStream, ExcuseRunning, HubRequest, Ref
from callboard.actors.ports import Ports

log = logging.getLogger("callboard.runtime")

STOP_SECONDS = 10.0
"""How long one of our own actors may take to stop: none of them runs user code, except job actors and workers, which are not waited for."""

ALIVE_SECONDS = 0.5
"""Who waits for an actor looks this often whether it is still there."""

LEAVE_SECONDS = 1.0
"""What job actors are given at least to leave after they were told to stop."""


class Tenants:
    """Counts the actors on which user code of a library may run; when it is closed and the last has left, `free` is called, once."""

    def __init__(self, ports: Ports, free: Callable[[], object]) -> None:
        self._lock = ports.lock()
        self._free = free
        self._inside: dict[Ref, None] = {}
        self._left_early: dict[Ref, None] = {}
        """Those that left before they were counted in."""
        self._closed = self._freeing = False
        self._freed = ports.future()

    def joined(self, actor: Ref) -> None:
        with self._lock:
            if actor in self._left_early:
                del self._left_early[actor]
            else:
                self._inside[actor] = None

    def left(self, actor: Ref) -> None:
        with self._lock:
            if actor in self._inside:
                del self._inside[actor]
            elif not self._closed:
                self._left_early[actor] = None
        self._free_if_empty()

    def close(self) -> None:
        """No more will join."""
        with self._lock:
            self._closed = True
        self._free_if_empty()

    def free_within(self, seconds: float | None) -> bool:
        """Whether all have left and the library is free, `seconds` from now at the latest (None: waits for ever)."""
        return bool(self._freed.wait(seconds))

    def actors(self) -> list[Ref]:
        with self._lock:
            return list(self._inside)

    def _free_if_empty(self) -> None:
        with self._lock:
            if not self._closed or self._inside or self._freeing:
                return
            self._freeing = True
        try:
            self._free()
        finally:
            self._freed.set(None)


class Opened:
    """The actors of an open library, and its end. `begin_close` and `finish_close` may be called again, by any thread."""

    def __init__(self, ports: Ports, hub: Ref, stream: bytes, tenants: Tenants, actor: Ref, writer: Ref, reader: Ref) -> None:
        self._ports, self._hub, self._stream, self._tenants = ports, hub, stream, tenants
        self._actor, self._writer, self._reader = actor, writer, reader
        self._begun: Any = None
        self._finishing = False
        self._lock = ports.lock()

    def begin_close(self) -> None:
        """Nothing new begins; what runs is asked to leave. Returns at once."""
        with self._lock:
            if self._begun is not None:
                return
            self._begun = self._ports.future()
        if not send(self._actor, BeginClose(self._begun)):
            self._begun.set(None)

    def finish_close(self, deadline: float | None) -> bool:
        """Wait up to `deadline` seconds (None: for ever) for what runs to leave, then stop everything. True if no user code runs any more."""
        monotonic = self._ports.monotonic
        until = None if deadline is None else monotonic() + max(0.0, deadline)
        with self._lock:
            first, self._finishing = not self._finishing, True
        if first:
            self._stop_all(until)
        left = None if until is None else max(LEAVE_SECONDS if first else 0.0, until - monotonic())
        return self._tenants.free_within(left)

    def _stop_all(self, until: float | None) -> None:
        if not self._answered(self._begun, until):
            excused = self._ports.future()
            if send(self._actor, ExcuseRunning(excused)):
                self._answered(excused, self._ports.monotonic() + STOP_SECONDS)
        for job_actor in self._tenants.actors():
            tell_stop(job_actor)
        slow = [ref for ref in (self._actor, self._writer, self._reader) if not stop(ref)]
        send(self._hub, CloseStream(self._stream))
        heard = self._ports.future()  # what has been told so far has then gone to the listeners: what closes next is the way to some of them
        if send(self._hub, HubRequest(self._stream, None, heard)):
            heard.wait(STOP_SECONDS)
        if slow:  # its disk is: nothing is taken from under a commit, and the lock least of all
            self._ports.thread(partial(self._close_behind, slow), "closing")
        else:
            self._tenants.close()

    def _close_behind(self, slow: list[Ref]) -> None:
        for ref in slow:
            while not stop(ref):
                pass
        self._tenants.close()

    def _answered(self, future: Any, until: float | None) -> bool:
        """Wait for the library actor's answer; it may have been stopped by its host with the question still in its inbox."""
        while not future.done():
            left = ALIVE_SECONDS if until is None else min(ALIVE_SECONDS, until - self._ports.monotonic())
            if left <= 0:
                return False
            if not future.wait(left) and not self._actor.is_alive():
                return bool(future.done())
        return True


def stop(ref: Ref) -> bool:
    """Stop one of our own and wait for it: what is in its inbox is handled first. False if it takes more than `STOP_SECONDS`."""
    try:
        ref.stop(block=True, timeout=STOP_SECONDS)
    except pykka.Timeout:
        log.warning("%s did not stop within %g s", ref.actor_class.__name__, STOP_SECONDS)
        return False
    except pykka.ActorDeadError:
        log.debug("%s had stopped", ref.actor_class.__name__)
    return True
