"""`callboard resume`: a library is opened, and all of its jobs that can run are brought to their end, save those that a user paused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from callboard.actors.door import Library
from callboard.actors.frontends import json_view
from callboard.actors.frontends.reach import library_at
from callboard.actors.frontends.screen import Screen
from callboard.actors.frontends.signals import Signals
from callboard.actors.frontends.wording import clock, count, escaped
from callboard.actors.machine import Ports
from callboard.actors.postbox import Postbox
from callboard.actors.runtime import Runtime
from callboard.jobs.errors import NotAllowed, StoreUnavailable
from callboard.jobs.events import (
    ENDS,
    Fact,
    FactsLost,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobQuarantined,
    JobRequeued,
    LibraryDegraded,
    ProgressMade,
)  # fmt: skip
from callboard.jobs.lifecycle import Pauser, Status
from callboard.jobs.record import JobRecord

PAGE = 1_000
LOOK_FIRST, LOOK_AT_MOST = 0.2, 5.0
"""Seconds between two looks whether anything is left to run; they double while nothing happens."""
LAG = 10_000


class ResumeRun:
    """One command. `run` gives its exit code."""

    def __init__(self, library: Path, *, workers: int, as_json: bool, screen: Screen, ports: Ports) -> None:
        self._path = library
        self._workers = workers
        self._json = as_json
        self._screen = screen
        self._ports = ports
        self._box = Postbox(ports)
        self._signals = Signals(lambda: self._box.tell(None))
        self._counts = {"completed": 0, "with errors": 0, "failed": 0, "cancelled": 0}

    def run(self) -> int:
        """0: all ended well and nothing was passed over. 1: something failed or was passed over. 130, 143, 129: interrupted."""
        folder = library_at(self._path)
        with self._signals:
            try:
                with Runtime(workers=self._workers) as runtime:
                    library = runtime.open_library(folder, create=False)
                    self._listen(library)
                    self._let_go_on(library)
                    self._run_all(library)
                    over = [] if self._signals.taken else list(self._passed_over(library))
            finally:
                self._screen.close()
                self._box.close()
            return self._conclude(over)

    def _listen(self, library: Library) -> None:
        """All facts since the opening: those told before anybody listened are asked for."""
        since = library.subscribe(self._box, lag=LAG)  # type: ignore[arg-type]  # a postbox stands for an actor
        for fact in library.facts_since(since[0], 0, max(1, since[1])):
            self._take(fact)

    def _let_go_on(self, library: Library) -> None:
        """A job that paused itself goes on: only a user's pause is left alone."""
        for record in self._live(library, Status.PAUSED):
            if record.pausers <= {Pauser.JOB}:
                try:
                    library.resume(record.id)
                except NotAllowed:
                    continue

    def _run_all(self, library: Library) -> None:
        patience, next_look = LOOK_FIRST, self._ports.monotonic()
        while self._signals.taken is None:
            now = self._ports.monotonic()
            if now >= next_look:
                if not self._anything_left(library):
                    break
                patience, next_look = min(2 * patience, LOOK_AT_MOST), now + patience
            event = self._box.take(next_look - now if next_look > now else 0.0)
            if event is None:
                continue
            if isinstance(event, FactsLost):
                for fact in library.facts_since(event.epoch, event.first - 1, event.last - event.first + 1):
                    self._take(fact)
            self._take(event)
            if isinstance(event, (*ENDS, JobPaused, JobRequeued, JobQuarantined)):
                patience, next_look = LOOK_FIRST, min(next_look, now + LOOK_FIRST)
        while self._signals.taken is None and (event := self._box.take(0.0)) is not None:
            self._take(event)

    def _take(self, event: object) -> None:
        match event:
            case JobCompleted():
                self._counts["with errors" if event.errors else "completed"] += 1
            case JobFailed():
                self._counts["failed"] += 1
            case LibraryDegraded():
                raise StoreUnavailable(event.error)
            case Fact() if isinstance(event, ENDS):
                self._counts["cancelled"] += 1
        if isinstance(event, (Fact, ProgressMade)):
            self._screen.event(event)

    def _anything_left(self, library: Library) -> bool:
        if self._any_held(library):
            return True
        if any(record.passed_over is None for record in self._live(library, Status.QUEUED)):
            return True
        return self._any_held(library)  # one that waited at the first look and was claimed before the second

    def _any_held(self, library: Library) -> bool:
        live = library.statistics().live
        return any(live.get(status, 0) for status in (Status.RUNNING, Status.PAUSING, Status.CANCELLING))

    def _passed_over(self, library: Library) -> Iterator[tuple[JobRecord, str]]:
        for record in self._live(library, None):
            if record.status is Status.PAUSED:
                by = "a user" if Pauser.USER in record.pausers else ", ".join(sorted(record.pausers)) or "nobody"
                why = "paused by itself" if record.pausers == {Pauser.JOB} else f"paused by {by}"
                yield record, why + (f": {record.error}" if record.error else "")
            elif record.status is Status.QUARANTINED:
                yield record, f"quarantined: {record.error or 'it is damaged'}"
            else:
                yield record, record.passed_over or f"{record.status}, until {clock(record.run_at)}"

    def _live(self, library: Library, status: Status | None) -> Iterator[JobRecord]:
        after: bytes | None = None
        while True:
            records = library.jobs(status=status, after=after, limit=PAGE).records
            yield from records
            if len(records) < PAGE:
                return
            after = records[-1].id

    def _conclude(self, over: list[tuple[JobRecord, str]]) -> int:
        counts, code = self._counts, self._signals.exit_code
        if self._signals.taken is None:
            code = 1 if over or counts["failed"] or counts["with errors"] else 0
        if self._json:
            listed = [{"id": record.id_text, "name": record.name, "why": why} for record, why in over]
            print(json_view.line({"event": "result", "ended": counts, "passed_over": listed, "exit_code": code}), flush=True)
            return code
        for record, why in over:
            print(f"passed over: {record.id_text} {escaped(record.name)}: {escaped(why)}", file=sys.stderr)
        if self._signals.taken is not None:
            print("stopped; jobs go on where they stopped with the same command", file=sys.stderr)
        sys.stderr.flush()
        ended = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
        print((f"{count(sum(counts.values()), 'job')} ended: {ended}" if ended else "no job ended"), flush=True)
        return code
