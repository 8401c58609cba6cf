"""`ctx`, as `jobs/context.py` promises it: every wait and every look is a visit to the job actor's own inbox, and nothing else blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from callboard.actors.actor import send
from callboard.actors.children import Children
from callboard.actors.joblog import JobLog
from callboard.actors.mailbox import Asked, Inbox
from callboard.actors.mapping import MapRun
from callboard.actors.messages import Commit, Committed, Interrupt, Proceed, Ref, SuspectCleared, TaskAdvanced, TaskNoted, TasksEnded
from callboard.actors.notes import NoteFutures, warning
from callboard.actors.ports import Ports
from callboard.actors.reporting import Reports
from callboard.actors.signal import Pulse
from callboard.actors.stage import WHY, Stage, memory_mb
from callboard.actors.store import give
from callboard.actors.tasking import TaskDispatcher, Tasks
from callboard.jobs.children import ChildEnd, ChildIds, OnFailure
from callboard.jobs.context import Dispatcher, JobContext, Metrics, TaskHandle
from callboard.jobs.errors import BadArgument, DiskFull, Interrupted, StoreUnavailable, UnknownMessage
from callboard.jobs.job import Job
from callboard.jobs.submission import Submission
from callboard.jobs.task import Done, Failed, Task
from callboard.persistence.checkpoints import StoredCheckpoint, encode_head
from callboard.persistence.jobdata import SavedFields
from callboard.persistence.writes import Claimed, Fenced, Part, SaveCheckpoint, Warned

I = TypeVar("I")  # noqa: E741 - an item

WAIT_SECONDS = 1.0
"""A wait inside the context wakes this often at the latest, to see whether those it waits for are still there."""


class RunningContext(JobContext):
    """One run of one job. Belongs to the job actor's thread."""

    def __init__(
        self, ports: Ports, inbox: Inbox, me: Ref, stage: Stage, pulse: Pulse, claimed: Claimed, job: Job, checkpoint: StoredCheckpoint | None,
        as_stored: bool,
    ) -> None:  # fmt: skip
        self.ports, self.inbox, self.me, self.stage, self.pulse = ports, inbox, me, stage, pulse
        self.claimed, self.job, self.stored, self.services = claimed, job, checkpoint, stage.services
        self.attempt, self.resumed, self.requested_by = claimed.attempt, claimed.started_before, claimed.requested_by
        self.asked: Literal["pause", "cancel", "close", "disk"] | None = None  # to leave for
        self.raised: Interrupted | None = None
        """The last Interrupted that was raised here: one that the author raises himself is something else."""
        progress, warned = checkpoint.head() if checkpoint is not None else (None, 0)
        self.warned = self.saved_warned = max(claimed.warnings, warned)
        """Warnings so far, over all runs."""
        self._progress_before = progress or claimed.progress
        self.started = ports.monotonic()
        self.saved = self.sequence = checkpoint.sequence if checkpoint is not None else 0
        self.save_error: Exception | None = None
        self._fields = SavedFields(job, as_stored=as_stored)  # now, before the author changes any of them
        self._reports: Reports | None = None
        self._new_warnings: list[Warned] = []
        self._maps: dict[str, MapRun[Any]] = {}
        self._tasks: Tasks | None = None
        self._children: Children | None = None
        self.leaving = False
        """Its tasks were withdrawn since it is to leave: from here on there is no way back into `run`."""
        self._notes = NoteFutures()
        self._task_bytes = 0
        self._log: JobLog | None = None

    # --- what an author reads ---------------------------------------------------------------------------------------

    @property
    def job_id(self) -> bytes:
        return self.claimed.job_id

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:  # type: ignore[override]
        if self._log is None:
            self._log = JobLog(self.stage.log_folder, self.job_id, self.claimed.name, self.attempt, self.ports.wall)
        return self._log

    @property
    def tasks(self) -> Tasks:
        """Made when first asked for: few jobs have tasks, and the two know each other, which only the cyclic collector would undo."""
        if self._tasks is None:
            self._tasks = Tasks(self)
        return self._tasks

    @property
    def children(self) -> Children:
        """As `tasks`."""
        if self._children is None:
            self._children = Children(self)
        return self._children

    @property
    def awaits(self) -> bytes | None:
        """The batch of children for which the job leaves `run`."""
        return None if self._children is None else self._children.awaits

    def settle(self) -> None:
        """No task outlives its job: see `Tasks.settle`."""
        if self.asked is not None:
            self.leaving = True
        if self._tasks is not None:
            self._tasks.settle()

    @property
    def dispatcher(self) -> Dispatcher:  # type: ignore[override]
        return TaskDispatcher(self)

    @property
    def interrupted(self) -> bool:
        self.look()
        return self.asked is not None

    @property
    def task_bytes(self) -> int:
        self.look()
        return self._task_bytes

    @property
    def metrics(self) -> Metrics:
        ran = self.claimed.running_ms / 1000 + self.ports.monotonic() - self.started
        return Metrics(ran, self.claimed.waiting_ms / 1000, memory_mb())

    # --- looking and waiting ----------------------------------------------------------------------------------------

    def check_interrupt(self) -> None:
        self.pulse.looked_at = self.ports.monotonic()
        if self.inbox.urgent():
            self.look()
        if self.asked is not None:
            self.leave()

    def look(self) -> None:
        """Take whatever is in the inbox, without waiting."""
        self.ports.yield_point("job: look")
        self.pulse.looked_at = self.ports.monotonic()
        while (envelope := self.inbox.next_past_stop(0)) is not None:
            self._take(envelope.message)
        if self.inbox.stopping and self.asked is None:
            self.asked = "close"

    def wait(self, seconds: float | None = None) -> None:
        """Wait for something to arrive, at most so long, and take it. Returns at once if the job was just asked to leave."""
        asked = self.asked
        # A stop is a reason to leave, so it ends the wait; only one who is leaving already waits on behind it.
        take = self.inbox.next if asked is None else self.inbox.next_past_stop
        self.pulse.waiting = True
        try:
            envelope = take(WAIT_SECONDS if seconds is None else min(seconds, WAIT_SECONDS))
        finally:
            self.pulse.looked_at = self.ports.monotonic()  # first: who finds it no longer waiting must not find an old time
            self.pulse.waiting = False
        if envelope is not None:
            self._take(envelope.message)
        else:
            self._check_store()
        if self.asked is asked:
            self.look()

    def _check_store(self) -> None:
        """Nothing has come for a while: an answer that the store still owes will never come once it is dead."""
        if self.saving and not self.stage.store.is_alive():
            self.look()
            if self.saving:
                self._store_is_gone()

    def _store_is_gone(self) -> None:
        """Nothing more is saved; tasks that wait for a note of theirs must hear of it, or the job would wait for them for ever."""
        self.save_error = StoreUnavailable("the library's store has stopped; open the library again")
        self._notes.saved(0, self.save_error)

    def leave(self) -> None:
        """Raise the Interrupted that takes the job out of `run`."""
        self.raised = Interrupted(WHY[self.asked or "close"])
        raise self.raised

    def sleep(self, seconds: float) -> None:
        until = self.ports.monotonic() + seconds
        self.look()
        while self.asked is None and (left := until - self.ports.monotonic()) > 0:
            self.wait(left)
        if self.asked is not None:
            self.leave()

    def _take(self, message: object) -> None:
        match message:
            case TasksEnded():
                self.tasks.ended(message)
            case Committed():
                self._saved(message)
            case Interrupt() if message.job_id == self.job_id and (message.why != "disk" or self.job.job_resumable):
                if self.asked is None or message.why == "cancel" or (message.why == "close" and self.asked == "pause"):
                    self.asked = message.why
            case Proceed() if message.job_id == self.job_id:
                if self.asked == "pause" and not self.leaving:
                    self.asked = None
            case TaskNoted():
                self._note(message)
            case TaskAdvanced():
                self._task_bytes += message.amount
                reading = self._reports.reading if self._reports is not None else None
                if reading is not None and reading.bytes_done is not None:  # a long task moves the bar while the job waits for it
                    self.report_bytes(reading.bytes_done + message.amount, reading.bytes_total)
            case _ if self._children is not None and self._children.take(message):
                pass
            case Asked():
                give(message.reply_to, UnknownMessage(f"a job actor has no answer to {type(message.message).__name__}"))

    # --- saving -----------------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        self.look()
        if self.asked is not None:
            self.leave()
        self.await_saved(self.save())

    def save(self) -> int:
        """Send what changed to the store; answers the sequence number that `await_saved` takes."""
        return self._send_save(self.collect(), self.take_warnings())

    def _save_notes(self) -> None:
        """Only what tasks recorded: it comes at any time, also when the fields and the ledger do not fit each other yet."""
        self.sequence += 1
        parts: list[Part] = [self._head()]
        for run in self._maps.values():
            parts += run.changed_notes()
        self._send_save(tuple(parts), ())

    def _send_save(self, parts: tuple[Part, ...], warnings: tuple[Warned, ...]) -> int:
        write = SaveCheckpoint(self.job_id, self.claimed.claim, self.sequence, parts, warnings, self.claimed.crashes > 0)
        if not send(self.stage.store, Commit((write,), self.me, self.sequence)):
            self._store_is_gone()
        return self.sequence

    @property
    def saving(self) -> bool:
        return self.saved < self.sequence and self.save_error is None

    def await_saved(self, sequence: int) -> None:
        """Wait until this save is on disk. Raises the store's error if it could not be written."""
        while self.saved < sequence and self.save_error is None:
            self.wait()
        self.raise_save_error()

    def is_saved(self) -> None:
        """A checkpoint that went with a part of the children is on disk."""
        self.saved = self.sequence
        if self.claimed.alone:
            send(self.stage.library, SuspectCleared(self.job_id))
        self._notes_are_saved()

    def not_saved(self, warnings: tuple[Warned, ...]) -> None:
        """It is not: all is to be written again with the next one."""
        self.saved = self.sequence
        self._take_back(warnings)
        if self._notes:
            self._save_notes()

    def _take_back(self, warnings: tuple[Warned, ...]) -> None:
        self._new_warnings = [*warnings, *self._new_warnings]
        self._fields.forget()
        for run in self._maps.values():
            run.touch_all()

    def raise_save_error(self) -> None:
        """A save that nobody waited for may have failed."""
        if self.save_error is not None:
            error, self.save_error = self.save_error, None
            if isinstance(error, DiskFull) and self.job.job_resumable:  # it goes on when there is room
                self.asked = self.asked or "disk"
                self.leave()
            raise error

    def collect(self) -> tuple[Part, ...]:
        """The parts that changed since the last save, under a new sequence number."""
        fields = self._fields.changed()  # may raise, and then nothing is on its way
        self.sequence += 1
        self.saved_warned = self.warned
        parts: list[Part] = [self._head()]
        parts += [("field", name, 0, blob) for name, blob in fields]
        for run in self._maps.values():
            parts += run.changed_parts()
        return tuple(parts)

    def _head(self) -> Part:
        progress = self.progress_blob() or self._progress_before
        return "head", "", 0, encode_head(progress, self.saved_warned)

    def take_warnings(self) -> tuple[Warned, ...]:
        warnings, self._new_warnings = tuple(self._new_warnings), []
        return warnings

    @property
    def has_maps(self) -> bool:
        return bool(self._maps)

    def _saved(self, message: Committed) -> None:
        for write, stored in zip(message.writes, message.answers, strict=True):
            if not isinstance(write, SaveCheckpoint) or (write.job_id, write.claim) != (self.job_id, self.claimed.claim):
                continue  # what the actor's job before this one saved last, and did not wait for
            if isinstance(stored, Exception):
                self.save_error = stored
                self._take_back(write.warnings)
            elif isinstance(stored, Fenced):
                self.save_error, self.asked = StoreUnavailable("this job is held by another actor"), "close"
            else:
                self.saved = max(self.saved, write.sequence)
                if self.claimed.alone:
                    send(self.stage.library, SuspectCleared(self.job_id))
        self._notes_are_saved()

    def _notes_are_saved(self) -> None:
        self._notes.saved(self.saved, self.save_error)
        if self._notes and not self.saving:
            self._save_notes()

    def _note(self, message: TaskNoted) -> None:
        for run in self._maps.values():
            if run.note(message.number, message.value):
                break
        if message.future is not None:
            # The next save has it. One that is on its way was collected before, so another is sent when that one is back.
            self._notes.wait_for(self.sequence + 1, message.future)
            if not self.saving:
                self._save_notes()

    # --- progress and warnings --------------------------------------------------------------------------------------

    @property
    def reports(self) -> Reports:
        if self._reports is None:
            self._reports = Reports(self, self._progress_before)
        return self._reports

    def report_count(self, done: int, total: int | None = None) -> None:
        self.reports.count(done, total)

    def report_bytes(self, done: int, total: int | None = None) -> None:
        self.reports.size(done, total)

    def report_percentage(self, fraction: float) -> None:
        self.reports.percentage(fraction)

    def report_phase(self, name: str, **details: object) -> None:
        self.reports.phase(name, details)

    def tell_last(self) -> None:
        if self._reports is not None:
            self._reports.tell_last()

    def progress_blob(self) -> bytes | None:
        """The reading as it is stored; None if nothing was reported in this run."""
        return None if self._reports is None else self._reports.stored()

    def warn(self, message: str, item: object = None) -> None:
        self.warned += 1
        self._new_warnings.append(warning(self.warned, message, item))

    # --- tasks ------------------------------------------------------------------------------------------------------

    def as_completed(self, handles: Iterable[TaskHandle]) -> Iterator[TaskHandle]:
        return self.tasks.as_completed(handles)

    def map(
        self, make: Callable[[I], Task], items: Sequence[I] | Callable[[I | None], Iterable[I]], *, parallel: int | None = None,
        name: str | None = None, describe: Callable[[I], str] | None = None,
    ) -> Iterator[Done | Failed]:  # fmt: skip
        name = name or str(getattr(make, "__qualname__", type(make).__qualname__))
        if name in self._maps:
            raise BadArgument(f"this run has a map named {name!r} already; give this one another name=")
        if parallel is not None and (isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1):
            raise BadArgument(f"map: parallel={parallel!r:.60} is not a number from 1 on")
        run = self._maps[name] = MapRun(self, make, items, parallel, name, describe)
        return run

    # --- children ---------------------------------------------------------------------------------------------------

    def spawn_children(
        self, jobs: Iterable[Job | Submission], *, name: str = "children", detached: bool = False, max_running: int | None = None
    ) -> ChildIds:  # fmt: skip
        return self.children.spawn(jobs, name, detached, max_running)

    def wait_for_children(self, ids: Iterable[bytes] | None = None, *, on_failure: OnFailure = "raise") -> list[ChildEnd]:
        return self.children.wait(ids, on_failure)

    def children_completed(self, ids: Iterable[bytes] | None = None) -> Iterator[ChildEnd]:
        return self.children.ended(ids, stream=True)
