"""`callboard copy`: one copy job brought to its end, by the library's owner if it has one, else by this process as the owner.

Whoever runs the job may vanish at any time: this process then takes its place. What it is, who runs it and how far it is stand in the
library, so the loop below begins anew from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from callboard.actors.frontends import json_view
from callboard.actors.frontends.client import Client
from callboard.actors.frontends.reach import PATIENCE, STEP, board
from callboard.actors.frontends.screen import Screen
from callboard.actors.frontends.signals import Signals
from callboard.actors.frontends.wording import count, duration, escaped, size
from callboard.actors.machine import Ports
from callboard.jobs.errors import CallboardError, LibraryBusy, LibraryClosed, NotAllowed, StoreUnavailable
from callboard.jobs.events import ENDS, FactsLost, JobPaused, JobQuarantined, LibraryDegraded
from callboard.jobs.files.copy import CopyFiles
from callboard.jobs.files.plan import check_plan
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import JobFilter, JobRecord
from callboard.persistence.codec import decode_map, encode
from callboard.persistence.jobdata import decode_result

DONE, SOME_FAILED, NOT_STARTED = 0, 1, 2
"""Exit codes; one more for each signal: 128 + its number."""
TAKE_OVER_SECONDS = 30.0
"""How long to wait for the library of an owner that has gone: it may still be bringing its jobs to a checkpoint."""
CLOSE_SECONDS = 10.0
"""For bringing jobs to a checkpoint at the end."""
LOOK_SECONDS = 5.0
"""The record is looked at this often when nothing is told."""
LISTED_MOST = 100
"""Failed files that are listed; `jobs show` has the others."""


class CopyRun:
    """One command. `run` gives its exit code."""

    def __init__(self, job: CopyFiles, library: Path, *, workers: int, as_json: bool, screen: Screen, ports: Ports) -> None:
        self._job = job
        self._path = library
        self._workers = workers
        self._json = as_json
        self._screen = screen
        self._ports = ports
        self._fields = decode_map(encode(job))
        self._key = b"copy:" + hashlib.blake2b(encode(job), digest_size=16).hexdigest().encode()
        self._job_id: bytes | None = None
        self._own = False
        """This process has the library open."""
        self._watching = False
        self._signals = Signals()

    def run(self) -> int:
        """0: all copied. 1: some failed, or the job was cancelled. 2: not started. 130, 143, 129: interrupted, and resumable."""
        with self._signals:
            try:
                return self._until_ended()
            finally:
                self._screen.close()

    def _until_ended(self) -> int:
        until = self._ports.monotonic() + PATIENCE
        while True:
            try:
                with self._seat(until) as client:
                    if client is not None:
                        return self._bring_to_end(client)
                return self._interrupted_between()
            except LibraryClosed:
                if self._own:
                    raise
                if self._watching:
                    self._watching = False
                    until = self._ports.monotonic() + TAKE_OVER_SECONDS
                    self._screen.note("the process that ran the copy has gone; going on with it here")
                elif self._ports.monotonic() >= until:
                    raise
            self._ports.sleep(STEP)

    # --- who runs it ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _seat(self, until: float) -> Iterator[Client | None]:
        """A conversation with the owner, which is this process if nobody else is; None if a signal came first. Raises `LibraryBusy`."""
        with contextlib.ExitStack() as stack:
            folder = Path(os.path.realpath(self._path))
            runtime = None
            while self._signals.taken is None:
                client = Client.reach(folder, self._ports) if folder.is_dir() else None
                self._own = client is None
                if client is None:
                    from callboard.actors.runtime import Runtime

                    if runtime is None:
                        runtime = stack.enter_context(contextlib.closing(Runtime(workers=self._workers)))
                    try:
                        client = Client(runtime.connect(runtime.open_library(folder, runs="own")), self._ports)
                    except LibraryBusy:
                        if self._ports.monotonic() >= until:
                            raise
                        self._ports.sleep(STEP)
                        continue
                stack.callback(client.close)
                yield client
                return
            yield None

    # --- the job ----------------------------------------------------------------------------------------------------

    def _bring_to_end(self, client: Client) -> int:
        first = self._job_id is None
        if first and not client.page(JobFilter(name=CopyFiles.job_name, key=self._key, limit=1), ended=False):
            problems = check_plan([os.fsencode(source) for source in self._job.sources], os.fsencode(self._job.target))
            if problems:
                return self._not_started([problem.text for problem in problems])
        if self._job_id is not None:
            record = client.record(self._job_id)
            if record.status.ended:
                return self._conclude(client, record)
        submitted = client.submit_and_follow(CopyFiles.job_name, self._fields, self._key, "callboard copy")
        self._job_id = submitted.job_id
        record = client.record(submitted.job_id)
        if first and record.status in (Status.PAUSED, Status.PAUSING, Status.QUARANTINED):
            client.resume(record.id)
            record = client.record(record.id)
        self._watching = True
        if submitted.duplicate or record.status.ended:
            self._screen.begin(record)
        return self._watch(client, record)

    def _watch(self, client: Client, record: JobRecord) -> int:
        while not record.status.ended and record.status is not Status.QUARANTINED:
            event = client.next_event(LOOK_SECONDS, self._signals.fileno())
            if self._signals.taken is not None:
                return self._interrupted(client, record)
            if event is not None and getattr(event, "job_id", record.id) == record.id:
                self._screen.event(event)
            if isinstance(event, JobPaused):
                self._screen.note(f"`callboard jobs resume {record.id_text}` lets it go on; Ctrl-C leaves it paused")
            if isinstance(event, LibraryDegraded):
                raise StoreUnavailable(event.error)
            if event is None or isinstance(event, (*ENDS, FactsLost, JobQuarantined)):
                record = client.record(record.id)
        return self._conclude(client, record)

    def _interrupted(self, client: Client, record: JobRecord) -> int:
        """Ctrl-C pauses the job, so that it waits for its user; another signal leaves it to whoever opens the library next."""
        if self._signals.taken != signal.SIGINT:
            return self._stopped("stopped" if self._own else "no longer watched; the library's owner goes on with it")
        try:
            client.pause(record.id)
        except NotAllowed:  # it ended at the same moment
            return self._conclude(client, client.record(record.id))
        return self._stopped("interrupted and paused")

    def _interrupted_between(self) -> int:
        """A signal came while nobody had the library."""
        if self._job_id is None:
            return self._stopped("interrupted before it had begun")
        if self._signals.taken == signal.SIGINT:
            with board(self._path, self._ports) as anyone, contextlib.suppress(NotAllowed):
                anyone.pause(self._job_id)
        return self._stopped("interrupted")

    # --- what is said at the end ------------------------------------------------------------------------------------

    def _stopped(self, what: str) -> int:
        code = self._signals.exit_code
        self._screen.close()
        if self._json:
            job_id = None if self._job_id is None else id_text(self._job_id)
            print(json_view.line({"event": "interrupted", "id": job_id, "exit_code": code}), flush=True)
        else:
            print(f"{what}; the same command goes on where it stopped:\n    {self._command()}", file=sys.stderr, flush=True)
        return code

    def _command(self) -> str:
        return escaped(shlex.join(["callboard", *sys.argv[1:]]))

    def _not_started(self, problems: Sequence[str]) -> int:
        self._screen.close()
        if self._json:
            print(json_view.line({"event": "not_started", "problems": problems, "exit_code": NOT_STARTED}), flush=True)
        for problem in problems:
            print(f"callboard copy: {escaped(problem)}", file=sys.stderr, flush=True)
        return NOT_STARTED

    def _conclude(self, client: Client, record: JobRecord) -> int:
        self._screen.close()
        if record.status is Status.FAILED and record.progress is None:
            return self._not_started([record.error or "it failed"])
        code = DONE if record.status is Status.COMPLETED else SOME_FAILED
        failed = client.warnings(record.id, limit=LISTED_MOST)
        result = _result(record)
        if self._json:
            listed = [{"item": each.item, "message": each.message} for each in failed]
            view = {"id": record.id_text, "status": str(record.status), "error": record.error, "result": result, "failed": listed}
            figures = {"errors": record.warnings, "seconds": record.running_seconds, "exit_code": code}
            print(json_view.line({"event": "result", **view, **figures}), flush=True)
            return code
        for each in failed:
            item = "" if each.item is None else f"{escaped(each.item)}: "
            print(f"failed: {item}{escaped(each.message)}", file=sys.stderr)
        show = f"callboard jobs show {record.id_text}"
        if record.warnings > len(failed):
            print(f"failed: {record.warnings - len(failed):,} more; see: {show}", file=sys.stderr)
        if record.error:
            print(f"callboard copy: {record.status}: {escaped(record.error)}", file=sys.stderr)
        sys.stderr.flush()
        print(_summary(record, result), flush=True)
        return code


def _result(record: JobRecord) -> dict[str, int]:
    try:
        result = decode_result(record.result)
    except CallboardError:
        return {}
    return result if isinstance(result, dict) else {}


def _summary(record: JobRecord, result: dict[str, int]) -> str:
    if not result:
        return f"{record.status}"
    parts = [count(result.get("files", 0), "file")]
    for name in ("links", "folders"):
        if result.get(name):
            parts.append(count(result[name], name[:-1]))
    seconds, copied = record.running_seconds, result.get("size", 0)
    text = f"copied {', '.join(parts)}, {size(copied)} in {duration(seconds)}"
    if seconds >= 0.1:
        text += f" ({size(copied / seconds)}/s)"
    if result.get("skipped"):
        text += f", skipped {result['skipped']:,}"
    if record.warnings:
        text += f", {record.warnings:,} failed"
    if result.get("notes"):
        text += f"; {count(result['notes'], 'note')} in: callboard jobs log {record.id_text}"
    return text
