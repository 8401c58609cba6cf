"""The control socket of an open library: processes of the same user send it the public messages; no client can make another one wait.

One thread serves all of them without blocking. A request is told to the library with an outlet to be answered to, so a slow store delays
only whoever waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import weakref
from functools import partial
from pathlib import Path
from typing import cast

from callboard.actors.actor import send
from callboard.actors.control_connection import Connection, Doorbell
from callboard.actors.control_socket import listen, peer, remove
from callboard.actors.machine import Joinable, Ports
from callboard.actors.messages import Ref, Unsubscribe
from callboard.jobs.errors import Busy, UnsafeLibrary

log = logging.getLogger("callboard.control")

CONNECTIONS_MOST = 64
"""Clients at a time; more are told so and sent away."""
STOP_SECONDS = 5.0
DEAF_SECONDS = 1.0
"""After an error in accepting (no descriptors left), nobody is accepted for so long."""


class ControlServer:
    """Serves one library. `start` and `stop` are for the thread that opens and closes it, `connect` for any."""

    def __init__(self, ports: Ports, folder: Path, library: Ref) -> None:
        self._ports = ports
        self._folder = folder
        self._library = library
        self._bell = Doorbell(ports)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell.fileno(), selectors.EVENT_READ, self._bell_rang)
        self._connections: set[Connection] = set()
        self._inside: list[socket.socket] = []
        """Ends of socket pairs, to be served."""
        self._listener: socket.socket | None = None
        self._deaf_until: float | None = None
        self._stopping = False
        self._thread: Joinable | None = None
        _servers.add(self)

    def start(self) -> None:
        """Listen. A folder that can hold no socket is no error: the library is open all the same, only nobody outside can ask it."""
        try:
            self._listener = listen(self._folder, CONNECTIONS_MOST)
        except OSError as error:
            log.warning("%r: no control socket, so that commands cannot reach the library while it is open: %s", str(self._folder), error)
        else:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        try:
            self._thread = self._ports.thread(self._run, "callboard-control")
        except RuntimeError as error:
            log.warning("%r: no thread for the control socket: %s", str(self._folder), error)
            self._close()

    def connect(self) -> socket.socket:
        """A connection for this very process, as if through the socket, and whether there is one or not."""
        ours, theirs = socket.socketpair()
        self._inside.append(theirs)
        self._bell.ring()
        return ours

    def stop(self) -> None:
        """Send what is ready, take the socket away, end the thread. Call it while the library's lock is held."""
        self._stopping = True
        self._bell.ring()
        if self._thread is not None and not self._thread.join(STOP_SECONDS):
            log.warning("the control socket of %r did not stop", str(self._folder))
            return
        self._close()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, events in self._selector.select(self._patience()):
                    key.data(events)
                self._look_after()
            self._bell_rang(0)
            for connection in self._connections:
                connection.write()
        except Exception:
            log.exception("the control socket of %r has failed; the library is open all the same", str(self._folder))
        finally:
            self._close()

    def _patience(self) -> float | None:
        deadlines = [connection.deadline for connection in self._connections]
        times = [deadline for deadline in (*deadlines, self._deaf_until) if deadline is not None]
        return max(0.0, min(times) - self._ports.monotonic()) if times else None

    def _bell_rang(self, _: int) -> None:
        for outlet in self._bell.answer():
            if outlet is not None and outlet.open:
                outlet.connection.deliver(outlet)
        while self._inside:
            self._serve(self._inside.pop())

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        try:
            sock, _address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError as error:
            log.warning("the control socket accepts nobody for %g s: %s", DEAF_SECONDS, error)
            self._selector.unregister(self._listener)
            self._deaf_until = self._ports.monotonic() + DEAF_SECONDS
            return
        self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._bell, partial(send, self._library), self._ports.monotonic)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, partial(self._serve_one, connection))
        who = peer(sock)
        if who != os.geteuid():
            connection.refuse(UnsafeLibrary(f"the library belongs to user {os.geteuid()}; user {who} may not command it"))
        elif len(self._connections) > CONNECTIONS_MOST:
            connection.refuse(Busy(f"the library has {CONNECTIONS_MOST} commands connected already; try again"))

    def _serve_one(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                connection.read()
            if events & selectors.EVENT_WRITE:
                connection.write()
        except Exception:  # noqa: BLE001 - whatever one client brings about, the others are served
            log.exception("a connection to the control socket was closed")
            connection.drop()

    def _look_after(self) -> None:
        """Send what is ready, close who is done or was waited for too long, and listen for what each can still do."""
        now = self._ports.monotonic()
        if self._deaf_until is not None and now >= self._deaf_until and self._listener is not None:
            self._deaf_until = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        for connection in list(self._connections):
            if connection.wants_to_write:
                connection.write()
            if connection.deadline is not None and now >= connection.deadline:
                connection.drop()
            if connection.done:
                self._forget(connection)
                continue
            events = selectors.EVENT_READ * connection.wants_to_read | selectors.EVENT_WRITE * connection.wants_to_write
            self._listen_for(connection, events)

    def _listen_for(self, connection: Connection, events: int) -> None:
        key = self._selector.get_map().get(connection.socket)
        if key is None and events:
            self._selector.register(connection.socket, events, partial(self._serve_one, connection))
        elif key is not None and not events:
            self._selector.unregister(connection.socket)
        elif key is not None and key.events != events:
            self._selector.modify(connection.socket, events, key.data)

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.socket in self._selector.get_map():
            self._selector.unregister(connection.socket)
        for outlet in connection.close():
            send(self._library, Unsubscribe(cast(Ref, outlet)))

    def _close(self) -> None:
        """Harmless twice."""
        listener, self._listener = self._listener, None
        if listener is not None:
            remove(self._folder)
            listener.close()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        while self._inside:
            self._inside.pop().close()
        self._bell.close()
        self._selector.close()

    def let_go_in_child(self) -> None:
        """In a forked child: a copy of the listening socket would keep clients waiting for an owner that has died."""
        for sock in (self._listener, *(connection.socket for connection in self._connections), *self._inside):
            if sock is not None:
                with contextlib.suppress(OSError):
                    os.close(sock.detach())


_servers: weakref.WeakSet[ControlServer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server.let_go_in_child()
    _servers.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
