"""What a caller holds of a job: wait for it, steer it, watch it. For threads and for asyncio; actors use messages."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from callboard.actors.messages import CancelJob, PauseJob, ResumeJob, WatchEnd, WatchStop
from callboard.actors.postbox import Postbox
from callboard.jobs.errors import JobCancelled as JobCancelledError
from callboard.jobs.errors import JobFailed as JobFailedError
from callboard.jobs.events import ENDS, Fact, FactsLost, JobCancelled, JobCompleted, JobFailed, ProgressMade
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobRecord
from callboard.persistence.jobdata import decode_result

if TYPE_CHECKING:
    from callboard.actors.door import Library

LOOK_SECONDS = 5.0
"""`updates()` looks at the record this often when nothing is told, so that a lost fact cannot leave it waiting."""


class JobHandle:
    """One job. Thread-safe; cheap to make and to drop."""

    def __init__(self, library: Library, job_id: bytes, *, duplicate: bool = False) -> None:
        self._library = library
        self.id = job_id
        """16 bytes."""
        self.duplicate = duplicate
        """True if the submission was answered with a live job of the same key."""

    def __repr__(self) -> str:
        return f"<JobHandle {self.id_text}>"

    @property
    def id_text(self) -> str:
        """The id as people write it."""
        return id_text(self.id)

    def record(self) -> JobRecord:
        """All the library knows of it. Raises `NoSuchJob`."""
        return self._library.record(self.id)

    @property
    def status(self) -> Status:
        return self.record().status

    def progress(self) -> Progress | None:
        """The last reading written; `updates()` has them as they are made."""
        return self.record().progress

    def wait(self, timeout: float | None = None) -> Any:
        """The result. Raises `JobFailed`, `JobCancelled`, and `NoAnswer` after `timeout` seconds (None: waits for ever)."""
        return outcome(self.id, self._watch().get(timeout=timeout))

    def pause(self, *, wait: bool = False, timeout: float | None = 60.0) -> Status:
        """Pause it; answered when the intent is on disk. `wait`: return when it has stopped, or raise `NoAnswer` after `timeout` seconds."""
        return self._command(PauseJob(self.id), wait, timeout)

    def resume(self) -> Status:
        """Lift a user's pause, or the quarantine."""
        return self._command(ResumeJob(self.id), False, None)

    def cancel(self, *, wait: bool = False, timeout: float | None = 60.0) -> Status:
        """Cancel it; as `pause`."""
        return self._command(CancelJob(self.id), wait, timeout)

    def retry(self, *, failed_only: bool = False, keep_done: bool = False) -> JobHandle:
        """A new job from this ended one; see `Library.retry`."""
        return self._library.retry(self.id, failed_only=failed_only, keep_done=keep_done)

    def updates(self, *, timeout: float | None = None) -> Iterator[Status | Progress]:
        """Its status now and at each change, its progress as it is made; ends with the end. `timeout`: seconds to the next update at most."""
        box = Postbox(self._library.ports)
        self._library.subscribe(box, job_id=self.id)  # type: ignore[arg-type]
        try:
            record = self.record()
            status = record.status
            yield status
            if record.progress is not None:
                yield record.progress
            while not status.ended:
                message = box.take(LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS))
                if isinstance(message, ProgressMade):
                    yield message.progress
                elif isinstance(message, (Fact, FactsLost)) or message is None:
                    now = self.status
                    if now is not status:
                        status = now
                        yield status
        finally:
            box.close()

    def __await__(self) -> Generator[Any, None, Any]:
        """The result, without blocking the event loop."""
        return self._await().__await__()

    async def _await(self) -> Any:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Any] = loop.create_future()
        watched = self._watch()

        def deliver(_: object) -> None:
            def settle() -> None:
                if not arrived.done():
                    arrived.set_result(None)

            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:  # the loop was closed while the job ran: nobody waits any more
                return

        watched.add_done_callback(deliver)
        await arrived
        return outcome(self.id, watched.get(timeout=0))

    def _watch(self) -> Any:
        future = self._library.ports.future()
        self._library.tell(WatchEnd(self.id, future))
        return future

    def _command(self, message: PauseJob | ResumeJob | CancelJob, wait: bool, timeout: float | None) -> Status:
        status: Status = self._library.ask(message)
        if wait and status.claimed:
            stopped = self._library.ports.future()
            self._library.tell(WatchStop(self.id, stopped))
            stopped.get(timeout=timeout)
            status = self.status
        return status


def outcome(job_id: bytes, end: Fact | JobRecord) -> Any:
    """The result that an end stands for, or its error raised. `end`: a terminal fact, or the record of an ended job."""
    if isinstance(end, JobRecord):
        if end.status is Status.CANCELLED:
            raise JobCancelledError(f"job {id_text(job_id)} ({end.name}) was cancelled", job_id=job_id)
        if end.status is Status.FAILED:
            text = f"job {id_text(job_id)} ({end.name}) failed: {end.error}"
            raise JobFailedError(text, job_id=job_id, traceback_text=end.traceback_text or "")
        return decode_result(end.result)
    if isinstance(end, JobCompleted):
        return decode_result(end.result)
    if isinstance(end, JobFailed):
        text = f"job {id_text(job_id)} ({end.name}) failed: {end.error}"
        raise JobFailedError(text, job_id=job_id, traceback_text=end.traceback_text)
    assert isinstance(end, JobCancelled) and JobCancelled in ENDS
    raise JobCancelledError(f"job {id_text(job_id)} ({end.name}) was cancelled", job_id=job_id)
