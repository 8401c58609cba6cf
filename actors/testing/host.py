"""A host program as a history has it: it opens a library, sends it commands, looks at its disk, and writes down all it sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from callboard.actors.actor import send
from callboard.actors.door import Library
from callboard.actors.handle import JobHandle
from callboard.actors.machine import Ports
from callboard.actors.messages import FactsSince, HubRequest, Subscribe
from callboard.actors.ports import ThreadPorts
from callboard.actors.runtime import Runtime
from callboard.actors.testing.history_jobs import Watch
from callboard.actors.testing.listeners import Caught, Drain, Listener
from callboard.actors.testing.observed import Acked, Closed, Logged, Looker, Observed, Opened, Refused, Row, Rows, Waited
from callboard.jobs.errors import CallboardError, JobCancelled, JobFailed, LibraryClosed, NoAnswer, NotAllowed, StoreUnavailable
from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import Submission
from callboard.persistence.connection import open_reader
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.jobdata import encode_result
from callboard.persistence.place import DATABASE

PATIENCE = 1e6
"""Seconds: longer than the slowest simulated thread takes."""


class Host:
    """One library in one life of the process. Its methods are for any thread."""

    def __init__(
        self,
        life: int,
        ports: Ports,
        path: Path,
        observed: Observed,
        known: list[bytes],
        folders: list[LibraryFolder],
    ) -> None:
        """`known`: the jobs that were acknowledged, over all lives. `folders`: all that were ever opened, the last one last."""
        self.life, self.ports, self.path, self.observed, self.known = life, ports, path, observed, known
        self.library: Library | None = None
        """None while it is closed."""
        self._folders = folders
        self._lock = ports.lock() if isinstance(ports, ThreadPorts) else None
        self._looker: Looker | None = None
        self._listener: Any = None
        self._runtime: Runtime | None = None
        self._has_closed = False

    # --- the library ------------------------------------------------------------------------------------------------

    def open(self, runtime: Runtime, running_jobs: int) -> None:
        """Open the library, and listen to all that it tells and has told since."""
        self._runtime, self._looker = runtime, None
        watch = Watch(self.observed, self.life, self.ports, self.look)
        library = runtime.open_library(self.path, services=watch, running_jobs=running_jobs, control=False)
        self.observed.add(Opened(self.life, library.epoch, running_jobs, self.rows()))
        self._listener = Listener.start(self.ports, self.observed, self.life, self.look)
        epoch, n = library.ask(Subscribe(self._listener, progress=False), timeout=PATIENCE)
        send(self._listener, Caught(library.ask(FactsSince(epoch, 0, n), timeout=PATIENCE) if n else ()))
        self.library = library

    def close(self, deadline: float) -> bool:
        """Close the library, and wait until all that it told has been noted."""
        library, self.library, self._has_closed = self.library, None, True
        assert library is not None
        stopped = library.close(deadline)
        if self._lock is not None and self._looker is not None:
            self._looker.close()
        self.drain()
        self._listener.stop(block=False)
        if stopped:
            rows: Rows = self._folder.last_rows  # type: ignore[attr-defined]
            self.observed.add(Closed(self.life, stopped, rows))
        return stopped

    def close_for_good(self) -> None:
        """As the last thing of a life that ends well, with nothing running."""
        if self.library is not None and not self.close(PATIENCE):
            self.observed.add(Logged(self.life, "the library did not close, with nothing running in it"))

    def drain(self) -> None:
        """Wait until all that has been told so far is noted."""
        assert self._runtime is not None
        for ref, message in ((self._runtime._hub, lambda future: HubRequest(b"", None, future)), (self._listener, Drain)):
            future = self.ports.future()
            send(ref, message(future))
            future.wait(PATIENCE)

    # --- looking at the disk ----------------------------------------------------------------------------------------

    def look(self, job: bytes) -> Row | None:
        """What is on disk of a job at this moment; LookupError if the library has been closed meanwhile."""
        return self._look_through().row(job)

    def rows(self) -> Rows:
        """All that is on disk at this moment; LookupError if the library has been closed meanwhile."""
        return self._look_through().rows()

    def last_rows(self) -> Rows | None:
        """The same, of a process that has just died: what its open transaction did is not in it. None if the library was not open."""
        try:
            return None if self._looker is None else self._looker.rows()
        except LookupError:
            return None

    def _look_through(self) -> Looker:
        if self._looker is None:
            if self._lock is None:
                # One thread at a time: the reader actor's connection will do, and to open another takes longer than all that it is asked.
                readers = self._folder._readers
                if not readers:
                    raise LookupError("the library has been closed")
                self._looker = Looker(readers[0])
            else:
                self._looker = Looker(open_reader(self.path / DATABASE), self._lock)  # none of the folder's, which closes them with itself
        return self._looker

    @property
    def _folder(self) -> LibraryFolder:
        return next(folder for folder in reversed(self._folders) if folder.path == self.path)

    # --- commands ---------------------------------------------------------------------------------------------------

    def submit(self, what: Submission | bytes, keep: str = "") -> JobHandle | None:
        """A submission, or a retry of an ended job; `keep`: what it takes over of it. None if it was refused."""
        library = self.library
        if library is None:
            return None
        command = "submit" if isinstance(what, Submission) else f"retry {keep}"
        number = self.observed.ask(self.life, command)
        try:
            handle = library.submit(what) if isinstance(what, Submission) else library.retry(what, **({keep: True} if keep else {}))
        except CallboardError as error:
            self.refused(number, error)
            return None
        self.submitted(number, handle.id, handle.duplicate, command)
        return handle

    def submitted(self, number: int, job: bytes, duplicate: bool, command: str = "submit") -> None:
        """Note the answer to a submission."""
        self._acked(number, job, "duplicate" if duplicate else command, None)
        if not duplicate:
            self.known.append(job)

    def refused(self, number: int, error: Exception) -> None:
        """Note an answer that is an error. One that nothing in a history can give a reason for is a defect."""
        expected = (NotAllowed, LibraryClosed, NoAnswer, *((StoreUnavailable,) if self._has_closed else ()))
        if not isinstance(error, expected):
            self.observed.add(Logged(self.life, f"a command was answered with {error!r}"))
        self.observed.add(Refused(self.life, number, str(error), not isinstance(error, NotAllowed)))

    def command(self, kind: str, job: bytes, call: Callable[[Library], Status]) -> Status | None:
        """Pause, resume or cancel; `call` does it. None if it was refused."""
        library = self.library
        if library is None:
            return None
        number = self.observed.ask(self.life, kind, job)
        try:
            status = call(library)
        except CallboardError as error:
            self.refused(number, error)
            return None
        self._acked(number, job, kind, status)
        return status

    def wait(self, job: bytes, timeout: float) -> None:
        """Wait for the end of a job, `timeout` seconds at most."""
        library = self.library
        if library is None:
            return
        ends, result = frozenset((Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)), None
        try:
            result = encode_result(JobHandle(library, job).wait(timeout=timeout))
        except JobFailed:
            ends = frozenset((Status.FAILED,))
        except JobCancelled:
            ends = frozenset((Status.CANCELLED,))
        except (NoAnswer, LibraryClosed):
            return
        self.observed.add(Waited(self.life, job, ends, result))

    def _acked(self, number: int, job: bytes, command: str, status: Status | None) -> None:
        try:
            row = self.look(job)
        except LookupError:
            self.observed.add(Acked(self.life, number, job, command, status, None, seen=False))
        else:
            self.observed.add(Acked(self.life, number, job, command, status, row))
