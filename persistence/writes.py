"""Everything that can be written, as data. The store applies a group of these in one transaction; the answers are in the same order.

What is made for every job is a NamedTuple: half a microsecond each, where a frozen dataclass of so many fields takes three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from callboard.jobs.batch_items import BatchItem, ChunkOutcome
from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.submission import OnDuplicate, Submitted
from callboard.persistence.unshown import unshown

Part = tuple[str, str, int, bytes | None]
"""(kind, name, page, value) of a checkpoint; value None: delete the part."""

Warned = tuple[int, str | None, str]
"""(number, item, message) of a warning."""


@unshown
class Insert(NamedTuple):
    """A new job. Answer: `Submitted`; `met` says what came of it if its key was taken."""

    name: str
    version: int
    data: bytes
    priority: int = 128
    key: bytes | None = None
    group: str | None = None
    run_at_ms: int | None = None
    delay_ms: int | None = None
    resumable: bool = True
    retry: str | None = None
    """The submission's retry policy as JSON; None: the class's."""
    tags: tuple[str, ...] = ()
    requested_by: str | None = None
    parent: bytes | None = None
    on_duplicate: OnDuplicate = OnDuplicate.SKIP

    @property
    def has_time(self) -> bool:
        """It is to wait for a time of its own, which may have passed when it is written."""
        return self.run_at_ms is not None or self.delay_ms is not None


class Shape(NamedTuple):
    """What many items of a batch have in common; stored once for all of them."""

    name: str
    version: int
    priority: int
    group: str | None
    parent: bytes | None
    resumable: bool
    retry: str | None
    tags: tuple[str, ...]
    requested_by: str | None
    run_at_ms: int | None
    delay_ms: int | None
    on_duplicate: OnDuplicate


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items of a batch, encoded. `BatchEncoder` makes it."""

    batch_id: bytes
    start: int
    """Index of its first item in the batch."""
    count: int
    """Items, bad and overridden ones included; 0 only to say that the batch has ended."""
    rows: tuple[bytes, ...] = field(repr=False)
    """Packed (see `newrows.py`), in order; no two of them have the same name and key."""
    places: tuple[int, ...] | None
    """Index in the batch of each row; None: there is one for each item."""
    shapes: tuple[Shape, ...]
    """By number."""
    keys: tuple[bytes | None, ...]
    """Of each item."""
    digest: bytes
    """Of all that is stored, and of which items are not."""
    last: bool
    """Nothing comes after it."""
    others: Mapping[int, BatchItem] = field(default_factory=dict)
    """Items that have no row, by index: bad, or overridden by a later one."""
    parents: Mapping[int, int] = field(default_factory=dict)
    """Index of an item → index of the item whose child it is."""


class InsertChunk(NamedTuple):
    """A part of a batch, whole or not at all. Answer: `ChunkStored`, or BatchMismatch, Busy.

    Chunks of a batch follow each other. One that is stored is answered as it was then, if it has the same content.
    """

    chunk: Chunk
    requested_by: str | None = None
    """Who asked for the batch. Like `on_complete`, of the chunk that starts at 0."""
    on_complete: Insert | None = None
    max_running: int | None = None
    """So many of the batch's jobs run at once; None: any number. What the first chunk says holds for all."""


@dataclass(frozen=True, slots=True)
class ChunkStored:
    outcome: ChunkOutcome
    again: bool
    """True: it had been stored before, and nothing was written."""
    others: bool = False
    """Somebody else has written to the library since the part before."""


class InsertAgain(NamedTuple):
    """A new job from an ended one, with `retry_of`. Answer: `Submitted`, or NoSuchJob, NotAllowed."""

    job_id: bytes
    ledger: Literal["none", "rest", "failed"]
    """What the new job is to skip: nothing; what the old one has done; everything but what failed in it."""
    requested_by: str | None = None


class Claim(NamedTuple):
    """Take the next jobs of the types that this process knows. Answer: tuple of `Claimed`, most urgent first."""

    most: int
    alone: bool = False
    """True: one suspect instead."""
    only: tuple[bytes, ...] | None = None
    """None of the jobs but these; None: any."""


@unshown
class Claimed(NamedTuple):
    """A job as it was taken."""

    job_id: bytes
    name: str
    version: int
    claim: int
    attempt: int
    crashes: int
    started_before: bool
    has_checkpoint: bool
    """False if nothing of one is stored; True if there is one, or that could not be read."""
    running_ms: int
    waiting_ms: int
    warnings: int
    requested_by: str | None
    retry: str | None
    created_at_ms: int
    progress: bytes | None
    data: bytes
    checksum: bytes | None
    """None: `data` comes from memory, and was never read back."""
    alone: bool


@unshown
class SaveCheckpoint(NamedTuple):
    """Parts that changed, in one commit with the sequence. Answer: None, or `Fenced`."""

    job_id: bytes
    claim: int
    sequence: int
    parts: tuple[Part, ...]
    warnings: tuple[Warned, ...] = ()
    charged: bool = False
    """True if the job has crashes to be forgotten by this checkpoint."""


@unshown
class End(NamedTuple):
    """`run` was left for good. Answer: the ended Status, ENDING if its children have not ended, or `Fenced`."""

    job_id: bytes
    claim: int
    event: Event
    """RETURN, RETURN_WITH_ERRORS or FAIL."""
    result: bytes | None = None
    error: str | None = None
    traceback: str | None = None
    running_ms: int = 0
    """Of this run."""
    warned: int = 0
    """In all."""
    metrics: str | None = None
    progress: bytes | None = None
    drop_checkpoint: bool = False
    """True if the job completed without errors and may have one."""
    parts: tuple[Part, ...] = ()
    sequence: int = 0
    warnings: tuple[Warned, ...] = ()


@unshown
class Leave(NamedTuple):
    """`run` was left without an end. Answer: the Status it has now, or `Fenced`."""

    job_id: bytes
    claim: int
    event: Event
    """STOP, YIELD, RETRY, RELEASE, AWAIT or POISON."""
    error: str | None = None
    """Why: the author's reason, or the error that is retried."""
    run_at_ms: int | None = None
    """For RETRY: not before."""
    pauser: int = 0
    """For YIELD: the bit of who pauses it."""
    running_ms: int = 0
    warned: int = 0
    progress: bytes | None = None
    parts: tuple[Part, ...] = ()
    sequence: int = 0
    warnings: tuple[Warned, ...] = ()
    awaits: bytes | None = None
    """For AWAIT: the batch of children that it waits for."""


class SpawnChildren(NamedTuple):
    """A part of a job's children, and with the first one the job's checkpoint: both or none, and none if another actor holds the job.

    Answer: as of InsertChunk, or `Fenced`.
    """

    job_id: bytes
    """The parent."""
    claim: int
    chunk: InsertChunk
    save: SaveCheckpoint | None
    """Names the children, so that the job finds them again."""


class SpawnAgain(NamedTuple):
    """Some of the children of an earlier attempt, for this one: those that completed (or live) stand, the others are queued anew. Their ids are
    a batch of their own, `batch_id`. Answer: `ChunkStored`, BatchMismatch, Busy, or `Fenced`.
    """

    job_id: bytes
    """The parent."""
    claim: int
    source: bytes
    """The batch of the earlier attempt."""
    batch_id: bytes
    start: int
    """Index of the first item; those before it are stored."""
    most: int
    """Items, at most."""
    detached: bool
    requested_by: str | None
    save: SaveCheckpoint | None
    """Names the children."""


class ParentWaits(NamedTuple):
    """A job that keeps its actor waits for its children now, or does no longer: found claimed meanwhile, it is charged with no crash.

    Answer: None.
    """

    job_id: bytes
    claim: int
    waits: bool


class Cascade(NamedTuple):
    """Carry out what is wanted of parents on some of their children. Answer: `Cascaded`; ask again as long as there is more."""

    most: int
    """Children told at once, at most."""


class Steered(NamedTuple):
    """A child of which something is wanted since it is wanted of its parent."""

    job_id: bytes
    name: str
    before: Status
    after: Status


@dataclass(frozen=True, slots=True)
class Cascaded:
    changed: tuple[Steered, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Fenced:
    """The write came from an actor that does not hold the job any more; nothing was changed."""


class SetIntent(NamedTuple):
    """A user's pause, resume or cancel. Answer: `IntentSet`, or NoSuchJob, NotAllowed."""

    job_id: bytes
    event: Event
    """PAUSE, RESUME or CANCEL."""
    pauser: int = 1
    """For PAUSE: the bit of who asks. For RESUME: the bits to clear."""


@dataclass(frozen=True, slots=True)
class SetBatchIntent:
    """A user's pause, resume or cancel of some of the jobs of a batch. Answer: `BatchIntentSet`, or NoSuchBatch."""

    batch_id: bytes
    event: Event
    """PAUSE, RESUME or CANCEL."""
    pauser: int = 1
    """As in `SetIntent`."""
    after_id: bytes = b""
    """Only jobs with a higher id: where the answer before said to go on."""
    most: int = 2_500
    """Look at no more live jobs than this."""


class Changed(NamedTuple):
    """A job of which something was asked, together with others."""

    job_id: bytes
    name: str
    before: Status
    after: Status
    alone: bool
    """It now waits to run alone."""


@dataclass(frozen=True, slots=True)
class BatchIntentSet:
    changed: tuple[Changed, ...]
    """Jobs that have another status now. Those that are pausing, cancelling or running again are to be told."""
    refused: int
    """Running and not resumable: they are not paused."""
    go_on_after: bytes | None
    """Ask again from here on; None: these were all."""


@dataclass(frozen=True, slots=True)
class IntentSet:
    name: str
    before: Status
    after: Status
    alone: bool = False
    """True if it now waits to run alone."""


class WriteProgress(NamedTuple):
    """A reading for the row. Answer: None."""

    job_id: bytes
    claim: int
    progress: bytes


class ParentProgress(NamedTuple):
    """A reading for the row of a parent that has no actor: it waits to be run again, or for its end. Answer: None."""

    job_id: bytes
    progress: bytes


class SetUnresponsive(NamedTuple):
    """Since when a running job has not looked (None: it has). Answer: True if the row changed."""

    job_id: bytes
    claim: int
    since_ms: int | None


class Excuse(NamedTuple):
    """These are still claimed and the process is ending: finding them claimed is no crash. Answer: None."""

    job_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class MakeDue:
    """Let every job whose time has come wait in line. Answer: `Due`."""


@dataclass(frozen=True, slots=True)
class Due:
    count: int
    next_ms: int | None
    """When the next one is due; None: none waits for its time."""
    suspects: int = 0
    """How many jobs wait to run alone now: one of these may have become due."""


Write = (
    Insert | InsertChunk | InsertAgain | Claim | SaveCheckpoint | End | Leave | SetIntent | SetBatchIntent | WriteProgress | SetUnresponsive
    | Excuse | MakeDue | SpawnChildren | SpawnAgain | ParentProgress | ParentWaits | Cascade
)  # fmt: skip
Answer = Submitted | ChunkStored | BatchIntentSet | Cascaded | tuple[Claimed, ...] | Status | Fenced | IntentSet | Due | bool | None | Exception
