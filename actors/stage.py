"""Where jobs run: what a library actor is given, whom a job actor talks to, and the process that they are part of."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from callboard.actors.messages import Ref


class Stage(NamedTuple):
    """One an open library."""

    library: Ref
    store: Ref
    reader: Ref
    hub: Ref
    dispatcher: Ref
    stream: bytes
    services: Any
    log_folder: Path | None
    workers: int


class LibraryParts(NamedTuple):
    """What a library actor is given."""

    store: Ref
    reader: Ref
    hub: Ref
    dispatcher: Ref
    stream: bytes
    epoch: int
    services: Any
    log_folder: Path | None
    workers: int
    running_jobs: int
    next_due_ms: int | None
    suspects: int
    left: Callable[[Ref], None]
    """Told of each job actor on which no user code runs any more."""
    joined: Callable[[Ref], None]
    """Told of each job actor that is started."""
    own_only: bool = False
    """Run only what is submitted while the library is open, a job of the same key that stands already included."""


WHY = {"pause": "asked to pause", "cancel": "asked to cancel", "close": "the library is closing", "disk": "the disk is full"}
"""What a job is asked to leave for, as its Interrupted says it."""


def memory_mb() -> float:
    """Most memory this process has had resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
