"""What a group of writes has brought about beside its answers, as data."""

from __future__ import annotations

from typing import NamedTuple

from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import Submitted


class Advanced(NamedTuple):
    """A successor has come into line: the job in front of it has ended."""

    job_id: bytes
    name: str
    status: Status
    """QUEUED, or PAUSED if somebody wants it paused."""


class Replaced(NamedTuple):
    """A newer job of its key has taken this one's place."""

    job_id: bytes
    name: str
    by: bytes
    ended: bool
    """True: it is cancelled. False: it runs, and is to be cancelled: interrupt it."""


class BatchOver(NamedTuple):
    """The last job of a batch has ended."""

    batch_id: bytes
    counts: dict[str, int]
    """How many of its jobs ended with which status."""
    on_complete: Submitted | None
    """The job that was queued for that."""


class EndedLater(NamedTuple):
    """A parent that was held at its end has ended: its last child has."""

    job_id: bytes
    name: str
    status: Status
    result: bytes | None
    error: str | None
    traceback: str | None
    warned: int
    superseded_by: bytes | None


class Aftermath(NamedTuple):
    """What a group has brought about beside its answers."""

    advanced: list[Advanced]
    """Successors, and parents whose children have ended."""
    replaced: list[Replaced]
    over: list[BatchOver]
    ended: list[EndedLater]
    shrunk: list[bytes]
    """Batches some of whose jobs have ended."""
    cascades: list[bool]
    """[True]: children are to be told what is wanted of their parents: write a `Cascade`."""
    admitted: list[bool]
    """[True]: jobs that were kept back have come into line."""


def nothing_besides() -> Aftermath:
    """To be filled."""
    return Aftermath([], [], [], [], [], [], [])
