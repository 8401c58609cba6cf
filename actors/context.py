"""`ctx`, as `jobs/context.py` promises it: every wait and every look is a visit to the job actor's own inbox, and nothing else blocks."""

from __future__ import annotations

import logging
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from callboard.actors.actor import send
from callboard.actors.joblog import JobLog
from callboard.actors.mailbox import Asked, Inbox
from callboard.actors.mapping import MapRun
from callboard.actors.messages import (
    Commit,
    Committed,
    Interrupt,
    Offer,
    Proceed,
    Reading,
    Ref,
    SuspectCleared,
    TaskAdvanced,
    TaskCall,
    TaskNoted,
    TaskOrigin,
    TasksEnded,
    Withdraw,
)  # fmt: skip
from callboard.actors.ports import Ports
from callboard.actors.signal import Pulse, Signal
from callboard.actors.store import give
from callboard.jobs.context import Dispatcher, JobContext, Metrics, TaskHandle
from callboard.jobs.errors import (
    Interrupted,
    LibraryClosed,
    StoreUnavailable,
    TaskCancelled,
    TaskFailed,
    UnknownMessage,
    UsageError,
    error_text,
)
from callboard.jobs.job import Job
from callboard.jobs.progress import Progress, ProgressGauge
from callboard.jobs.task import Cancelled, Done, Failed, Task, TaskEnd, check_task_type
from callboard.persistence.checkpoints import StoredCheckpoint, encode_head
from callboard.persistence.codec import encode_value
from callboard.persistence.jobdata import SavedFields
from callboard.persistence.queries import progress_from
from callboard.persistence.writes import Claimed, Fenced, Part, SaveCheckpoint, Warned, WriteProgress

I = TypeVar("I")  # noqa: E741 - an item

WAIT_SECONDS = 1.0
"""A wait inside the context wakes this often at the latest, to see whether those it waits for are still there."""

WHY = {"pause": "asked to pause", "cancel": "asked to cancel", "close": "the library is closing"}


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a job runs: whom its actor talks to."""

    library: Ref
    store: Ref
    reader: Ref
    hub: Ref
    dispatcher: Ref
    stream: bytes
    services: Any
    log_folder: Path | None
    workers: int


class RunningContext(JobContext):
    """One run of one job. Belongs to the job actor's thread."""

    def __init__(
        self, ports: Ports, inbox: Inbox, me: Ref, stage: Stage, pulse: Pulse, claimed: Claimed, job: Job, checkpoint: StoredCheckpoint | None,
        as_stored: bool,
    ) -> None:  # fmt: skip
        self.ports, self.inbox, self.me, self.stage, self.pulse = ports, inbox, me, stage, pulse
        self.claimed = claimed
        self.attempt = claimed.attempt
        self.resumed = claimed.started_before
        self.requested_by = claimed.requested_by
        self.services = stage.services
        self.stored = checkpoint
        self.asked: Literal["pause", "cancel", "close"] | None = None
        """What the job is asked to leave for."""
        self.left_for_us = False
        """True once an Interrupted was raised here: what the author raises himself is something else."""
        progress, warned = checkpoint.head() if checkpoint is not None else (None, 0)
        self.warned = self.saved_warned = max(claimed.warnings, warned)
        """Warnings so far, over all runs."""
        self._progress_before = progress or claimed.progress
        self.started = ports.monotonic()
        self.saved = self.sequence = checkpoint.sequence if checkpoint is not None else 0
        self.save_error: Exception | None = None
        self._fields = SavedFields(job, as_stored=as_stored)  # now, before the author changes any of them
        self._gauge: ProgressGauge | None = None
        self._telling = False
        self._new_warnings: list[Warned] = []
        self._maps: dict[str, MapRun[Any]] = {}
        self._ends: dict[int, Callable[[int, TaskEnd], None]] = {}
        self._numbers = 0
        self._signal = Signal()
        self._leaving = False
        """Its tasks were withdrawn since it is to leave: from here on there is no way back into `run`."""
        self._note_futures: list[tuple[int, Any]] = []
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
        self.pulse.waiting = True
        try:
            envelope = self.inbox.next_past_stop(WAIT_SECONDS if seconds is None else min(seconds, WAIT_SECONDS))
        finally:
            self.pulse.waiting = False
            self.pulse.looked_at = self.ports.monotonic()
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
                self.save_error = StoreUnavailable("the library's store has stopped; open the library again")

    def leave(self) -> None:
        """Raise the Interrupted that takes the job out of `run`."""
        self.left_for_us = True
        raise Interrupted(WHY[self.asked or "close"])

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
                for number, end in message.ends:
                    take = self._ends.pop(number, None)
                    if take is not None:
                        take(number, end)
            case Committed():
                self._saved(message)
            case Interrupt() if message.job_id == self.job_id:
                if self.asked is None or message.why == "cancel" or (message.why == "close" and self.asked == "pause"):
                    self.asked = message.why
            case Proceed() if message.job_id == self.job_id:
                if self.asked == "pause" and not self._leaving:
                    self.asked = None
            case TaskNoted():
                self._note(message)
            case TaskAdvanced():
                self._task_bytes += message.amount
                reading = self._gauge.reading if self._gauge is not None else None
                if reading is not None and reading.bytes_done is not None:  # a long task moves the bar while the job waits for it
                    self.report_bytes(reading.bytes_done + message.amount, reading.bytes_total)
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
            self.save_error = StoreUnavailable("the library's store has stopped; open the library again")
        return self.sequence

    @property
    def saving(self) -> bool:
        """True while a save is on its way."""
        return self.saved < self.sequence and self.save_error is None

    def await_saved(self, sequence: int) -> None:
        """Wait until this save is on disk. Raises the store's error if it could not be written."""
        while self.saved < sequence and self.save_error is None:
            self.wait()
        self.raise_save_error()

    def raise_save_error(self) -> None:
        """A save that nobody waited for may have failed."""
        if self.save_error is not None:
            error, self.save_error = self.save_error, None
            raise error

    def collect(self) -> tuple[Part, ...]:
        """The parts that changed since the last save, under a new sequence number."""
        self.sequence += 1
        self.saved_warned = self.warned
        parts: list[Part] = [self._head()]
        parts += [("field", name, 0, blob) for name, blob in self._fields.changed()]
        for run in self._maps.values():
            parts += run.changed_parts()
        return tuple(parts)

    def _head(self) -> Part:
        progress = self.progress_blob() if self._gauge is not None else self._progress_before
        return "head", "", 0, encode_head(progress, self.saved_warned)

    def take_warnings(self) -> tuple[Warned, ...]:
        warnings, self._new_warnings = tuple(self._new_warnings), []
        return warnings

    @property
    def has_maps(self) -> bool:
        return bool(self._maps)

    def _saved(self, message: Committed) -> None:
        for write, stored in zip(message.writes, message.answers, strict=True):
            if not isinstance(write, SaveCheckpoint):
                continue
            if isinstance(stored, Exception):
                self.save_error = stored
                self._new_warnings = [*write.warnings, *self._new_warnings]
                self._fields.forget()
                for run in self._maps.values():
                    run.touch_all()
            elif isinstance(stored, Fenced):
                self.save_error, self.asked = StoreUnavailable("this job is held by another actor"), "close"
            else:
                self.saved = max(self.saved, write.sequence)
                if self.claimed.alone:
                    send(self.stage.library, SuspectCleared(self.job_id))
        waiting, self._note_futures = self._note_futures, []
        for sequence, future in waiting:
            if sequence <= self.saved:
                give(future, None)
            elif self.save_error is not None:
                give(future, self.save_error)
            else:
                self._note_futures.append((sequence, future))
        if self._note_futures and not self.saving:
            self._save_notes()

    def _note(self, message: TaskNoted) -> None:
        for run in self._maps.values():
            if run.note(message.number, message.value):
                break
        if message.future is not None:
            # The next save has it. One that is on its way was collected before, so another is sent when that one is back.
            self._note_futures.append((self.sequence + 1, message.future))
            if not self.saving:
                self._save_notes()

    # --- progress and warnings --------------------------------------------------------------------------------------

    @property
    def gauge(self) -> ProgressGauge:
        if self._gauge is None:
            self._gauge = ProgressGauge(progress_from(self._progress_before))
        return self._gauge

    def report_count(self, done: int, total: int | None = None) -> None:
        now = self.ports.monotonic()
        self.gauge.count(done, total, now)
        self._reported(now)

    def report_bytes(self, done: int, total: int | None = None) -> None:
        now = self.ports.monotonic()
        self.gauge.bytes(done, total, now)
        self._reported(now)

    def report_percentage(self, fraction: float) -> None:
        now = self.ports.monotonic()
        self.gauge.percent(fraction, now)
        self._reported(now)

    def report_phase(self, name: str, **details: object) -> None:
        if not isinstance(name, str) or not 1 <= len(name) <= 200:
            raise UsageError(f"report_phase: name={name!r:.60} is not text of 1 to 200 characters")
        encode_value([name, details])
        now = self.ports.monotonic()
        self.gauge.phase(name, details, now)
        self._reported(now)

    def warn(self, message: str, item: object = None) -> None:
        self.warned += 1
        shown = None if item is None else _shown(item)
        self._new_warnings.append((self.warned, shown, str(message)[:8192].encode("utf-8", "backslashreplace").decode()))

    def _reported(self, now: float) -> None:
        gauge = self.gauge
        if gauge.due_to_tell(now):
            self._tell(gauge.tell(now))
        elif gauge.untold and not self._telling:
            self._telling = True
            self.ports.call_later(gauge.seconds_until_tell(now), self._tell_later)
        if gauge.due_to_write(now):
            blob = self.progress_blob()
            if blob is not None:
                send(self.stage.store, Commit((WriteProgress(self.job_id, self.claimed.claim, blob),), self.stage.library))

    def _tell_later(self) -> None:
        """On the timer's thread, as the job may be computing: the reading is one immutable value."""
        self._telling = False
        if self._gauge is not None and self._gauge.untold:
            self._tell(self._gauge.tell(self.ports.monotonic()))

    def _tell(self, reading: Progress) -> None:
        send(self.stage.hub, Reading(self.stage.stream, self.job_id, self.claimed.name, reading))

    def progress_blob(self) -> bytes | None:
        """The reading as it is stored; None if nothing was reported in this run."""
        if self._gauge is None:
            return None
        reading = self._gauge.written(self.ports.monotonic())
        stored = {name: getattr(reading, name) for name in Progress.__dataclass_fields__ if name != "details"}
        stored["details"] = dict(reading.details) if isinstance(reading.details, MappingProxyType) else reading.details
        return encode_value({name: value for name, value in stored.items() if value is not None})

    def tell_last(self) -> None:
        """The last reading is always told."""
        if self._gauge is not None and self._gauge.untold:
            self._tell(self._gauge.tell(self.ports.monotonic()))

    # --- tasks ------------------------------------------------------------------------------------------------------

    def offer(self, tasks: Iterable[tuple[Task, Callable[[int, TaskEnd], None], dict[str, Any]]], origin: TaskOrigin) -> list[int]:
        """Send tasks to the workers; `take(number, end)` is called when one has ended. Answers their numbers."""
        calls: list[TaskCall] = []
        for task, take, more in list(tasks):  # as a list first: making a task may raise, and then none must be waited for
            self._numbers += 1
            self._ends[self._numbers] = take
            calls.append(TaskCall(origin, self._numbers, task, **more))
        if calls and not send(self.stage.dispatcher, Offer(tuple(calls))):
            for call in calls:
                del self._ends[call.number]
            raise LibraryClosed("the runtime has been closed; no task is run any more")
        return [call.number for call in calls]

    def origin(self, step: str, *, bulk: bool) -> TaskOrigin:
        return TaskOrigin(self.me, self.job_id, step, self.services, self._signal, bulk)

    def withdraw(self, number: int) -> None:
        self._signal.cancelled.add(number)
        send(self.stage.dispatcher, Withdraw(self.me, frozenset((number,))))

    def settle(self) -> None:
        """Take back the tasks that no worker has begun, and wait for the others: none outlives its job, no result that was made is lost."""
        if self.asked is not None:
            self._leaving = True
        if not self._ends:
            return
        self._signal.stop = True
        send(self.stage.dispatcher, Withdraw(self.me))
        while self._ends:
            self.wait()
        self._signal = Signal()

    def as_completed(self, handles: Iterable[TaskHandle]) -> Iterator[TaskHandle]:
        ended: deque[RunningTask] = deque()
        waiting = 0
        for handle in dict.fromkeys(handles):
            if not isinstance(handle, RunningTask):
                raise UsageError(f"as_completed takes handles of this job's tasks, not {type(handle).__name__}")
            waiting += 1
            if handle.end is not None:
                ended.append(handle)
            else:
                handle.listener = ended.append
        while waiting:
            self.look()
            if self.asked is not None:
                self.settle()
            if ended:
                handle = ended.popleft()
                waiting -= 1
                if self.asked is None or not isinstance(handle.end, Cancelled):
                    yield handle
            elif self.asked is not None:
                self.leave()
            else:
                self.wait()

    def map(
        self, make: Callable[[I], Task], items: Sequence[I] | Callable[[I | None], Iterable[I]], *, parallel: int | None = None,
        name: str | None = None, describe: Callable[[I], str] | None = None,
    ) -> Iterator[Done | Failed]:  # fmt: skip
        name = name or getattr(make, "__qualname__", type(make).__qualname__)
        if name in self._maps:
            raise UsageError(f"this run has a map named {name!r} already; give this one another name=")
        if parallel is not None and (isinstance(parallel, bool) or not isinstance(parallel, int) or parallel < 1):
            raise UsageError(f"map: parallel={parallel!r:.60} is not a number from 1 on")
        run = self._maps[name] = MapRun(self, make, items, parallel, name, describe)
        return run


class TaskDispatcher(Dispatcher):
    """`ctx.dispatcher`."""

    def __init__(self, ctx: RunningContext) -> None:
        self._ctx = ctx

    def dispatch(self, task: Task, *, step: str | None = None) -> TaskHandle:
        return self._send((task,), step, bulk=False)[0]

    def dispatch_many(self, tasks: Iterable[Task]) -> list[TaskHandle]:
        return self._send(tuple(tasks), None, bulk=True)

    def _send(self, tasks: tuple[Task, ...], step: str | None, *, bulk: bool) -> list[TaskHandle]:
        for kind in dict.fromkeys(map(type, tasks)):
            check_task_type(kind)
        handles = [RunningTask(self._ctx) for _ in tasks]
        more = {"step": step} if step is not None else {}
        origin = self._ctx.origin("", bulk=bulk)
        numbers = self._ctx.offer(((task, handle.take, more) for task, handle in zip(tasks, handles, strict=True)), origin)
        for handle, number in zip(handles, numbers, strict=True):
            handle.number = number
        return list(handles)


class RunningTask(TaskHandle):
    """A dispatched task, seen from its job."""

    __slots__ = ("_ctx", "end", "listener", "number")

    def __init__(self, ctx: RunningContext) -> None:
        self._ctx = ctx
        self.number = 0
        self.end: TaskEnd | None = None
        self.listener: Callable[[RunningTask], None] | None = None

    def take(self, number: int, end: TaskEnd) -> None:
        self.end = end
        if self.listener is not None:
            self.listener(self)

    def done(self) -> bool:
        self._ctx.look()
        return self.end is not None

    def result(self) -> object:
        self._ctx.look()
        while self.end is None and self._ctx.asked is None:
            self._ctx.wait()
        if self.end is None:
            self._ctx.settle()
        match self.end:
            case Done():
                return self.end.value
            case Failed():
                raise TaskFailed(self.end.error, traceback_text=self.end.traceback_text)
            case _:
                if self._ctx.asked is not None:
                    self._ctx.leave()
                raise TaskCancelled("the task was cancelled before it ended")

    def cancel(self) -> bool:
        if self.done():
            return False
        self._ctx.withdraw(self.number)
        return True


def memory_mb() -> float:
    """Most memory this process has had resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _shown(item: object) -> str:
    try:
        text = str(item)
    except Exception as error:  # noqa: BLE001 - the author's __str__ may raise
        text = error_text(error)
    return text[:1000].encode("utf-8", "backslashreplace").decode()
