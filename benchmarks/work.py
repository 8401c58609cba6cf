"""Jobs that several scenarios submit, and a library for them to be in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callboard import Job, Library, Runtime

PATIENCE = 1_200.0
"""Seconds to wait for work that has to end."""
TOMORROW = 86_400
"""Seconds of delay of jobs that are only to be queued."""


@dataclass
class Noop(Job, name="benchmark_noop"):
    """Nothing, durably."""

    number: int

    def run(self, ctx: object) -> None:
        return None


@contextmanager
def open_library(folder: Path, *, workers: int = 2, warm: bool = True) -> Iterator[Library]:
    """A new library in a new runtime. `warm`: one job has been through it."""
    with Runtime(workers=workers) as runtime:
        library = runtime.open_library(folder / "bench.library")
        if warm:
            library.submit(Noop(0)).wait(30)
        yield library


def drained(library: Library) -> None:
    """Returns when no job is live."""
    while library.statistics().live:
        time.sleep(0.001)
