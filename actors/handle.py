"""What a caller holds of a job: wait for it, steer it, watch it. For threads and for asyncio; actors use messages."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from callboard.actors.messages import CancelJob, PauseJob, ResumeJob, Unsubscribe, WatchEnd, WatchStop
from callboard.actors.postbox import Postbox
from callboard.jobs.errors import JobCancelled as JobCancelledError
from callboard.jobs.errors import JobFailed as JobFailedError
from callboard.jobs.errors import LibraryClosed, NoAnswer, Superseded, WouldDeadlock
from callboard.jobs.events import ENDS, Fact, JobCancelled, JobCompleted, JobFailed, ProgressMade
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
        self._ended: Any = None
        """A future that is set when the job has ended; one for all who wait through this handle."""
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
        """The result. Raises `JobFailed`, `JobCancelled` (`Superseded` if another job took its place), `LibraryClosed`,
        and `NoAnswer` after `timeout` seconds (None: waits for ever).

        Inside a job's `run` it raises `WouldDeadlock`: the job would keep its turn from the one that it waits for.
        """
        self._check_thread("wait()")
        return outcome(self.id, self._outcome_of(self._watch(), timeout))

    def pause(self, *, wait: bool = False, timeout: float | None = 60.0) -> Status:
        """Pause it; answered when the intent is on disk. `wait`: return when it has stopped, or raise `NoAnswer` after `timeout` seconds."""
        return self._command(PauseJob(self.id), wait, timeout)

    def resume(self) -> Status:
        """Lift a user's pause, or the quarantine."""
        return self._command(ResumeJob(self.id), False, None)

    def cancel(self, *, wait: bool = False, timeout: float | None = 60.0) -> Status:
        """Cancel it; as `pause`. `wait`: until its children have ended too, whoever they are."""
        monotonic = self._library.ports.monotonic
        until = None if timeout is None else monotonic() + timeout
        status = self._command(CancelJob(self.id), wait, timeout)
        if wait and status is Status.ENDING:
            self._watch_anew().get(timeout=None if until is None else max(0.0, until - monotonic()))
            status = self.status
        return status

    def retry(self, *, failed_only: bool = False, keep_done: bool = False) -> JobHandle:
        """A new job from this ended one; see `Library.retry`."""
        return self._library.retry(self.id, failed_only=failed_only, keep_done=keep_done)

    def updates(self, *, timeout: float | None = None) -> Iterator[Status | Progress]:
        """Its status now and at each change, its progress as it is made; ends with the end.

        Raises `NoAnswer` when nothing has changed for `timeout` seconds (None: waits for ever), `LibraryClosed`, `WouldDeadlock` as `wait`.
        """
        self._check_thread("updates()")
        box, monotonic = Postbox(self._library.ports), self._library.ports.monotonic
        self._library.subscribe(box, job_id=self.id)  # type: ignore[arg-type]
        try:
            record = self.record()
            status = record.status
            yield status
            if record.progress is not None:
                yield record.progress
            quiet_since = monotonic()
            while not status.ended:
                left = LOOK_SECONDS if timeout is None else quiet_since + timeout - monotonic()
                message = box.take(max(0.0, min(left, LOOK_SECONDS)))
                if isinstance(message, ProgressMade):
                    yield message.progress
                    quiet_since = monotonic()
                    continue
                now = self.status
                if now is not status:
                    status = now
                    yield status
                    quiet_since = monotonic()
                elif timeout is not None and message is None and monotonic() - quiet_since >= timeout:
                    raise NoAnswer(f"job {self.id_text}: nothing has changed for {timeout:g} s, it is {status}")
        finally:
            box.close()
            with suppress(LibraryClosed):
                self._library.tell(Unsubscribe(box))  # type: ignore[arg-type]

    def __await__(self) -> Generator[Any, None, Any]:
        """The result, without blocking the event loop."""
        return self._await().__await__()

    async def _await(self) -> Any:
        self._check_thread("await")
        watched = self._watch()
        await settled(watched)
        return outcome(self.id, self._outcome_of(watched, 0))

    def _check_thread(self, what: str) -> None:
        if self._library.ports.in_run():
            raise WouldDeadlock(
                f"{what} on job {self.id_text} inside a job's run would keep this job's turn from it; queue it with ctx.spawn_children and use"
                " ctx.wait_for_children"
            )

    def _watch(self) -> Any:
        if self._ended is None:
            self._ended = self._watch_anew()
        return self._ended

    def _watch_anew(self) -> Any:
        future = self._library.ports.future()
        self._library.tell(WatchEnd(self.id, future))
        return future

    def _outcome_of(self, watched: Any, timeout: float | None) -> Any:
        try:
            return watched.get(timeout=timeout)
        except NoAnswer:
            raise
        except Exception:
            self._ended = None  # the library was closed, or could not be read: who asks again is to get an answer of his own
            raise

    def _command(self, message: PauseJob | ResumeJob | CancelJob, wait: bool, timeout: float | None) -> Status:
        status: Status = self._library.ask(message)
        if wait and status.claimed:
            stopped = self._library.ports.future()
            self._library.tell(WatchStop(self.id, stopped))
            stopped.get(timeout=timeout)
            status = self.status
        return status


async def settled(watched: Any) -> None:
    """Wait until one of our futures is set, without blocking the event loop."""
    import asyncio  # here, as most hosts do without it and it takes longer to import than all of callboard

    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[Any] = loop.create_future()

    def deliver(_: object) -> None:
        def settle() -> None:
            if not arrived.done():
                arrived.set_result(None)

        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            return

    watched.add_done_callback(deliver)
    await arrived


def outcome(job_id: bytes, end: Fact | JobRecord) -> Any:
    """The result that an end stands for, or its error raised. `end`: a terminal fact, or the record of an ended job."""
    if isinstance(end, JobRecord):
        if end.status is Status.CANCELLED:
            raise _cancelled(job_id, end.name, end.superseded_by)
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
    raise _cancelled(job_id, end.name, end.superseded_by)


def _cancelled(job_id: bytes, name: str, by: bytes | None) -> JobCancelledError:
    if by is None:
        return JobCancelledError(f"job {id_text(job_id)} ({name}) was cancelled", job_id=job_id)
    return Superseded(f"job {id_text(job_id)} ({name}) was superseded by job {id_text(by)}; wait for that one", job_id=job_id, by=by)
