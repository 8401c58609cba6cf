"""`drain`: wait until a library has nothing left to run that could run."""

from __future__ import annotations

import time

from callboard.actors.door import Library
from callboard.jobs.lifecycle import Status

LOOK_SECONDS = 0.005
HELD = (Status.RUNNING, Status.PAUSING, Status.CANCELLING)
PAGE = 1_000


def drain(library: Library, timeout: float = 60.0) -> None:
    """Wait until no job of it runs and none that is queued could start: each has ended, is paused, waits for its time, or is passed over.

    What was submitted before is seen, as it is on disk. A job that sleeps in its `run` runs. Raises TimeoutError after
    `timeout` seconds of real time, with what still runs.
    """
    until = time.monotonic() + timeout
    while busy := _busy(library):
        if time.monotonic() >= until:
            raise TimeoutError(f"after {timeout:g} s the library still has: {', '.join(busy[:5])}{' and more' if len(busy) > 5 else ''}")
        time.sleep(LOOK_SECONDS)


def _busy(library: Library) -> list[str]:
    """What runs or could; empty only if there was nothing at one moment: what is claimed between two looks is seen by the last."""
    return _held(library) or _ready(library) or _held(library)


def _held(library: Library) -> list[str]:
    live = library.statistics().live
    return [f"{live[status]} {status}" for status in HELD if live.get(status, 0)]


def _ready(library: Library) -> list[str]:
    after: bytes | None = None
    while True:
        records = library.jobs(status=Status.QUEUED, after=after, limit=PAGE).records
        now = library.ports.wall()
        for record in records:
            if record.passed_over is None and not record.kept_back and (record.run_at is None or record.run_at <= now):
                return [f"{record.id_text} {record.name} queued"]
        if len(records) < PAGE:
            return []
        after = records[-1].id
