"""The runtime: builds the actors, wires them, opens libraries, and stops everything in reverse. This file is the map of who knows whom."""

from __future__ import annotations

import atexit
import difflib
import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pykka

from callboard.actors.actor import Actor, ActorFailed, send
from callboard.actors.dispatcher import DispatcherActor
from callboard.actors.door import Library
from callboard.actors.hub import HubActor
from callboard.actors.library import LibraryActor
from callboard.actors.messages import BATCH_ROWS, Ref, TypesChanged
from callboard.actors.opened import Opened, Tenants, stop
from callboard.actors.ports import Ports, ThreadPorts
from callboard.actors.reader import ReaderActor
from callboard.actors.stage import LibraryParts
from callboard.actors.store import StoreActor
from callboard.jobs.errors import ConfigError, LibraryBusy, LibraryClosed, UnknownMessage
from callboard.jobs.registry import REGISTRY, Registry
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.queries import Reader
from callboard.persistence.recovery import recover
from callboard.persistence.store import Store

if TYPE_CHECKING:
    import socket

    from callboard.actors.control import ControlServer

log = logging.getLogger("callboard.runtime")

WORKERS_MOST = 1_000
RUNNING_JOBS_MOST = 10_000
QUEUED_MOST = 10_000_000
"""The highest limit of jobs that have not ended."""

class Serve(NamedTuple):
    """To the supervisor: the library that is to hear when one of these dies."""

    library: Ref
    refs: tuple[Ref, ...]


class Supervisor(Actor):
    """The root of supervision: hears of every death among those that are not simply replaced, and fails the library they served."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self._serves: dict[Ref, Ref] = {}

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        match message:
            case Serve():
                self._serves = {ref: library for ref, library in self._serves.items() if library.is_alive()}
                self._serves.update(dict.fromkeys(message.refs, message.library))
            case ActorFailed():
                log.critical("%s died: %s", message.ref.actor_class.__name__, message.error)
                library = self._serves.pop(message.ref, None)
                if library is not None:
                    send(library, message)
            case _:
                raise UnknownMessage(f"the supervisor has no answer to {type(message).__name__}")


class Runtime:
    """One per process: workers, dispatcher, event hub, open libraries. Use it as a context manager, or call `close`.

    `workers`: threads that run tasks. `running_jobs`: how many jobs may run at once in all libraries together. `lanes`: how many tasks of a
    lane may run at once, such as `{"net": 4, "disk:usb": 1}`; a lane that is not named has no limit of its own.
    """

    def __init__(
        self, *, workers: int = 8, running_jobs: int = 32, lanes: Mapping[str, int] | None = None, ports: Ports | None = None,
        registry: Registry = REGISTRY, **unknown: object,
    ) -> None:  # fmt: skip
        for name, value in unknown.items():
            near = difflib.get_close_matches(name, ("workers", "running_jobs", "lanes"), 1)
            raise ConfigError(f"Runtime has no option {name}={value!r:.60}" + (f"; did you mean {near[0]}?" if near else ""))
        self.workers = _whole("workers", workers, WORKERS_MOST)
        self._running_jobs = _whole("running_jobs", running_jobs, RUNNING_JOBS_MOST)
        for lane, limit in (lanes or {}).items():
            _whole(f"lanes[{lane!r:.60}]", limit, WORKERS_MOST)
        self.ports: Ports = ports if ports is not None else ThreadPorts()
        self._registry = registry
        self._libraries: dict[str, Library] = {}
        self._opened: dict[str, Opened] = {}
        self._controls: dict[str, ControlServer] = {}
        self._lock = self.ports.lock()
        self._closed = False
        self._pid = os.getpid()
        self._supervisor = Supervisor.start(self.ports)
        self._hub = HubActor.start(self.ports, self._supervisor)
        self._dispatcher = DispatcherActor.start(self.ports, self._supervisor, workers, dict(lanes or {}), running_jobs)
        registry.listen(self, self._types_changed)
        atexit.register(self._at_exit)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- libraries --------------------------------------------------------------------------------------------------

    def open_library(
        self, path: str | os.PathLike[str], *, create: bool = True, services: Any = None, running_jobs: int = 8,
        allow_network_fs: bool = False, wait: bool = True, runs: Literal["all", "own"] = "all", control: bool | None = None,
        batch_rows: int = BATCH_ROWS, max_queued: int | None = None, group_max_queued: int | None = None,
    ) -> Library:  # fmt: skip
        """Open the library in the folder `path`, made if new; recover what a dead process left; start to run its jobs.

        `services`: what its jobs and tasks find in `ctx.services`. `running_jobs`: how many of its jobs run at once. `wait`: wait up to 2 s
        for a command that holds it for a moment. `runs`: "own" leaves alone what waits in it, and runs only what is submitted while it is open,
        here or through the control socket (a submission whose key is taken counts for the job that has it). `control`: whether other processes
        of this user may send it messages through the socket `control.sock` in its folder; None: if the ports are real. `batch_rows`: how many
        items of a batch are one transaction. `max_queued`: how many jobs it may hold that have not ended, and `group_max_queued` how many of one
        group, None: as many as there are; a submission beyond is `Busy`.

        Raises `LibraryBusy` if someone else owns it, `NotALibrary`, `NewerSchema`, `UnsafeLibrary`.
        """
        _whole("running_jobs", running_jobs, RUNNING_JOBS_MOST)
        _whole("batch_rows", batch_rows, QUEUED_MOST)
        limits = {"max_queued": max_queued, "group_max_queued": group_max_queued}
        for name, limit in limits.items():
            if limit is not None:
                _whole(name, limit, QUEUED_MOST)
        if runs not in ("all", "own"):
            raise ConfigError(f'runs={runs!r:.60} is neither "all" nor "own"')
        if self._closed:
            raise LibraryClosed("the runtime has been closed; make a new one")
        real = os.path.realpath(path)
        if real in self._libraries:
            raise LibraryBusy(f"the library {real!r} is open in this runtime already; use that one", pid=os.getpid())
        folder = LibraryFolder.open(
            path, create=create, allow_network_fs=allow_network_fs, wait=self.ports.sleep if wait else None, now=self.ports.monotonic,
            recover=lambda con, _epoch, clean: recover(con, self._now_ms(), clean) and None,
        )  # fmt: skip
        try:
            rows = min(batch_rows, *(limit for limit in limits.values() if limit is not None), QUEUED_MOST)  # a larger part would never fit
            with folder.explained():
                library = self._wire(folder, services, running_jobs, runs == "own", rows, max_queued, group_max_queued)
        except BaseException:
            folder.abandon()
            raise
        self._libraries[real] = library
        if control if control is not None else isinstance(self.ports, ThreadPorts):
            from callboard.actors.control import ControlServer  # sockets: a tenth of the time that importing callboard takes

            self._controls[str(folder.path)] = server = ControlServer(self.ports, folder.path, library.ref)
            server.start()
        return library

    def connect(self, library: Library) -> socket.socket:
        """A connection to the library as through its control socket, for this very process. Raises `LibraryClosed` if it has none."""
        server = self._controls.get(str(library.path))
        if server is None:
            raise LibraryClosed(f"the library {str(library.path)!r} is closed, or was opened with control=False")
        return server.connect()

    def _wire(
        self, folder: LibraryFolder, services: Any, running_jobs: int, own_only: bool, batch_rows: int, max_queued: int | None,
        group_max_queued: int | None,
    ) -> Library:  # fmt: skip
        ports, registry = self.ports, self._registry
        if isinstance(ports, ThreadPorts):
            folder.keep_reserve()
        store = Store(
            folder, now_ms=self._now_ms, random_bytes=ports.random_bytes, knows=registry.knows, max_queued=max_queued,
            max_queued_per_group=group_max_queued,
        )  # fmt: skip
        due, suspects = store.next_due_ms(), store.suspects()  # before any actor is there: damage may make an error of it
        reader = ReaderActor.start(ports, self._supervisor, lambda: Reader(folder.reader(), registry.why_not))
        writer = StoreActor.start(ports, self._supervisor, store, reader)
        tenants = Tenants(ports, partial(self._free, folder, store))
        stream = ports.random_bytes(8)
        parts = LibraryParts(
            store=writer, reader=reader, hub=self._hub, dispatcher=self._dispatcher, stream=stream, epoch=folder.epoch, services=services,
            log_folder=folder.path / "logs", workers=self.workers, running_jobs=running_jobs, next_due_ms=due,
            suspects=suspects, left=tenants.left, joined=tenants.joined, own_only=own_only,
        )  # fmt: skip
        actor = LibraryActor.start(ports, self._supervisor, parts)
        send(self._supervisor, Serve(actor, (reader, writer)))
        opened = self._opened[str(folder.path)] = Opened(ports, self._hub, stream, tenants, actor, writer, reader)
        return Library(self, folder, actor, partial(self._close_library, str(folder.path), opened), batch_rows)

    def _close_library(self, path: str, opened: Opened, deadline: float | None) -> bool:
        if self._pid != os.getpid():
            return True
        with self._lock:
            self._libraries.pop(path, None)
        opened.begin_close()
        closed = opened.finish_close(deadline)
        self._stop_control(path)
        if closed and self._opened.get(path) is opened:
            del self._opened[path]
        return closed

    def _free(self, folder: LibraryFolder, store: Store) -> None:
        """No user code of it runs any more. The control socket goes first: without the lock, the one that lies there may be another owner's.

        A store that has failed is left as after a crash: to close it cleanly is to sync once more what could not be synced.
        """
        self._stop_control(str(folder.path))
        folder.close(clean=store.failure is None)

    def _stop_control(self, path: str) -> None:
        with self._lock:
            control = self._controls.pop(path, None)
        if control is not None:
            control.stop()

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self, deadline: float | None = 10.0) -> bool:
        """Close every library, as `Library.close`, then stop the workers. True if everything has stopped within `deadline` seconds."""
        if self._pid != os.getpid():  # a forked child has none of our threads, and nothing of ours to close
            return True
        with self._lock:
            first, self._closed = not self._closed, True
        self._registry.unlisten(self)
        atexit.unregister(self._at_exit)
        until = None if deadline is None else self.ports.monotonic() + max(0.0, deadline)
        for opened in list(self._opened.values()):  # all of them before any is waited for: they leave at the same time
            opened.begin_close()
        stopped = True
        for path, opened in list(self._opened.items()):
            left = None if until is None else max(0.0, until - self.ports.monotonic())
            stopped = self._close_library(path, opened, left) and stopped
        if first:
            for ref in (self._dispatcher, self._hub, self._supervisor):
                stop(ref)
            self.ports.close()
        return stopped

    def abandon(self) -> None:
        """Forget all, as a crash would: connections and locks go, nothing is written. For tests, when none of its threads runs any more."""
        self._closed = True
        self._registry.unlisten(self)
        atexit.unregister(self._at_exit)
        for library in self._libraries.values():
            library._folder.abandon()

    def _at_exit(self) -> None:
        """The interpreter exits: daemon threads are about to vanish wherever they are. Give running jobs a moment to leave."""
        self.close(deadline=2.0)

    def _types_changed(self) -> None:
        for library in list(self._libraries.values()):
            send(library.ref, TypesChanged())

    def _now_ms(self) -> int:
        return int(self.ports.wall() * 1000)


def _whole(name: str, value: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"{name}={value!r:.60} is not a whole number from 1 to {most}")
    return value
