"""What was seen of a library from outside, in the order in which it was seen: what `invariants.py` judges.

Scripts, jobs and tasks write it, simulated ones and threads alike; a list's `append` is all the order they need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from disk import Batches, BatchRow, Row, Rows

from callboard.jobs.batch_items import BatchItem
from callboard.jobs.events import Fact
from callboard.jobs.lifecycle import Status

State = tuple[int, int]
"""The two fields of a job of a history. Both change together, so one without the other is seen at once."""


# --- the entries ------------------------------------------------------------------------------------------------------


class Opened(NamedTuple):
    """A library was opened. `rows`: right after; its jobs may have begun."""

    life: int
    epoch: int
    running_jobs: int
    rows: Rows
    batches: Batches


class Closed(NamedTuple):
    """A library was closed; `stopped`: what `close` answered."""

    life: int
    stopped: bool
    rows: Rows
    batches: Batches


class Died(NamedTuple):
    """The process died; `rows`: what was on disk then."""

    life: int
    rows: Rows
    batches: Batches


class Quiet(NamedTuple):
    """Nothing can go on and no timer is set. `known`: the job types of this life."""

    life: int
    rows: Rows
    batches: Batches
    known: frozenset[str]


class Asked(NamedTuple):
    """A command is on its way. `job`: empty for a submission. `number` pairs it with its answer."""

    life: int
    number: int
    job: bytes
    command: str
    data: bytes | None = None
    """Of a submission: its payload."""
    takes: frozenset[tuple[str, bytes]] = frozenset()
    """(name, key) of jobs whose place it may take."""
    members: frozenset[bytes] = frozenset()
    """Of a command to a batch: its jobs on disk at that moment which have not ended."""


class Item(NamedTuple):
    """One item of a batch as it was given."""

    name: str
    key: bytes | None
    data: bytes
    parent: int | None = None
    """Whose child it is to be: an item of the batch."""


class Sent(NamedTuple):
    """A batch is on its way, under the number of an `Asked`. `items`: None for one that is bad. `last`: the payload of its `on_complete`."""

    life: int
    number: int
    batch_id: bytes
    items: tuple[Item | None, ...]
    last: bytes | None
    counted: bool
    """It was known how many items there are, before all of them were read."""


class Got(NamedTuple):
    """The outcome of a batch. `rows`: what was on disk at that moment, if it was `seen`."""

    life: int
    number: int
    batch_id: bytes
    items: tuple[BatchItem, ...]
    counts: dict[str, int]
    error: str | None
    rows: Rows
    batch: BatchRow | None
    seen: bool = True


class Steered(NamedTuple):
    """A command to a batch was carried out."""

    life: int
    number: int


class Over(NamedTuple):
    """Somebody waited for the end of a batch and was answered. `batch`: what was on disk at that moment, if it was `seen`."""

    life: int
    batch_id: bytes
    states: dict[str, int]
    batch: BatchRow | None
    seen: bool = True


class Torn(NamedTuple):
    """A commit has left something on disk that contradicts itself."""

    text: str


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
    kind: str = ""
    """The error's class."""


class Told(NamedTuple):
    """A fact arrived. `row`: what was on disk at that moment, if it was `seen`: not when the library was closed meanwhile."""

    life: int
    fact: Fact
    row: Row | None
    seen: bool = True
    batch: BatchRow | None = None
    """Of a fact about a batch: what was on disk of it."""


class Waited(NamedTuple):
    """Somebody waited for the end of a job and was answered."""

    life: int
    job: bytes
    ends: frozenset[Status]
    result: object
    by: bytes | None = None
    """Who took its place, as the waiter was told."""


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


class Spawned(NamedTuple):
    """`spawn_children` returned; `size`: how many it was given."""

    life: int
    job: bytes
    name: str
    size: int
    ids: tuple[bytes, ...]
    attempt: int
    """Of the parent: a further one has the children that completed, and others for the rest."""


class Bred(NamedTuple):
    """A brood was spawned, or found again: `size` children, of which `most` may run at once."""

    life: int
    job: bytes
    ids: tuple[bytes, ...]
    size: int
    most: int
    attempt: int


class Read(NamedTuple):
    """A listener was told how far the children of a job are."""

    life: int
    job: bytes
    attempt: int
    """A further one begins with the children that completed."""
    fraction: float


class NoRoom(NamedTuple):
    """A submission was turned away by a full library after `waited` of `block` seconds; `free`: so long there was room for it."""

    life: int
    number: int
    waited: float
    block: float
    free: float


class Planned(NamedTuple):
    """What `plan` said of each item: the names of classes. `quiet`: nothing else goes on, and the batch is sent next."""

    life: int
    batch_id: bytes
    items: tuple[Item | None, ...]
    kinds: tuple[str, ...]
    quiet: bool


class Aside(NamedTuple):
    """A job waits for its children, and may have given its turn away."""

    life: int
    job: bytes


class Back(NamedTuple):
    """It has its turn again."""

    life: int
    job: bytes


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


class ClockSet(NamedTuple):
    """Somebody has set the wall clock: times on disk do not follow each other any more."""

    life: int
    seconds: float


Entry = (
    Opened | Closed | Died | Quiet | Asked | Acked | Refused | Told | Waited | Entered | Stepped | Delivered | Counted | Saving | Saved
    | Left | TaskEntered | TaskLeft | Noted | ItemsDone | Logged | Sent | Got | Steered | Over | Torn
    | Spawned | Aside | Back | ClockSet | Bred | Read | NoRoom | Planned
)  # fmt: skip


class Observed:
    """The log of one history, over all lives of its process."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.add: Callable[[Entry], None] = self.entries.append
        """Thread-safe."""
        self._numbers = iter(range(1, 1_000_000_000)).__next__

    def ask(self, life: int, command: str, job: bytes = b"", **what: Any) -> int:
        """Note that a command is sent; answers its number. `what`: the other fields of `Asked`."""
        number = self._numbers()
        self.add(Asked(life, number, job, command, **what))
        return number
