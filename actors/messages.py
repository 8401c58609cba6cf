"""The whole protocol, grouped by who receives it. Commands are imperative and go down, facts are past tense and come up.

Messages are frozen and hold immutable values only: pykka hands them over without a copy. The first part is public: any pykka actor may send
these to `library.ref`. An `ask` is answered after the commit that makes the answer true. With a `tell`, `reply_to` gets an `Answered`,
and after a Submit every fact of that job, in its own mailbox.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import pykka

from callboard.actors.mailbox import Control
from callboard.actors.signal import Signal
from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_items import ChunkOutcome
from callboard.jobs.children import ChildIds
from callboard.jobs.errors import BadSubmission, shown
from callboard.jobs.factlog import RawFact
from callboard.jobs.job import Job
from callboard.jobs.progress import Progress
from callboard.jobs.queue import Hand
from callboard.jobs.record import JobFilter
from callboard.jobs.submission import Submission
from callboard.jobs.task import Task, TaskEnd
from callboard.jobs.value import Value
from callboard.persistence.aftermath import Aftermath
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checkpoints import StoredCheckpoint
from callboard.persistence.families import Family, HeldParent
from callboard.persistence.jobdata import new_job
from callboard.persistence.queries import EndedChild
from callboard.persistence.writes import Answer, Chunk, Claimed, Insert, SpawnAgain, SpawnChildren, Write

Ref = pykka.ActorRef[Any]


class Replies(Protocol):
    """What an answer is given to: a future of either kind."""

    def set(self, value: Any = None, /) -> object: ...


# --- to the library, from anyone ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Submit(Value):
    """Queue a job. Answer: `Submitted`. The job is encoded here and now, on the sender's thread; raises what a bad job raises."""

    submission: Submission | Job
    """What to queue; a bare job is queued with the defaults."""
    reply_to: Ref | None = None
    """Gets the `Answered`, then the facts of this job, up to its end."""
    insert: Insert = field(init=False, repr=False, compare=False)
    """The row to be written."""

    def __post_init__(self) -> None:
        if not isinstance(self.submission, (Submission, Job)):
            raise BadSubmission(f"Submit takes a Submission or a Job, not {type(self.submission).__name__}")
        object.__setattr__(self, "insert", new_job(self.submission))


BATCH_ROWS = 10_000
"""A batch of so many items at most is one transaction."""

CHUNK_ROWS = 2_500
"""So many items of a larger one are, at most: others wait for one part, not for the batch."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SubmitBatch(Value):
    """Queue many jobs. Answer: `BatchOutcome`, after its last commit. They are encoded here and now, on the sender's thread; one that is bad
    fails alone. Batches of one `reply_to` are stored in the order in which they were sent, one after another. For a generator, or more than fit
    in memory: `Library.submit_batch`.
    """

    batch: BatchSubmission | tuple[Submission | Job, ...]
    """What to queue; a BatchSubmission that has a tuple or a list."""
    reply_to: Ref | None = None
    """Gets the `Answered`. Not the facts of the jobs: `Subscribe` for these."""
    batch_id: bytes | None = field(init=False, repr=False, compare=False)
    """None: the library gives one."""
    requested_by: str | None = field(init=False, repr=False, compare=False)
    """Who asks for the batch."""
    chunks: tuple[Chunk, ...] = field(init=False, repr=False, compare=False)
    """What is to be written."""
    on_complete: Insert | None = field(init=False, repr=False, compare=False)
    """The job for the end of the batch, encoded."""

    def __post_init__(self) -> None:
        batch = encodable(self.batch, "SubmitBatch")
        object.__setattr__(self, "batch_id", batch.batch_id)
        object.__setattr__(self, "requested_by", batch.requested_by)
        object.__setattr__(self, "chunks", encoded(batch))
        object.__setattr__(self, "on_complete", None if batch.on_complete is None else new_job(batch.on_complete))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PlanBatch(Value):
    """What would become of a batch if it were submitted now. Answer: `BatchPlan`. Nothing is stored."""

    batch: BatchSubmission | tuple[Submission | Job, ...]
    """As for `SubmitBatch`."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""
    batch_id: bytes | None = field(init=False, repr=False, compare=False)
    """For the answer."""
    chunk: Chunk | None = field(init=False, repr=False, compare=False)
    """What would be written."""

    def __post_init__(self) -> None:
        batch = encodable(self.batch, "PlanBatch")
        object.__setattr__(self, "batch_id", batch.batch_id)
        object.__setattr__(self, "chunk", BatchEncoder(batch, batch.batch_id or b"").chunk(iter(batch.submissions), None, None))


def encodable(batch: object, who: str) -> BatchSubmission:
    """A batch whose items are all there. Raises `BadSubmission`."""
    made = batch if isinstance(batch, BatchSubmission) else BatchSubmission(batch)  # type: ignore[arg-type]
    if not isinstance(made.submissions, (tuple, list)):
        raise BadSubmission(f"{who} takes a tuple of jobs and submissions, not {shown(made.submissions)}; Library.submit_batch takes a generator")
    return made


def encoded(batch: BatchSubmission) -> tuple[Chunk, ...]:
    """A batch whose items are all there, in chunks."""
    encoder, items = BatchEncoder(batch, batch.batch_id or b""), iter(batch.submissions)
    if batch.whole:
        whole = encoder.chunk(items, None, None)
        return () if whole is None else (whole,)
    most = CHUNK_ROWS if len(batch.submissions) > BATCH_ROWS else BATCH_ROWS  # type: ignore[arg-type]
    chunks: list[Chunk] = []
    while (chunk := encoder.chunk(items, most)) is not None:
        chunks.append(chunk)
    return tuple(chunks)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PauseBatch(Value):
    """Pause every job of a batch that has not ended. Answer: how many have another status now, once all intents are on disk."""

    batch_id: bytes
    """Which batch."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ResumeBatch(Value):
    """Lift a user's pause from every job of a batch. Answer: how many have another status now."""

    batch_id: bytes
    """Which batch."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CancelBatch(Value):
    """Cancel every job of a batch that has not ended. Answer: how many have another status now."""

    batch_id: bytes
    """Which batch."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PauseJob(Value):
    """Pause a job. Answer: the `Status` it then has, once the intent is committed; `JobPaused` tells when it has stopped."""

    job_id: bytes
    """Which job."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ResumeJob(Value):
    """Lift a user's pause, or the quarantine. Answer: the `Status` it then has."""

    job_id: bytes
    """Which job."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CancelJob(Value):
    """Cancel a job. Answer: the `Status` it then has; `JobCancelled` tells when it has stopped."""

    job_id: bytes
    """Which job."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RetryJob(Value):
    """Make a new job from an ended one. Answer: `Submitted`. The old one's record stays as it is."""

    job_id: bytes
    """Which ended job."""
    ledger: Literal["none", "rest", "failed"] = "none"
    """What the new one skips: nothing; what the old one has done; everything but the items that failed."""
    reply_to: Ref | None = None
    """Gets the `Answered`, then the facts of the new job."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryJobs(Value):
    """List jobs. Answer: `JobPage`."""

    filter: JobFilter = field(default_factory=JobFilter)
    """Which ones."""
    ended: bool = False
    """True: the history instead of the live jobs."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryJob(Value):
    """One job, live or ended. Answer: `JobRecord`."""

    job_id: bytes
    """Which job."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryBatch(Value):
    """One batch. Answer: `BatchRecord`."""

    batch_id: bytes
    """Which batch."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryBatches(Value):
    """List batches, the newest first. Answer: tuple of `BatchRecord`."""

    before: bytes | None = None
    """Only those behind this one in the list."""
    limit: int = 1000
    """At most this many."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryWarnings(Value):
    """The non-critical errors of a job. Answer: tuple of `Warned`."""

    job_id: bytes
    """Which job."""
    after: int = 0
    """Only those with a higher number."""
    limit: int = 1000
    """At most this many."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryChildren(Value):
    """How many children a job has. Answer: (that live, that have ended); (0, 0) also for a job that does not exist."""

    job_id: bytes
    """Whose."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QueryStatistics(Value):
    """Counts by status. Answer: `Statistics`."""

    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Subscribe(Value):
    """Have facts sent to `subscriber`. Answer: (epoch, n) of the last fact before the first that it will get."""

    subscriber: Ref
    """Any pykka actor; it gets `Fact`s, `ProgressMade`, `FactsLost` and `LibraryDegraded`."""
    job_id: bytes | None = None
    """Only this job; None: see `name`."""
    name: str | None = None
    """Only jobs of this type; None: all."""
    progress: bool = True
    """Also readings."""
    lag: int = 10_000
    """How many messages may wait in its mailbox; beyond that it gets one `FactsLost` for what it missed."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unsubscribe(Value):
    """End every subscription of `subscriber`. Answer: how many there were."""

    subscriber: Ref
    """Who."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FactsSince(Value):
    """The facts behind a number. Answer: tuple of `Fact`, oldest first; a `FactsLost` in front if some are no longer kept."""

    epoch: int
    """The epoch of the last fact that is known."""
    n: int
    """Its number."""
    limit: int = 10_000
    """At most this many."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ping(Value):
    """Answer: True, when everything sent before has been taken."""

    reply_to: Ref | None = None
    """Gets the `Answered`."""


Command = (
    Submit | SubmitBatch | PlanBatch | PauseJob | ResumeJob | CancelJob | RetryJob | PauseBatch | ResumeBatch | CancelBatch | QueryJobs | QueryJob
    | QueryBatch | QueryBatches | QueryWarnings | QueryChildren | QueryStatistics | Subscribe | Unsubscribe | FactsSince | Ping
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answered(Value):
    """To `reply_to`: how a command that was told, not asked, came out."""

    request: object
    """The very message that is answered."""
    value: Any = None
    """What an ask would have returned."""
    error: Exception | None = None
    """What an ask would have raised; None if it went well."""


# --- to the library, from its own -----------------------------------------------------------------------------------


class AddChunk(NamedTuple):
    """Store a part of a batch; set `future` with its `ChunkStored`, or with what it was refused with. For `Library.submit_batch`."""

    chunk: Chunk
    """Which part."""
    future: Replies
    """Set after the commit."""
    requested_by: str | None = None
    """Who asked for the batch."""
    on_complete: Insert | None = None
    """The job that is queued when the last one of the batch has ended."""


class StopBatch(NamedTuple):
    """No further chunk of this batch will come, though its last one has not been sent: tell what is stored of it."""

    batch_id: bytes
    """Which."""


class PlanChunk(NamedTuple):
    """Answer: the `ChunkOutcome` that this part of a batch would have now."""

    chunk: Chunk
    """Which part."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


class QueryChunks(NamedTuple):
    """The parts of a batch that are stored. Answer: tuple of `StoredChunk`, none for a batch that is not known."""

    batch_id: bytes
    """Which batch."""
    reply_to: Ref | None = None
    """Gets the `Answered`."""


class AwaitRoom(NamedTuple):
    """Set `future` when a job has ended, so that there may be room for another."""

    future: Replies
    """Set with None."""
    in_inbox: bool = False
    """True: it is the inbox that was full; set as soon as this is taken out of it."""


class WatchBatch(NamedTuple):
    """Set `future` when the last job of a batch has ended."""

    batch_id: bytes
    """Which batch."""
    future: Replies
    """Set with None."""


class WatchEnd(NamedTuple):
    """Set `future` when the job has ended."""

    job_id: bytes
    """Which job."""
    future: Replies
    """Set with the terminal fact, or with a `JobRecord` if it had ended before."""


class WatchStop(NamedTuple):
    """Set `future` when no code of the job runs any more: it is paused, ended, quarantined, or queued again."""

    job_id: bytes
    """Which job."""
    future: Replies
    """Set with None."""


class HandDone(NamedTuple):
    """A job actor has nothing left to run."""

    actor: Ref
    """Which."""
    ran: tuple[tuple[str, int, float], ...]
    """(job name, how many, seconds in all)."""


class SuspectCleared(NamedTuple):
    """A job that runs alone has a checkpoint behind it; others may run again."""

    job_id: bytes
    """Which."""


class SpawnPart(NamedTuple):
    """A job actor has children to be queued. It gets the `PartSpawned`."""

    write: SpawnChildren | SpawnAgain
    """What is to be written."""
    reply_to: Ref
    """The job actor."""


class WatchChildren(NamedTuple):
    """Tell a job actor when some of these have ended, until its job has left it; and run them, whatever else is run."""

    actor: Ref
    """Gets `ChildrenEnded`."""
    job_id: bytes
    """The parent."""
    ids: ChildIds
    """The children."""


class StopChildren(NamedTuple):
    """Cancel these children, those that have not ended."""

    job_id: bytes
    """The parent."""
    ids: tuple[bytes, ...]
    """The children."""


class StepAside(NamedTuple):
    """A job is to wait for its children: its actor gets the `SteppedAside`."""

    actor: Ref
    """The job actor."""
    job_id: bytes
    """The parent."""
    must_stay: bool
    """It cannot be run again."""


class ComeBack(NamedTuple):
    """The children have ended; the actor gets a `SlotForParent` as soon as there is a slot."""

    actor: Ref
    """The job actor."""
    job_id: bytes
    """The parent."""


@dataclass(frozen=True, slots=True, eq=False)
class ReviewHands:
    """A timer: take back what was dealt in a chunk and has not begun."""


@dataclass(frozen=True, slots=True, eq=False)
class LookAround:
    """A timer: which running jobs have not looked at their context for long?"""


@dataclass(frozen=True, slots=True, eq=False)
class TimeHasCome:
    """A timer: the next job that waits for its time is due."""


class Again(NamedTuple):
    """A timer: an end that could not be stored is to be written again."""

    write: Write
    """The end."""


@dataclass(frozen=True, slots=True, eq=False)
class TypesChanged:
    """A job class was registered; what was passed over may be known now."""


class SlotsGranted(NamedTuple):
    """Leave to run so many more jobs at once."""

    slots: int
    """How many."""
    alone: bool
    """True: for one suspect, with nobody else running."""


@dataclass(frozen=True, slots=True, eq=False)
class RecallSlots:
    """Give back the slots not in use, and the others as jobs end."""


@dataclass(frozen=True, slots=True, eq=False)
class BeginClose(Control):
    """Start no more; ask every running job to leave. `future` is set when none runs."""

    future: Replies
    """Set with the number of jobs that still run: 0."""


@dataclass(frozen=True, slots=True, eq=False)
class ExcuseRunning(Control):
    """The deadline has passed: mark what still runs, so that it is not charged with a crash."""

    future: Replies
    """Set with how many were marked."""


# --- to the store ---------------------------------------------------------------------------------------------------


class Commit(NamedTuple):
    """Write these. After the commit `report_to` gets `Committed`, then each reply its answer."""

    writes: tuple[Write, ...]
    """In order."""
    report_to: Ref
    """Who is told first."""
    ticket: int = 0
    """Comes back in `Committed`."""
    replies: tuple[Replies | None, ...] = ()
    """One a write, or none at all."""


class Committed(NamedTuple):
    """It is on disk, or an answer says why not. All that one group has written for the receiver, in the order in which it was applied."""

    writes: tuple[Write, ...]
    """What was written, or refused."""
    answers: tuple[Answer, ...]
    """One a write, in the same order."""
    tickets: tuple[tuple[int, int], ...]
    """For each write: the ticket of its Commit, and its place in it."""
    aftermath: Aftermath | None = None
    """To the library: what the group has brought about besides, if anything."""


# --- to a job actor -------------------------------------------------------------------------------------------------


class Perform(NamedTuple):
    """Run these, one after another."""

    hand: Hand[Claimed]
    """Shared with the library, which may take back what has not begun."""


@dataclass(frozen=True, slots=True, eq=False)
class Interrupt(Control):
    """The job shall leave at its next look."""

    job_id: bytes
    """Which job; ignored if it is not the one that runs."""
    why: Literal["pause", "cancel", "close", "disk"]
    """For what."""


@dataclass(frozen=True, slots=True, eq=False)
class Proceed(Control):
    """The pause is withdrawn."""

    job_id: bytes
    """Which job."""


class PartSpawned(NamedTuple):
    """What became of a part of the job's children."""

    answer: Answer
    """As of the write."""


class ChildrenEnded(NamedTuple):
    """Some have, since the last look."""

    batch_id: bytes
    """Whose."""


class SteppedAside(NamedTuple):
    """The slot is free for others; or there are enough parents that wait on their actors."""

    job_id: bytes
    """The parent."""
    kept: bool
    """False: leave `run`."""


class SlotForParent(NamedTuple):
    """The job goes on."""

    job_id: bytes
    """The parent."""


class ChildrenSeen(NamedTuple):
    """What the reader found of some children. Those that it does not name live."""

    ended: tuple[EndedChild, ...]
    """In the order in which they were asked for."""
    missing: tuple[bytes, ...]
    """There is no such job."""
    over: frozenset[bytes]
    """Batches all of whose jobs have ended, of those asked for."""
    family: Family
    """How far all children of the job are."""
    error: str | None = None
    """Why nothing could be read."""


class ChildrenLoaded(NamedTuple):
    """What is stored of a set of children."""

    sealed: bool
    """True: all of it."""
    chunks: tuple[ChunkOutcome, ...]
    """In order."""
    error: str | None = None
    """Why nothing could be read."""


class CheckpointLoaded(NamedTuple):
    """Answer of the reader to `LoadCheckpoint`."""

    job_id: bytes
    """Which job."""
    checkpoint: StoredCheckpoint | None
    """None: it could not be read."""
    error: str | None = None
    """Why not."""


class TasksEnded(NamedTuple):
    """Some tasks of the job have ended."""

    ends: tuple[tuple[int, TaskEnd], ...]
    """(task number, how it ended)."""


class TaskNoted(NamedTuple):
    """A running task wants a value kept for a repeat of its item."""

    number: int
    """The task."""
    value: bytes
    """Encoded."""
    future: Replies | None
    """Set once it is on disk."""


class TaskAdvanced(NamedTuple):
    """A running task has done this much more."""

    amount: int
    """In bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """A timer of the job's own: look at the clock."""


# --- to the reader --------------------------------------------------------------------------------------------------


class DiskState(NamedTuple):
    """Of the library's disk, by the store, to the library and its reader."""

    full: bool
    """Nothing new is taken, nothing starts."""
    paused: tuple[bytes, ...] = ()
    """The jobs that were paused for it; they may go on."""


class StoreFailed(NamedTuple):
    """By the store, to the library and its reader: it takes no more writes."""

    error: str
    """Why, and what to do."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LookForRoom(Value):
    """To the store, by its own timer, while the disk is full."""


class LoadCheckpoint(NamedTuple):
    """Send the job's checkpoint to `reply_to`."""

    job_id: bytes
    """Which job."""
    reply_to: Ref
    """Gets `CheckpointLoaded`."""


class LoadChildren(NamedTuple):
    """Send what is stored of a set of children to `reply_to`."""

    batch_id: bytes
    """Whose."""
    reply_to: Ref
    """Gets `ChildrenLoaded`."""


class LoadFamilies(NamedTuple):
    """Send to `reply_to` how far the parents of these are, and these parents, as far as they have no actor."""

    batches: tuple[bytes, ...]
    """Some of their jobs have ended."""
    jobs: tuple[bytes, ...]
    """They have another reading."""
    parents: tuple[bytes, ...]
    """They have just left their actors."""
    reply_to: Ref
    """Gets `FamiliesLoaded`."""


class FamiliesLoaded(NamedTuple):
    """What the reader found of parents that have no actor."""

    parents: tuple[HeldParent, ...]
    """Those that were asked for."""
    any: bool
    """Whether there is one at all."""


class LookAtFamilies(NamedTuple):
    """A timer: some children are further than they were."""


class LookForChildren(NamedTuple):
    """Send to `reply_to` which of these have ended, and how."""

    job_id: bytes
    """The parent."""

    ids: tuple[bytes, ...]
    """The children."""
    batches: tuple[bytes, ...]
    """Theirs, to be told which are over."""
    reply_to: Ref
    """Gets `ChildrenSeen`."""


class Look(NamedTuple):
    """A question of a user, handed on by the library."""

    request: object
    """The question as it came."""
    epoch: int
    """For the page: the number of the last fact told before the look."""
    n: int
    """See `epoch`."""
    reply: Replies | None
    """Set with the answer."""


# --- to the dispatcher ----------------------------------------------------------------------------------------------


class TaskOrigin(NamedTuple):
    """What the tasks of one map, or of one job, have in common."""

    owner: Ref
    """The job actor; gets the ends."""
    job_id: bytes
    """Which job."""
    step: str
    """First part of the tokens: the map's name, or empty."""
    services: Any
    """What the host gave to the library."""
    signal: Signal
    """Tells a running task that its job wants it to stop."""
    bulk: bool
    """Many alike: small ones may travel in chunks."""


class TaskCall(NamedTuple):
    """A task on its way: what a worker needs to run it and to say whose it was."""

    origin: TaskOrigin
    """Whose it is."""
    number: int
    """Unique within the job's run."""
    task: Task
    """What to run."""
    position: int | None = None
    """Of a map's item."""
    item: object = None
    """The item itself, for the end."""
    recorded: bytes | None = None
    """What an earlier run of this item recorded, encoded."""
    step: str | None = None
    """The author's name for it, for its token."""


class Offer(NamedTuple):
    """Tasks for the workers."""

    calls: tuple[TaskCall, ...]
    """In order."""


@dataclass(frozen=True, slots=True, eq=False)
class Withdraw(Control):
    """Take back every task of this owner that no worker has begun; they come back to it as Cancelled."""

    owner: Ref
    """The job actor."""
    numbers: frozenset[int] | None = None
    """Only these; None: all."""


class Ready(NamedTuple):
    """A worker wants work."""

    worker: Ref
    """Which."""
    ran: tuple[type[Task], int, float] | None = None
    """What it just ran: type, how many, seconds in all."""
    lane: str | None = None
    """The lane that it leaves."""


class AskSlots(NamedTuple):
    """A library wants leave to run up to `slots` jobs at once."""

    library: Ref
    """Which."""
    slots: int
    """In all; 0: none any more."""
    alone: bool = False
    """For one suspect, with nobody else running."""


class ReturnSlots(NamedTuple):
    """A library gives slots back."""

    library: Ref
    """Which."""
    slots: int
    """How many."""
    end_alone: bool = False
    """The suspect has ended or is cleared."""
    forget: bool = False
    """The library closes: all it has."""


# --- to a worker ----------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """Run these tasks, one after another."""

    hand: Hand[TaskCall]
    """Shared with the dispatcher, which may take back what has not begun."""
    lane: str
    """The lane they draw on."""


# --- to the event hub -----------------------------------------------------------------------------------------------

class Publish(NamedTuple):
    """What the library's last commits made true."""

    stream: bytes
    """Which library."""
    first: int
    """Number of the first of them."""
    facts: tuple[RawFact, ...]
    """In order."""


class Reading(NamedTuple):
    """Progress of a job, to be told."""

    stream: bytes
    """Which library."""
    job_id: bytes
    """Which job."""
    name: str
    """Its type."""
    progress: Progress
    """The reading."""


class OpenStream(NamedTuple):
    """A library was opened."""

    stream: bytes
    """Which."""
    epoch: int
    """Which opening."""


class CloseStream(NamedTuple):
    """A library was closed; its subscribers are told nothing more."""

    stream: bytes
    """Which."""
    error: str | None = None
    """Set if it met an error: they get `LibraryDegraded`."""


class HubRequest(NamedTuple):
    """A Subscribe, Unsubscribe or FactsSince, handed on by the library; or a subscription that a reply_to of a Submit makes."""

    stream: bytes
    """Which library."""
    request: object
    """As it came."""
    reply: Replies | None
    """Set with the answer."""

