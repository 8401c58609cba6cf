"""What was seen of a library from outside, in the order in which it was seen: what `invariants.py` judges.

Scripts, jobs and tasks write it, simulated ones and threads alike; a list's `append` is all the order they need.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from callboard.jobs.events import Fact
from callboard.jobs.lifecycle import Status
from callboard.persistence.connection import open_writer
from callboard.persistence.place import DATABASE

State = tuple[int, int]
"""The two fields of a job of a history. Both change together, so one without the other is seen at once."""


class Row(NamedTuple):
    """A job as it stands on disk."""

    id: bytes
    name: str
    status: Status
    key: bytes | None
    claim: int
    attempt: int
    crashes: int
    pausers: int
    run_at: int | None
    created_at: int
    ended_at: int | None
    error: str | None
    result: bytes | None
    retry_of: bytes | None
    sequence: int
    """Of its last checkpoint; 0: none is kept."""


Rows = dict[bytes, Row]

_LIVE = (
    "SELECT j.id, j.name, j.status, j.key, j.claim, j.attempt, j.crashes, j.pausers, j.run_at, j.created_at, NULL, j.error, NULL,"
    " j.retry_of, coalesce((SELECT sequence FROM job_checkpoints WHERE job_id = j.id AND kind = 'head'), 0) FROM jobs AS j"
)
_ENDED = (
    "SELECT j.id, j.name, j.status, j.key, j.claim, j.attempt, j.crashes, 0, NULL, j.created_at, j.ended_at, j.error, j.result, j.retry_of,"
    " coalesce((SELECT sequence FROM job_checkpoints WHERE job_id = j.id AND kind = 'head'), 0) FROM job_history AS j"
)


_ONE = f"{_LIVE} WHERE j.id = ?1 UNION ALL {_ENDED} WHERE j.id = ?1"
_ALL = f"{_LIVE} UNION ALL {_ENDED} ORDER BY 1"


class Looker:
    """A connection of its own, on which the committed rows are seen at any moment."""

    def __init__(self, connection: Any, lock: AbstractContextManager[object] | None = None) -> None:
        """`connection`: read-only, as `LibraryFolder.reader` gives it. `lock`: where several threads look."""
        self._connection = connection
        self._lock = nullcontext() if lock is None else lock

    def close(self) -> None:
        """Close the connection; who looks from now on gets a LookupError."""
        with self._lock:
            self._connection.close()

    def row(self, job_id: bytes) -> Row | None:
        """The job, live or ended, in one snapshot. AssertionError if it is both, LookupError if the library was closed."""
        found = self._ask(_ONE, (job_id,))
        if len(found) > 1:
            raise AssertionError(f"job {job_id.hex()} is live and ended")
        return _row(found[0]) if found else None

    def rows(self) -> Rows:
        """All jobs, by id in order of arrival. LookupError if the library was closed."""
        found = self._ask(_ALL, ())
        rows = {values[0]: _row(values) for values in found}
        if len(rows) != len(found):
            raise AssertionError("a job is live and ended")
        return rows


    def _ask(self, sql: str, values: tuple[object, ...]) -> list[Any]:
        with self._lock:
            try:
                found: list[Any] = self._connection.execute(sql, values).fetchall()
                return found
            except Exception as error:
                if type(error).__name__ == "ConnectionClosedError":
                    raise LookupError("the library has been closed") from None
                raise


def _row(values: Any) -> Row:
    return Row(values[0], values[1], Status(values[2]), *values[3:])


def rows_on_disk(folder: Path) -> Rows:
    """What is on disk of a library that nobody has open: its owner died, perhaps before it was made, or has closed it."""
    if not (folder / DATABASE).exists():
        return {}
    connection = open_writer(folder / DATABASE)
    try:
        return Looker(connection).rows()
    finally:
        connection.close()


# --- the entries ------------------------------------------------------------------------------------------------------


class Opened(NamedTuple):
    """A library was opened. `rows`: right after; its jobs may have begun."""

    life: int
    epoch: int
    running_jobs: int
    rows: Rows


class Closed(NamedTuple):
    """A library was closed; `stopped`: what `close` answered."""

    life: int
    stopped: bool
    rows: Rows


class Died(NamedTuple):
    """The process died; `rows`: what was on disk then."""

    life: int
    rows: Rows


class Quiet(NamedTuple):
    """Nothing can go on and no timer is set. `known`: the job types of this life."""

    life: int
    rows: Rows
    known: frozenset[str]


class Asked(NamedTuple):
    """A command is on its way. `job`: empty for a submission. `number` pairs it with its answer."""

    life: int
    number: int
    job: bytes
    command: str


class Acked(NamedTuple):
    """A command was acknowledged. `row`: what was on disk at that moment, if it was `seen`; by a connection of the observer's own."""

    life: int
    number: int
    job: bytes
    command: str
    status: Status | None
    row: Row | None
    seen: bool = True


class Refused(NamedTuple):
    """A command was answered with an error; `unknown`: it may have been carried out."""

    life: int
    number: int
    error: str
    unknown: bool


class Told(NamedTuple):
    """A fact arrived. `row`: what was on disk at that moment, if it was `seen`: not when the library was closed meanwhile."""

    life: int
    fact: Fact
    row: Row | None
    seen: bool = True


class Waited(NamedTuple):
    """Somebody waited for the end of a job and was answered."""

    life: int
    job: bytes
    ends: frozenset[Status]
    result: object


class Entered(NamedTuple):
    """`run` was entered. `exact`: the job is saved by nobody but itself, so that its state is one that it saved."""

    life: int
    job: bytes
    claim: int
    attempt: int
    alone: bool
    state: State
    exact: bool
    row: Row | None


class Stepped(NamedTuple):
    """A step of a job began, right after a look at `ctx`; `since`: the place in the log at which it began to look."""

    life: int
    job: bytes
    state: State
    since: int


class Delivered(NamedTuple):
    """A map gave its job an end; `state`: what the job makes of it. That is no step: results are delivered also while a job pauses."""

    life: int
    job: bytes
    state: State


class Counted(NamedTuple):
    """What the ledger of a job's map has done and what its fields say of it, both as of the start of this run."""

    life: int
    job: bytes
    ledger: int
    fields: int


class Saving(NamedTuple):
    """A checkpoint was asked for."""

    life: int
    job: bytes
    state: State


class Saved(NamedTuple):
    """`checkpoint()` returned."""

    life: int
    job: bytes
    state: State
    sequence: int


class Left(NamedTuple):
    """`run` was left. `saves`: by Interrupted, so that its state is saved with it."""

    life: int
    job: bytes
    saves: bool
    state: State


class TaskEntered(NamedTuple):
    """A task was begun. `recorded`: what it was given of its own notes; 0: none."""

    life: int
    job: bytes
    item: int
    recorded: int


class Noted(NamedTuple):
    """A task's note was acknowledged."""

    life: int
    job: bytes
    item: int
    value: int


class TaskLeft(NamedTuple):
    life: int
    job: bytes
    item: int
    failed: bool


class ItemsDone(NamedTuple):
    """These items of the job's map are done and saved."""

    life: int
    job: bytes
    items: frozenset[int]


class Logged(NamedTuple):
    """callboard logged an error: a defect of its own, as histories have no bad disk."""

    life: int
    text: str


Entry = (
    Opened | Closed | Died | Quiet | Asked | Acked | Refused | Told | Waited | Entered | Stepped | Delivered | Counted | Saving | Saved
    | Left | TaskEntered | TaskLeft | Noted | ItemsDone | Logged
)  # fmt: skip


class Observed:
    """The log of one history, over all lives of its process."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.add: Callable[[Entry], None] = self.entries.append
        """Thread-safe."""
        self._numbers = iter(range(1, 1_000_000_000)).__next__

    def ask(self, life: int, command: str, job: bytes = b"") -> int:
        """Note that a command is sent; answers its number."""
        number = self._numbers()
        self.add(Asked(life, number, job, command))
        return number
