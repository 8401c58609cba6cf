"""The log of a history, sorted by what the invariants ask for, and what a job can have become since something was said of it."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from disk import Batches, Rows
from observed import (
    Acked,
    Asked,
    Closed,
    Delivered,
    Died,
    Entered,
    Entry,
    Got,
    Left,
    Opened,
    Quiet,
    Refused,
    Saved,
    Saving,
    Sent,
    Steered,
    Stepped,
)

from callboard.jobs.events import (
    Fact,
    JobCancelled,
    JobCancelling,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobPausing,
    JobQuarantined,
    JobQueued,
    JobRequeued,
    JobResumed,
    JobStarted,
)
from callboard.jobs.lifecycle import TRANSITIONS, Event, Status

E = TypeVar("E")

_OF_RUNS = frozenset((Entered, Stepped, Delivered, Saving, Saved, Left))
_OF_ALL = frozenset((Opened, Closed, Quiet, Died, Asked, Sent, Acked, Got, Steered, Refused))

Snapshot = Opened | Closed | Died | Quiet


@dataclass(frozen=True, slots=True)
class Command:
    """A command and what came of it. Places are indexes in the log."""

    kind: str
    job: bytes
    life: int
    asked: int
    ended: float
    """Its answer; the end of its life where there was none: until then it may have been carried out."""
    status: Status | None
    """What it was answered with; None: nothing, or an error."""

    def touches(self, start: float, end: float) -> bool:
        """Whether it may have been carried out between two places."""
        return self.asked <= end and self.ended >= start


class Case:
    """A log, sorted by what the rules ask for."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)
        self.of_job: dict[bytes, list[tuple[int, Entry]]] = {}
        """What its `run` did, with the places."""
        self.snapshots: list[tuple[int, Snapshot]] = []
        self.commands: dict[bytes, list[Command]] = {}
        self.deaths: dict[int, int] = {}
        self.retries: dict[bytes, tuple[str, bytes]] = {}
        """Job → how it was made of another one, as far as that was acknowledged, and which."""
        self.sent: dict[int, Sent] = {}
        """Batches, by number."""
        self.rows: Rows = {}
        """Every job that was ever seen on disk, as it was seen last."""
        self.batches: Batches = {}
        """The same of batches."""
        self._takes: dict[tuple[str, bytes], int] = {}
        """(name, key) → from where on somebody may take the place of a job that has it."""
        self._asked: dict[int, tuple[int, Asked]] = {}
        self._of_batches: list[tuple[int, str, bytes]] = []
        """Commands to batches: they reach also what of the batch is stored before they are carried out."""
        self._of_kind: dict[type, list[tuple[int, Any]]] = {}
        for place, entry in enumerate(self.entries):
            kind = type(entry)
            self._of_kind.setdefault(kind, []).append((place, entry))
            if kind in _OF_RUNS:
                self.of_job.setdefault(getattr(entry, "job"), []).append((place, entry))  # noqa: B009 - what kind it is, is known by the set
            elif kind in _OF_ALL:
                self._sort(place, entry)
        for question in self._asked.values():
            self._answered(question, self.deaths.get(question[1].life, math.inf), question[1].job, None)

    def _sort(self, place: int, entry: Entry) -> None:
        match entry:
            case Opened() | Closed() | Quiet() | Died():
                self.snapshots.append((place, entry))
                self.rows.update(entry.rows)
                self.batches.update(entry.batches)
                self._note_retries(entry.rows)
                if isinstance(entry, Died):
                    self.deaths[entry.life] = place
            case Asked():
                self._asked[entry.number] = (place, entry)
                if entry.members:
                    self._of_batches.append((place, entry.command, entry.job))
                for taken in entry.takes:
                    self._takes.setdefault(taken, place)
            case Sent():
                self.sent[entry.number] = entry
            case Acked():
                self._answered(self._asked.pop(entry.number), place, entry.job, entry.status)
                if entry.row is not None:
                    self.rows[entry.job] = entry.row
                    if entry.row.retry_of is not None and entry.command.startswith("retry"):
                        self.retries[entry.job] = (entry.command, entry.row.retry_of)
            case Got():
                self._asked.pop(entry.number)
                self.rows.update(entry.rows)
                if entry.batch is not None:
                    self.batches[entry.batch_id] = entry.batch
            case Steered():
                self._answered(self._asked.pop(entry.number), place, b"", None, steered=True)
            case Refused() if not entry.unknown:
                self._asked.pop(entry.number)
            case _:
                pass

    def _note_retries(self, rows: Rows) -> None:
        for row in rows.values():
            if row.retry_of is not None:
                self.retries.setdefault(row.id, ("retry", row.retry_of))

    def _answered(self, question: tuple[int, Asked], end: float, job: bytes, status: Status | None, *, steered: bool = False) -> None:
        """`steered`: a command to a batch was carried out."""
        place, entry = question
        if not entry.members:
            self.commands.setdefault(job, []).append(Command(entry.command, job, entry.life, place, end, status))
        for member in entry.members:
            self.commands.setdefault(member, []).append(
                Command(entry.command, member, entry.life, place, end, _STEERED[entry.command] if steered else None)
            )

    def opened_since(self, life: int, place: int) -> bool:
        """Whether the library had been opened in a later life by then: one that died over its opening has recovered nothing."""
        return any(opened.life > life and at <= place for at, opened in self.of(Opened))

    def of(self, *kinds: type[E]) -> list[tuple[int, E]]:
        """The entries of these kinds in order, each with its place in the log."""
        if len(kinds) == 1:
            return self._of_kind.get(kinds[0], [])
        return sorted(itertools.chain.from_iterable(self._of_kind.get(kind, ()) for kind in kinds))

    def of_kind(self, job: bytes, kind: str) -> list[Command]:
        """Those of a job that may have been carried out: "pause", "resume" or "cancel"."""
        return [command for command in self.commands.get(job, ()) if command.kind == kind]

    def asked_before(self, job: bytes, place: float) -> frozenset[str]:
        """What was asked of a job up to a place; to take its place is to cancel it."""
        asked = {command.kind for command in self.commands.get(job, ()) if command.asked <= place}
        row = self.rows.get(job)
        if row is not None and row.key is not None and self._takes.get((row.name, row.key), math.inf) <= place:
            asked.add("cancel")
        by = None if row is None or row.superseded_by is None else self.rows.get(row.superseded_by)
        if by is not None and by.parent is not None:
            asked.add("cancel")  # a child that a running job spawned took its place: nobody was seen to ask for it
        for when, kind, batch_id in self._of_batches:
            if when <= place and batch_id in self.batches and self.batches[batch_id].has(job):
                asked.add(kind)
        if row is not None and row.parent is not None and row.parent != job:
            asked |= self.asked_before(row.parent, place) | {"cancel"}  # with whom it may also fail
        return frozenset(asked)


_STEERED = {"pause": Status.PAUSING, "resume": Status.QUEUED, "cancel": Status.CANCELLING}
"""What a job of a batch is at most, or least, when the command to its batch is answered."""


def short(job: bytes) -> str:
    """A job, for people: the end of its id, which differs."""
    return job.hex()[-8:]


# --- the table of lives, as far as it can be known from outside -------------------------------------------------------

_OF_COMMANDS = {Event.PAUSE: "pause", Event.RESUME: "resume", Event.CANCEL: "cancel"}
_NEVER_IN_A_LIFE = (Event.CRASH, Event.CRASH_FOR_GOOD)

_IMPLIED: dict[type[Fact], frozenset[Status]] = {
    JobQueued: frozenset((Status.QUEUED, Status.WAITING)),
    JobStarted: frozenset((Status.RUNNING,)),
    JobPausing: frozenset((Status.PAUSING,)),
    JobPaused: frozenset((Status.PAUSED,)),
    JobResumed: frozenset((Status.QUEUED, Status.RUNNING)),
    JobCancelling: frozenset((Status.CANCELLING,)),
    JobRequeued: frozenset((Status.QUEUED,)),
    JobFailed: frozenset((Status.FAILED,)),
    JobCancelled: frozenset((Status.CANCELLED,)),
    JobQuarantined: frozenset((Status.QUARANTINED,)),
}


def implied(fact: Fact) -> frozenset[Status]:
    """The statuses of which a fact says one; empty: it says none."""
    if isinstance(fact, JobCompleted):
        return frozenset((Status.COMPLETED_WITH_ERRORS if fact.errors else Status.COMPLETED,))
    return _IMPLIED.get(type(fact), frozenset())


@functools.lru_cache(maxsize=4_096)
def reachable(status: Status, asked: frozenset[str], claims: bool) -> frozenset[Status]:
    """What a job can be in the same life of the process after it was `status`: by commands that were `asked`, and by `claims`."""
    found = {status}
    waiting = [status]
    while waiting:
        before = waiting.pop()
        for (source, event), target in TRANSITIONS.items():
            if source is not before or target in found or event in _NEVER_IN_A_LIFE:
                continue
            if _OF_COMMANDS.get(event, "") not in ("", *asked) or (event is Event.CLAIM and not claims):
                continue
            found.add(target)
            waiting.append(target)
    return frozenset(found)
