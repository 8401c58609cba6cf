"""Facts: what happened to a job, told after the commit that made it true. And one reading, `ProgressMade`, which is no fact.

Every fact has a number: (`epoch`, `n`). `epoch` rises each time the library is opened, `n` by one with each fact, so a listener sees at
once whether it missed any. A reading has no number: the latest wins, and it may run ahead of its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from callboard.jobs.progress import Progress
from callboard.jobs.value import Value


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fact(Value):
    """What all facts carry."""

    epoch: int
    """Which opening of the library."""
    n: int
    """Number of the fact within the epoch, 1 first, without gaps."""
    job_id: bytes
    """Which job; 16 bytes."""
    name: str
    """The job's type name."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobQueued(Fact):
    """The job is on disk and waits its turn, or its time."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobStarted(Fact):
    """Claimed: user code is about to run."""

    attempt: int = 1
    resumed: bool = False
    """True if it has run before and goes on."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobPausing(Fact):
    """Asked to pause; stops at its next look."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobPaused(Fact):
    """It has stopped; state and progress are on disk."""

    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobResumed(Fact):
    """The pause is lifted."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobCancelling(Fact):
    """Asked to cancel; stops at its next look."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobRequeued(Fact):
    """It waits in line again: a retry, or given back by a close; or for the first time, as the job in front of it, which has its key, has ended.
    `run_at`: not before this time (seconds since the epoch)."""

    run_at: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobCompleted(Fact):
    """`run` returned. `result` is encoded; a handle decodes it."""

    result: bytes | None = field(default=None, repr=False)
    errors: int = 0
    """How many warnings there were; above 0 the status is `completed_with_errors`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobFailed(Fact):
    """It failed for good."""

    error: str = ""
    traceback_text: str = ""
    """Where, as text."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobCancelled(Fact):
    """It is cancelled, and no code of it runs any more."""

    superseded_by: bytes | None = None
    """The job that took its place; None if nothing did."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobQuarantined(Fact):
    """Its process died under it too often, or its record is damaged; it waits for a person."""

    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobUnresponsive(Fact):
    """It has not looked at `ctx` for `seconds`; it is waited for."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobResponsive(Fact):
    """It has looked again."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BatchSubmitted(Fact):
    """A batch, or a part of one, is on disk. `job_id` is `first_id`, `name` is "": a batch may hold jobs of many types."""

    batch_id: bytes = b""
    count: int = 0
    """How many items were dealt with, whatever came of them."""
    first_id: bytes = b""
    """Lowest id of the new jobs; b"" if none is new."""
    last_id: bytes = b""
    """Highest id of the new jobs; b"" if none is new. Ids between the two may be of no job."""
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    """How many came out how: see `BatchOutcome.counts`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BatchEnded(Fact):
    """The last job of a batch has ended. `job_id` is b"", `name` is ""."""

    batch_id: bytes = b""
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    """How many of its jobs ended with which status."""


ENDS: tuple[type[Fact], ...] = (JobCompleted, JobFailed, JobCancelled)

KINDS: tuple[type[Fact], ...] = (
    *ENDS, JobQueued, JobStarted, JobPausing, JobPaused, JobResumed, JobCancelling, JobRequeued, JobQuarantined, JobUnresponsive, JobResponsive,
    BatchSubmitted, BatchEnded,
)  # fmt: skip
"""Every fact there is, the ends first."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ProgressMade(Value):
    """A reading, not a fact."""

    job_id: bytes
    name: str
    progress: Progress


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FactsLost(Value):
    """Sent in place of facts that a slow listener could not be given: ask `facts_since(epoch, n)`, or `jobs()` for the state itself."""

    epoch: int
    first: int
    """Number of the first fact that is missing."""
    last: int
    """Number of the last one."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LibraryDegraded(Value):
    """The library met an I/O error it could not clear; it takes no more writes until it is opened again."""

    error: str
