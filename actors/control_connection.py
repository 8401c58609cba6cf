"""One client of the control socket: what it has sent, what is to be sent to it, and for how long it is waited for. Nothing here blocks."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import pykka

from callboard.actors.control_requests import message_of, stays_open, without_results
from callboard.actors.machine import Ports
from callboard.actors.messages import Answered, Command, Ref
from callboard.jobs.errors import Busy, CallboardError, NotEncodable
from callboard.jobs.events import ProgressMade
from callboard.persistence.frames import REPLY, REQUEST, Frame, FrameReader, error_tree, frame

log = logging.getLogger("callboard.control")

READ_BYTES = 65_536
UNANSWERED_MOST = 16
"""Requests of one client under way; the next is read when one is answered."""
REQUESTS_MOST = 64
"""Requests and subscriptions of one client altogether."""
OUT_ENOUGH = 262_144
"""Bytes that wait to be sent, from which on events wait where they are, so that progress can be left out, and nothing more is read."""
FRAME_SECONDS = 5.0
"""A frame that has begun is whole after so long, and the first one has come; else the client is sent away."""
IDLE_SECONDS = 60.0
"""A client that asks nothing and follows nothing is sent away after so long."""
UNREAD_SECONDS = 30.0
"""… as is one that does not read what it asked for."""


class Doorbell:
    """How other threads wake the one that serves: a number in a descriptor, and who has something to be sent."""

    def __init__(self, ports: Ports) -> None:
        self._lock = ports.lock()
        self._rung: list[Outlet | None] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def ring(self, who: Outlet | None = None) -> None:
        with self._lock:
            self._rung.append(who)
            if len(self._rung) == 1 and self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def answer(self) -> list[Outlet | None]:
        """Who rang since the last answer."""
        with self._lock:
            rung, self._rung = self._rung, []
            if rung and self._fd >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._fd)
        return rung

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


class Outlet:
    """Stands where an ActorRef is expected, for one request: takes its answer, and what follows if it subscribes."""

    actor_class: type = type("ControlOutlet", (), {})

    def __init__(self, bell: Doorbell, connection: Connection, number: int, stays: bool) -> None:
        self.connection = connection
        self.number = number
        """The client's own number of the request."""
        self.stays = stays
        self.waiting: deque[object] = deque()
        self.actor_inbox = self
        self.open = True
        self._bell = bell

    def tell(self, message: object) -> None:
        """Raises pykka.ActorDeadError once closed, so that the sender forgets it."""
        if not self.open:
            raise pykka.ActorDeadError("the client of the control socket has gone")
        self.waiting.append(message)
        self._bell.ring(self)

    def is_alive(self) -> bool:
        return self.open

    def qsize(self) -> int:
        return len(self.waiting)


class Connection:
    """Belongs to the server's thread."""

    def __init__(self, sock: socket.socket, bell: Doorbell, send: Callable[[Command], bool], now: Callable[[], float]) -> None:
        """`send` hands a message to the library; False if it is gone. `now`: a monotonic clock."""
        sock.setblocking(False)
        self.socket = sock
        self.outlets: dict[int, Outlet] = {}
        self.ending = False
        """Nothing more is read; it is closed when all is sent."""
        self._bell, self._send, self._now = bell, send, now
        self._reader = FrameReader(REQUEST)
        self._requests: deque[Frame] = deque()
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._unanswered = 0
        self._since = now()
        """When it last moved on: came, sent the beginning of a frame or a whole one, was answered, or read."""
        self._greeted = False

    # --- what the server asks ---------------------------------------------------------------------------------------

    @property
    def wants_to_read(self) -> bool:
        # What is refused at once is answered too: who reads none of it could have the answers pile up.
        return not self.ending and self._unanswered < UNANSWERED_MOST and self._out_bytes < OUT_ENOUGH

    @property
    def wants_to_write(self) -> bool:
        return bool(self._out)

    @property
    def done(self) -> bool:
        return self.ending and not self._out

    @property
    def deadline(self) -> float | None:
        """When it is sent away if nothing happens until then; None: it may stay."""
        if self._out or self.ending:
            return self._since + UNREAD_SECONDS
        if self._reader.begun or not self._greeted:
            return self._since + FRAME_SECONDS
        return None if self.outlets else self._since + IDLE_SECONDS

    # --- reading ----------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take what has come. At the end of the stream, or of a stranger's nonsense, the connection ends."""
        try:
            data = self.socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.drop()
            return
        if not self._reader.begun:
            self._since = self._now()
        try:
            found = self._reader.feed(data)
        except CallboardError as error:
            self.refuse(error)
            return
        if found:
            self._greeted, self._since = True, self._now()
        self._requests += found
        self._take_requests()

    def _take_requests(self) -> None:
        while self._requests and self.wants_to_read:
            self._take(self._requests.popleft())

    def _take(self, request: Frame) -> None:
        number = request.get("id")
        if type(number) is not int or number in self.outlets:
            self.refuse(CallboardError(f"id={number!r:.100} is no number for a request, or it is in use"))
            return
        outlet = Outlet(self._bell, self, number, stays_open(request))
        try:
            if len(self.outlets) >= REQUESTS_MOST:
                raise Busy(f"a client may have {REQUESTS_MOST} requests and subscriptions; close some")
            message = message_of(request, cast(Ref, outlet))
        except Exception as error:  # noqa: BLE001 - a job's __post_init__ may raise anything; it is the client's to hear
            self._put({"id": number, "error": error_tree(error)})
            return
        self.outlets[number] = outlet
        self._unanswered += 1
        if not self._send(message):
            self.drop()

    # --- writing ----------------------------------------------------------------------------------------------------

    def deliver(self, outlet: Outlet) -> None:
        """Make frames of what waits in an outlet; of several readings of one job the latest is enough."""
        if self.ending or self._out_bytes >= OUT_ENOUGH:
            return
        messages = []
        while outlet.waiting:
            messages.append(outlet.waiting.popleft())
        for message in latest_readings(messages):
            if isinstance(message, Answered):
                self._answer(outlet, message)
            else:
                self._put({"id": outlet.number, "event": message})
        self._take_requests()

    def _answer(self, outlet: Outlet, answered: Answered) -> None:
        self._unanswered -= 1
        if answered.error is not None:
            self._put({"id": outlet.number, "error": error_tree(answered.error)})
        else:
            self._put({"id": outlet.number, "ok": without_results(answered.value)})
        if answered.error is not None or not outlet.stays:
            outlet.open = False
            self.outlets.pop(outlet.number, None)

    def _put(self, content: dict[str, object]) -> None:
        try:
            blob = frame(content, REPLY)
        except NotEncodable as error:
            if "event" in content:
                log.warning("a client of the control socket misses an event: %s", error)
                return
            blob = frame({"id": content["id"], "error": {"type": "NotEncodable", "text": f"the answer cannot be sent: {error}"}}, REPLY)
        if not self._out:
            self._since = self._now()
        self._out.append(memoryview(blob))
        self._out_bytes += len(blob)

    def refuse(self, error: CallboardError) -> None:
        """Say why, and end."""
        self._put({"id": 0, "error": error_tree(error)})
        self.ending = True

    def write(self) -> None:
        """Send what can be sent without waiting."""
        try:
            while self._out:
                sent = self.socket.send(self._out[0])
                self._since, self._out_bytes = self._now(), self._out_bytes - sent
                if sent < len(self._out[0]):
                    self._out[0] = self._out[0][sent:]
                    return
                self._out.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.drop()
            return
        for outlet in list(self.outlets.values()):
            if outlet.waiting:
                self.deliver(outlet)
        self._take_requests()

    def drop(self) -> None:
        """End at once: nobody reads any more."""
        self._out.clear()
        self._out_bytes = 0
        self.ending = True

    def close(self) -> list[Outlet]:
        """Close the socket; the outlets that were still open."""
        outlets, self.outlets = list(self.outlets.values()), {}
        for outlet in outlets:
            outlet.open = False
        self.socket.close()
        return outlets


def latest_readings(messages: Iterable[object]) -> list[Any]:
    """The messages without readings that a later one of the same job makes stale."""
    kept: list[object] = []
    seen: set[bytes] = set()
    for message in reversed(list(messages)):
        if isinstance(message, ProgressMade):
            if message.job_id in seen:
                continue
            seen.add(message.job_id)
        kept.append(message)
    kept.reverse()
    return kept
