"""What the library says of a job when asked: one frozen value, the same for live and ended ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from callboard.jobs.errors import BadArgument, BadSubmission, shown
from callboard.jobs.identity import ID_BYTES, id_text
from callboard.jobs.lifecycle import Pauser, Status
from callboard.jobs.progress import Progress
from callboard.jobs.submission import key_bytes
from callboard.jobs.value import Value

NO_PARENT = b""
"""As `JobFilter.parent`: only jobs that are nobody's children."""

PAGE_MOST = 10_000
"""Most records in one answer; ask on with `after=`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobRecord(Value):
    """A job as it stands in the library. Times are seconds since the epoch, durations seconds."""

    id: bytes
    name: str
    version: int
    status: Status
    priority: int
    key: bytes | None
    group: str | None
    tags: tuple[str, ...]
    requested_by: str | None
    retry_of: bytes | None
    created_at: float
    run_at: float | None
    """It waits for this time; None if it does not."""
    started_at: float | None
    ended_at: float | None
    attempt: int
    crashes: int
    """Deaths of the process under it since its last checkpoint."""
    running_seconds: float
    """In `run`, over all finished runs."""
    waiting_seconds: float
    warnings: int
    error: str | None
    progress: Progress | None
    pausers: frozenset[Pauser] = frozenset()
    """Who keeps it paused."""
    unresponsive_since: float | None = None
    suspect: bool = False
    """It waits to run alone, since the process died under it."""
    traceback_text: str | None = None
    memory_mb: float | None = None
    result: bytes | None = field(default=None, repr=False)
    """Encoded; `Library.result_of` decodes it."""
    parent: bytes | None = None
    """The job whose child it is."""
    superseded_by: bytes | None = None
    """The newer job that took its place, or is about to."""
    after: bytes | None = None
    """Of a waiting one: the job in front of it."""
    kept_back: bool = False
    """It is queued and not in line: as many of its batch run as may run at once."""
    passed_over: str | None = None
    """Why this process does not run it, though it is queued."""

    @property
    def id_text(self) -> str:
        """The id as people write it."""
        return id_text(self.id)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class BatchRecord(Value):
    """A batch as it stands in the library. Times are seconds since the epoch."""

    id: bytes
    created_at: float
    requested_by: str | None
    count: int
    """Items so far, whatever became of them."""
    sealed: bool
    """All of it is stored; False: its sender has not come to the end yet, or never will."""
    jobs: int
    """So many jobs were made of it."""
    open: int
    """Those that have not ended."""
    counts: Mapping[str, int]
    """How many items came out how: see `BatchOutcome.counts`."""
    completed_at: float | None
    """When the last of its jobs ended; None if it goes on."""
    completed_by: bytes | None
    """The job that `on_complete` queued then, or that stood for it."""
    states: Mapping[str, int] | None
    """How many of its jobs have which status; None in a list of batches."""

    @property
    def id_text(self) -> str:
        """The id as people write it."""
        return id_text(self.id)


class StoredChunk(NamedTuple):
    """What was stored of a batch in one commit."""

    start: int
    """Index of its first item."""
    size: int
    """Items."""
    first_id: bytes | None
    """Item i of it has the i-th id from here on, if it has one; None: no job was made."""
    rows: int
    """Jobs that were made."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class JobFilter(Value):
    """Which jobs. Every part that is set must be true of them. Raises `BadArgument` for a part that could be true of none."""

    status: Status | tuple[Status, ...] | None = None
    name: str | None = None
    group: str | None = None
    tag: str | None = None
    key: str | bytes | None = None
    requested_by: str | None = None
    batch: bytes | None = None
    """Id of the batch that they are of."""
    parent: bytes | None = None
    """Id of the job whose children they are; b"": jobs that are nobody's children."""
    after: bytes | None = None
    """Only jobs with a higher id (for the history: a lower one): the last id of the page before."""
    limit: int = 100
    """At most so many, 1 to 10,000."""

    def __post_init__(self) -> None:
        if isinstance(self.limit, bool) or not isinstance(self.limit, int) or not 1 <= self.limit <= PAGE_MOST:
            raise BadArgument(f"limit={shown(self.limit)} is not an integer from 1 to {PAGE_MOST}")
        statuses = self.status if isinstance(self.status, tuple) else (self.status,)
        for status in statuses if self.status is not None else ():
            if status not in tuple(Status):
                raise BadArgument(f"status={shown(status)} is not one of {', '.join(Status)}, nor a tuple of them")
        for part in ("name", "group", "tag", "requested_by"):
            _text(part, getattr(self, part))
        if self.key is not None:
            try:
                key_bytes(self.key)
            except BadSubmission as error:
                raise BadArgument(str(error)) from None
        if self.after is not None and (not isinstance(self.after, bytes) or len(self.after) != ID_BYTES):
            raise BadArgument(f"after={shown(self.after)} is not a job id ({ID_BYTES} bytes)")
        if self.parent is not None and (not isinstance(self.parent, bytes) or len(self.parent) not in (0, ID_BYTES)):
            raise BadArgument(f"parent={shown(self.parent)} is not a job id ({ID_BYTES} bytes)")
        if self.batch is not None and (not isinstance(self.batch, bytes) or len(self.batch) != ID_BYTES):
            raise BadArgument(f"batch={shown(self.batch)} is not a batch id ({ID_BYTES} bytes)")

    @property
    def statuses(self) -> tuple[Status, ...] | None:
        """The wanted statuses; None: any."""
        if self.status is None:
            return None
        return tuple(map(Status, self.status)) if isinstance(self.status, tuple) else (Status(self.status),)


def _text(part: str, value: str | None) -> None:
    """SQLite's text is UTF-8."""
    try:
        if value is not None:
            value.encode()
    except (AttributeError, UnicodeEncodeError):
        raise BadArgument(f"{part}={shown(value)} is not UTF-8 text") from None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class JobPage(Value):
    """Some records, and the number of the last fact that they include for certain: facts behind it may be news."""

    records: tuple[JobRecord, ...]
    epoch: int
    n: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Warned(Value):
    """A non-critical error of a job."""

    n: int
    item: str | None
    message: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Statistics(Value):
    """Counts of a library's jobs by status."""

    live: dict[str, int]
    ended: dict[str, int]
    next_run_at: float | None
    """When the next job that waits for its time is due, seconds since the epoch."""
    disk_full: bool = False
    """Nothing new is taken and nothing starts until there is room again."""
    degraded: str = ""
    """Why the library takes no more writes until it is opened again; "" while it does. All counts are empty then if it cannot be read either."""
