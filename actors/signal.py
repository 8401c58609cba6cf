"""What a job's actor shares with others while user code runs and nobody can read its inbox. Each is set by one side and read by the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard.persistence.writes import Write


class Signal:
    """The job wants its running tasks to stop: all of them, or some."""

    __slots__ = ("cancelled", "for_good", "stop")

    def __init__(self) -> None:
        self.stop = False
        self.for_good = False
        """Set before `stop`: the job is being cancelled, nothing of it goes on later."""
        """All."""
        self.cancelled: set[int] = set()
        """These, by number."""

    def asks(self, number: int) -> bool:
        """Whether the task of this number is to stop."""
        return self.stop or number in self.cancelled


class Pulse:
    """When a job actor last looked at its context: how the library tells a job that computes for long from one that does not look."""

    __slots__ = ("ends", "job_id", "looked_at", "waiting")

    def __init__(self) -> None:
        self.looked_at = 0.0
        """Monotonic seconds."""
        self.waiting = False
        """True while it waits inside the context, where everything reaches it."""
        self.job_id: bytes | None = None
        """What it runs; None: nothing."""
        self.ends: deque[Write] = deque()
        """How the jobs of its hand ended, as far as not sent to the store: by the actor when there are enough, by the library when the
        actor has been long in the next job. Each piece is taken by exactly one of them, as of a `Hand`."""

    def take_ends(self) -> list[Write]:
        """What is to be sent to the store now."""
        taken: list[Write] = []
        while True:
            try:
                taken.append(self.ends.popleft())
            except IndexError:
                return taken
