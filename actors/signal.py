"""What a job's actor shares with others while user code runs and nobody can read its inbox. Each is set by one side and read by the other."""

from __future__ import annotations


class Signal:
    """The job wants its running tasks to stop."""

    __slots__ = ("stop",)

    def __init__(self) -> None:
        self.stop = False


class Pulse:
    """When a job actor last looked at its context: how the library tells a job that computes for long from one that does not look."""

    __slots__ = ("job_id", "looked_at", "waiting")

    def __init__(self) -> None:
        self.looked_at = 0.0
        """Monotonic seconds."""
        self.waiting = False
        """True while it waits inside the context, where everything reaches it."""
        self.job_id: bytes | None = None
        """What it runs; None: nothing."""
