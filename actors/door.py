"""A library, for plain threads: the same power as the messages, as methods. Every method that changes something returns after its commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pykka

from callboard.actors.actor import send
from callboard.actors.batch_handle import BatchHandle
from callboard.actors.batching import Sender, patiently, plan
from callboard.actors.handle import JobHandle
from callboard.actors.intake import of_token
from callboard.actors.messages import (
    BATCH_ROWS,
    CancelJob,
    FactsSince,
    PauseJob,
    QueryBatch,
    QueryBatches,
    QueryChildren,
    QueryChunks,
    QueryJob,
    QueryJobs,
    QueryStatistics,
    QueryWarnings,
    Ref,
    ResumeJob,
    RetryJob,
    Submit,
    Subscribe,
    Unsubscribe,
)  # fmt: skip
from callboard.actors.ports import Ports
from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_outcome import BatchOutcome, BatchPlan
from callboard.jobs.duplicates import Answer
from callboard.jobs.errors import BadArgument, LibraryClosed, NoAnswer, NotAllowed, shown
from callboard.jobs.events import Fact, FactsLost
from callboard.jobs.identity import ID_BYTES, id_text, uuid_bytes
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import BatchRecord, JobFilter, JobPage, JobRecord, Statistics, StoredChunk, Warned
from callboard.jobs.submission import Submission, Submitted
from callboard.persistence.backup import backup
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.jobdata import decode_result, job_by_name

if TYPE_CHECKING:
    from uuid import UUID

    from callboard.actors.runtime import Runtime

ASK_SECONDS = 60.0
"""How long a method waits for its answer before it raises `NoAnswer`."""


class Library:
    """An open library; made by `Runtime.open_library`. Thread-safe."""

    def __init__(
        self, runtime: Runtime, folder: LibraryFolder, ref: Ref, close: Callable[[float | None], bool], batch_rows: int = BATCH_ROWS
    ) -> None:
        self._runtime = runtime
        self._batch_rows = batch_rows
        self._folder = folder
        self._close = close
        self.ref = ref
        """An ordinary pykka ActorRef; `callboard.actors.messages` has what it takes."""
        self.path: Path = folder.path
        self.epoch = folder.epoch
        """How often the library has been opened, this time included."""

    def __repr__(self) -> str:
        return f"<Library {str(self.path)!r}>"

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ports(self) -> Ports:
        return self._runtime.ports

    def close(self, deadline: float | None = 10.0) -> bool:
        """Bring every running job to a checkpoint, or leave it as it was, within `deadline` seconds; then give up the lock.

        True if everything has stopped. False: user code still runs; its jobs are marked so that no crash is charged, and the lock is held
        until the last line of it has returned. Or the disk holds up a commit for longer than ten seconds: the lock is held until it is done.
        """
        return self._close(deadline)

    # --- submitting -------------------------------------------------------------------------------------------------

    def submit(self, submission: Submission | Job, *, block: float | None = None) -> JobHandle:
        """Queue a job; it is on disk when this returns. `block`: seconds to wait for room when the queue or the inbox is full.

        Raises `NotEncodable`, `BadSubmission`, `LibraryClosed`, `NotAccepted`, `Busy`, and `NotAllowed` if its key is taken and it is to
        be rejected then.
        """
        message = Submit(submission)
        answer: Submitted = patiently(self, block, lambda: self.ask(message))
        if answer.met is not None and answer.met.outcome is Answer.REJECTED:
            raise NotAllowed(f"the key of this submission is taken by job {id_text(answer.job_id)} ({answer.name}), and on_duplicate is REJECT")
        return JobHandle(self, answer.job_id, duplicate=answer.duplicate)

    def submit_batch(self, batch: BatchSubmission | Iterable[Submission | Job], *, block: float | None = None, **how: Any) -> BatchOutcome:
        """Queue many jobs, of a list or of a generator, which is read as it is needed; `how`: the fields of `BatchSubmission`.

        Up to `batch_rows` items (and 8 MiB) are one transaction, more go in parts of 2,500 at most, each whole; `whole=True`: one transaction in
        any case, during which other writes wait, a second or two for 100,000 items. It returns after the last commit. Memory is bounded at any
        length, save that of the outcome: some 200 bytes for a part whose items are all new.

        What stops it early (the generator raises, the disk or the queue is full, the library is closed) is the outcome's `error`, and the
        outcome says which items are stored; a part that the generator has only begun is not. If nothing is stored at all, it is raised
        instead. One item that is bad fails alone and stops nothing. `block`: seconds to wait for room in all.
        """
        return Sender(self, _batch(batch, how), self._batch_rows, block).send()

    def plan(self, batch: BatchSubmission | Iterable[Submission | Job], **how: Any) -> BatchPlan:
        """What would become of each item if the batch were submitted now; nothing is stored. All of it is in memory meanwhile."""
        return plan(self, _batch(batch, how))

    def submit_by_name(self, name: str, fields: Mapping[str, object], **how: Any) -> JobHandle:
        """Queue a job of a registered type from plain values; `how`: the fields of `Submission`. Raises `UnknownJobType`."""
        return self.submit(Submission(job_by_name(name, fields), **how))

    def retry(self, job_id: bytes, *, failed_only: bool = False, keep_done: bool = False) -> JobHandle:
        """A new job from an ended one, from its fields as submitted. The old record stays as it is; the new one has `retry_of`.

        `keep_done`: items of `ctx.map` that the old one has done, failed ones excepted, are not done again. `failed_only`: only those that
        failed are. Raises `NotAllowed` for a job that has not ended.
        """
        if failed_only and keep_done:
            raise BadArgument("retry: failed_only and keep_done exclude each other")
        answer: Submitted = self.ask(RetryJob(job_id, "failed" if failed_only else "rest" if keep_done else "none"))
        return JobHandle(self, answer.job_id, duplicate=answer.duplicate)

    # --- steering ---------------------------------------------------------------------------------------------------

    def job(self, job_id: bytes) -> JobHandle:
        """A handle of this job. Raises `NoSuchJob` if there is none."""
        self.record(job_id)
        return JobHandle(self, job_id)

    def pause(self, job_id: bytes) -> Status:
        """Answered when the intent is on disk; the status says whether it has stopped. `NoSuchJob`, `NotAllowed`."""
        status: Status = self.ask(PauseJob(job_id))
        return status

    def resume(self, job_id: bytes) -> Status:
        """Lift a user's pause, or the quarantine."""
        status: Status = self.ask(ResumeJob(job_id))
        return status

    def cancel(self, job_id: bytes) -> Status:
        """Cancel it, whatever it does; an ended job is refused with `NotAllowed`."""
        status: Status = self.ask(CancelJob(job_id))
        return status

    def batch(self, batch_id: bytes | UUID) -> BatchHandle:
        """A handle of this batch. Raises `NoSuchBatch` if there is none."""
        raw = _batch_id(batch_id)
        self.batch_record(raw)
        return BatchHandle(self, raw)

    # --- asking -----------------------------------------------------------------------------------------------------

    def record(self, job_id: bytes) -> JobRecord:
        """One job, live or ended. Raises `NoSuchJob`."""
        record: JobRecord = self.ask(QueryJob(job_id))
        return record

    def jobs(self, **which: Any) -> JobPage:
        """Live jobs in order of arrival; `which`: the fields of `JobFilter`; `batch` may be a UUID too."""
        page: JobPage = self.ask(QueryJobs(_filter(which)))
        return page

    def history(self, **which: Any) -> JobPage:
        """Ended jobs, the latest arrival first; `which`: as for `jobs`."""
        page: JobPage = self.ask(QueryJobs(_filter(which), ended=True))
        return page

    def batch_record(self, batch_id: bytes) -> BatchRecord:
        """One batch. Raises `NoSuchBatch`."""
        record: BatchRecord = self.ask(QueryBatch(batch_id))
        return record

    def batches(self, *, before: bytes | None = None, limit: int = 1000) -> tuple[BatchRecord, ...]:
        """Batches, the newest first; `before`: only those behind this one, the last of the page before."""
        found: tuple[BatchRecord, ...] = self.ask(QueryBatches(before, limit))
        return found

    def stored_parts(self, batch_id: bytes) -> tuple[StoredChunk, ...]:
        """The parts of a batch that are stored; none for one that is not known."""
        parts: tuple[StoredChunk, ...] = self.ask(QueryChunks(batch_id))
        return parts

    def warnings(self, job_id: bytes, *, after: int = 0, limit: int = 1000) -> tuple[Warned, ...]:
        """Non-critical errors of a job; the first 10,000 are kept."""
        warnings: tuple[Warned, ...] = self.ask(QueryWarnings(job_id, after, limit))
        return warnings

    def children(self, job_id: bytes) -> tuple[int, int]:
        """How many children a job has: (that live, that have ended). `jobs(parent=…)` and `history(parent=…)` list them."""
        counts: tuple[int, int] = self.ask(QueryChildren(job_id))
        return counts

    def statistics(self) -> Statistics:
        """Counts by status."""
        statistics: Statistics = self.ask(QueryStatistics())
        return statistics

    def result_of(self, record: JobRecord) -> object:
        """The result in a record; None if it has none."""
        return decode_result(record.result)

    def resolve(self, token: bytes) -> bool:
        """True if the submission that raised `OutcomeUnknown(token=…)`, or the item of a batch that is `unknown`, is stored after all."""
        if len(token) > ID_BYTES:
            batch_id, start = of_token(token)
            return any(part.start == start for part in self.stored_parts(batch_id))
        try:
            self.record(token)
        except LookupError:
            return False
        return True

    # --- listening --------------------------------------------------------------------------------------------------

    def subscribe(
        self, subscriber: Ref, *, job_id: bytes | None = None, name: str | None = None, progress: bool = True, lag: int = 10_000
    ) -> tuple[int, int]:
        """Have facts sent to an actor; see `Subscribe`. Answers (epoch, n) of the last fact before the first that it gets."""
        since: tuple[int, int] = self.ask(Subscribe(subscriber, job_id, name, progress, lag))
        return since

    def unsubscribe(self, subscriber: Ref) -> int:
        count: int = self.ask(Unsubscribe(subscriber))
        return count

    def facts_since(self, epoch: int, n: int, limit: int = 10_000) -> tuple[Fact | FactsLost, ...]:
        """The facts behind a number; the last 65,536 are kept."""
        facts: tuple[Fact | FactsLost, ...] = self.ask(FactsSince(epoch, n, limit))
        return facts

    # --- copying ----------------------------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str], *, replace: bool = False) -> Path:
        """A consistent copy of the library as a new library folder, while this one works on. Never copy jobs.db by other means."""
        connection = self._folder.reader()
        try:
            backup(connection, Path(path), replace=replace)
        finally:
            self._folder.release_reader(connection)
        return Path(path)

    # --- the way in -------------------------------------------------------------------------------------------------

    def ask(self, message: object, timeout: float = ASK_SECONDS) -> Any:
        """Send a message of `callboard.actors.messages` and wait for its answer; raises what it is refused with, `NoAnswer`, `LibraryClosed`."""
        self._folder.check_owner()
        try:
            return self.ref.ask(message, timeout=timeout)
        except pykka.Timeout:
            raise NoAnswer(f"{type(message).__name__}: no answer within {timeout:g} s; it may still be carried out") from None
        except pykka.ActorDeadError:
            raise LibraryClosed(f"the library {str(self.path)!r} has been closed; open it again") from None

    def tell(self, message: object) -> None:
        """Send a message without an answer. Raises `LibraryClosed`."""
        self._folder.check_owner()
        if not send(self.ref, message):
            raise LibraryClosed(f"the library {str(self.path)!r} has been closed; open it again")


def _batch(batch: BatchSubmission | Iterable[Submission | Job], how: dict[str, Any]) -> BatchSubmission:
    if not isinstance(batch, BatchSubmission):
        return BatchSubmission(batch, **how)
    if how:
        raise BadArgument(f"submit_batch: {', '.join(how)} belongs into the BatchSubmission that was given")
    return batch


def _filter(which: dict[str, Any]) -> JobFilter:
    raw = uuid_bytes(which.get("batch"))
    return JobFilter(**which if raw is None else {**which, "batch": raw})


def _batch_id(batch_id: object) -> bytes:
    raw = uuid_bytes(batch_id)
    if raw is None:
        raise BadArgument(f"batch_id={shown(batch_id)} is not a UUID or its {ID_BYTES} bytes")
    return raw
