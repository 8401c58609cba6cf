"""A host program as a history has it: it opens a library, sends it commands, looks at its disk, and writes down all it sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from disk import BatchRow, Looker, Row, Rows, Stored
from history_jobs import Watch
from listeners import Caught, Drain, Listener
from observed import Acked, Closed, Got, Logged, Observed, Opened, Over, Refused, Sent, Steered, Waited
from sent_batches import SentBatch, item_of, items_of, new_jobs

from callboard.actors.actor import send
from callboard.actors.batch_handle import BatchHandle
from callboard.actors.door import Library
from callboard.actors.handle import JobHandle
from callboard.actors.machine import Ports
from callboard.actors.messages import BATCH_ROWS, FactsSince, HubRequest, SubmitBatch, Subscribe
from callboard.actors.ports import ThreadPorts
from callboard.actors.runtime import Runtime
from callboard.jobs.batch_outcome import BatchOutcome
from callboard.jobs.errors import (
    BatchMismatch,
    Busy,
    CallboardError,
    JobCancelled,
    JobFailed,
    LibraryClosed,
    NoAnswer,
    NoSuchBatch,
    NotAllowed,
    OutcomeUnknown,
    StoreUnavailable,
    Superseded,
)
from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import OnDuplicate, Submission
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
        sent: list[SentBatch],
        folders: list[LibraryFolder],
    ) -> None:
        """`known`: the jobs that were acknowledged, and `sent`: the batches that were sent, over all lives. `folders`: all that were ever
        opened, the last one last.
        """
        self.life, self.ports, self.path, self.observed, self.known, self.sent = life, ports, path, observed, known, sent
        self.library: Library | None = None
        """None while it is closed."""
        self.options: dict[str, Any] = {}
        """More for `open_library`: its limits."""
        self._folders = folders
        self._lock = ports.lock() if isinstance(ports, ThreadPorts) else None
        self._looker: Looker | None = None
        self._listener: Any = None
        self._runtime: Runtime | None = None
        self._has_closed = False

    # --- the library ------------------------------------------------------------------------------------------------

    def open(self, runtime: Runtime, running_jobs: int, batch_rows: int = BATCH_ROWS) -> None:
        """Open the library, and listen to all that it tells and has told since."""
        self._runtime, self._looker = runtime, None
        watch = Watch(self.observed, self.life, self.ports, self.look)
        library = runtime.open_library(self.path, services=watch, running_jobs=running_jobs, control=False, batch_rows=batch_rows, **self.options)
        self.observed.add(Opened(self.life, library.epoch, running_jobs, *self.stored()))
        self._listener = Listener.start(self.ports, self.observed, self.life, self.look, self.look_at_batch)
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
            last: Stored = getattr(self._folder, "last")  # noqa: B009
            self.observed.add(Closed(self.life, stopped, *last))
        return stopped

    def close_for_good(self) -> None:
        """As the last thing of a life that ends well, with nothing running."""
        if self.library is not None and not self.close(PATIENCE):
            self.observed.add(Logged(self.life, "the library did not close, with nothing running in it"))

    def loses_its_library(self) -> None:
        """Without having closed it: from here on every command may be answered that it is gone."""
        self._has_closed = True

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

    def look_at_batch(self, batch_id: bytes) -> BatchRow | None:
        """What is on disk of a batch at this moment; LookupError if the library has been closed meanwhile."""
        return self._look_through().batch(batch_id)

    def stored(self) -> Stored:
        """Jobs and batches as they are on disk at this moment; LookupError if the library has been closed meanwhile."""
        return self._look_through().stored()

    def last_seen(self) -> Stored | None:
        """The same, of a process that has just died: what its open transaction did is not in it. None if the library was not open."""
        try:
            return None if self._looker is None else self._looker.stored()
        except LookupError:
            return None

    def _look_through(self) -> Looker:
        if self._looker is None:
            if self._lock is None:
                # One thread at a time: the reader actor's connection will do, and to open another takes longer than all that it is asked.
                readers = self._folder._readers
                if not readers:
                    raise LookupError("the library has been closed")
                folder: Any = self._folder
                self._looker = Looker(readers[0], look=lambda connection: folder.looks.look(connection, folder._writer))
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
        number = self.ask_to_submit(what) if isinstance(what, Submission) else self.observed.ask(self.life, command)
        try:
            handle = library.submit(what) if isinstance(what, Submission) else library.retry(what, **({keep: True} if keep else {}))
        except CallboardError as error:
            self.refused(number, error)
            return None
        self.submitted(number, handle.id, handle.duplicate, command)
        return handle

    def ask_to_submit(self, what: Submission) -> int:
        """Note that it is on its way."""
        item = item_of(what)
        assert item is not None
        takes = frozenset([(item.name, item.key)]) if item.key is not None and what.on_duplicate is not OnDuplicate.SKIP else frozenset()
        return self.observed.ask(self.life, "submit", data=item.data, takes=takes)

    def submitted(self, number: int, job: bytes, duplicate: bool, command: str = "submit") -> None:
        """Note the answer to a submission."""
        self._acked(number, job, "duplicate" if duplicate else command, None)
        if not duplicate:
            self.known.append(job)

    def refused(self, number: int, error: Exception) -> None:
        """Note an answer that is an error. One that nothing in a history can give a reason for is a defect."""
        clearly = (NotAllowed, BatchMismatch, NoSuchBatch, *((Busy,) if self.options else ()))
        expected = (*clearly, LibraryClosed, NoAnswer, *((StoreUnavailable, OutcomeUnknown) if self._has_closed else ()))
        if not isinstance(error, expected):
            self.observed.add(Logged(self.life, f"a command was answered with {error!r}"))
        self.observed.add(Refused(self.life, number, str(error), not isinstance(error, clearly), type(error).__name__))

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

    def submit_batch(self, sent: SentBatch) -> BatchOutcome | None:
        """Send a batch, for the first time or again; None if nothing of it was taken."""
        library = self.library
        if library is None:
            return None
        items = items_of(sent.items)
        takes = frozenset((item.name, item.key) for item in items if item is not None and item.key is not None)
        number = self.observed.ask(self.life, "submit_batch", takes=takes)
        last = None if sent.last is None else item_of(sent.last)
        self.observed.add(Sent(self.life, number, sent.batch_id, items, None if last is None else last.data, not sent.reads_on))
        try:
            outcome: BatchOutcome = library.ask(SubmitBatch(sent.submission())) if sent.by_message else library.submit_batch(sent.submission())
        except CallboardError as error:
            self.refused(number, error)
            return None
        try:
            rows, batch, seen = self.rows(), self.look_at_batch(sent.batch_id), True
        except LookupError:
            rows, batch, seen = {}, None, False
        why = None if outcome.error is None else repr(outcome.error)
        got = Got(self.life, number, sent.batch_id, tuple(outcome), outcome.counts, why, rows, batch, seen)
        self.observed.add(got)
        self.known.extend(job for job in new_jobs(got.items) if job not in self.known)
        return outcome

    def steer_batch(self, kind: str, batch_id: bytes) -> None:
        """Pause, resume or cancel a batch."""
        library = self.library
        if library is None:
            return
        try:
            rows, batch = self.rows(), self.look_at_batch(batch_id)
        except LookupError:
            return
        members = frozenset(job for job, row in rows.items() if batch is not None and batch.has(job) and not row.status.ended)
        number = self.observed.ask(self.life, kind, batch_id, members=members)
        handle = BatchHandle(library, batch_id)
        try:
            {"pause": handle.pause, "resume": handle.resume, "cancel": handle.cancel}[kind]()
        except CallboardError as error:
            self.refused(number, error)
            return
        self.observed.add(Steered(self.life, number))

    def wait_for_batch(self, batch_id: bytes, timeout: float) -> None:
        """Wait for the end of a batch, `timeout` seconds at most."""
        library = self.library
        if library is None:
            return
        try:
            states = dict(BatchHandle(library, batch_id).wait(timeout).states or {})
        except (NoAnswer, LibraryClosed, NoSuchBatch):
            return
        try:
            self.observed.add(Over(self.life, batch_id, states, self.look_at_batch(batch_id)))
        except LookupError:
            self.observed.add(Over(self.life, batch_id, states, None, seen=False))

    def wait(self, job: bytes, timeout: float) -> None:
        """Wait for the end of a job, `timeout` seconds at most."""
        library = self.library
        if library is None:
            return
        ends, result, by = frozenset((Status.COMPLETED, Status.COMPLETED_WITH_ERRORS)), None, None
        try:
            result = encode_result(JobHandle(library, job).wait(timeout=timeout))
        except JobFailed:
            ends = frozenset((Status.FAILED,))
        except JobCancelled as error:
            ends, by = frozenset((Status.CANCELLED,)), error.by if isinstance(error, Superseded) else None
        except (NoAnswer, LibraryClosed):
            return
        self.observed.add(Waited(self.life, job, ends, result, by))

    def _acked(self, number: int, job: bytes, command: str, status: Status | None) -> None:
        try:
            row = self.look(job)
        except LookupError:
            self.observed.add(Acked(self.life, number, job, command, status, None, seen=False))
        else:
            self.observed.add(Acked(self.life, number, job, command, status, row))
