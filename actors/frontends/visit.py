"""A visit to a library that nobody has open: its lock is taken for one request; nothing is recovered and nothing runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import callboard.jobs.files.copy  # noqa: F401 - registers it, so that a copy that waits is not called unknown
from callboard.actors.machine import Ports
from callboard.actors.named_items import Item, part_of, part_view
from callboard.jobs.lifecycle import PAUSER_BITS, RESUMED_BY_USER, Event, Pauser, Status
from callboard.jobs.record import BatchRecord, JobFilter, JobRecord, Statistics, Warned
from callboard.jobs.registry import REGISTRY
from callboard.jobs.submission import Submitted
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.queries import Reader
from callboard.persistence.store import Store
from callboard.persistence.writes import ChunkStored, InsertAgain, InsertChunk, IntentSet, SetIntent, Write


class Visit:
    """Made by `enter`; holds the lock until it is closed. Raises what the library's folder raises."""

    owned = False

    def __init__(self, folder: LibraryFolder, ports: Ports) -> None:
        self._folder = folder
        self._ports = ports
        self._reader = Reader(folder.reader(), REGISTRY.why_not)

    @classmethod
    def enter(cls, path: Path, ports: Ports) -> Visit:
        """Raises `LibraryBusy` at once if somebody has the library, `NotALibrary` if there is none, and as `LibraryFolder.open`."""
        folder = LibraryFolder.open(path, create=False, stays=False)
        try:
            return cls(folder, ports)
        except BaseException:
            folder.close(folder.was_clean)
            raise

    def close(self) -> None:
        """Leave the library as it was found: one that its owner did not close is still to be recovered by the next one."""
        self._folder.close(self._folder.was_clean)

    def record(self, job_id: bytes) -> JobRecord:
        """Raises `NoSuchJob`."""
        return self._reader.job(job_id)

    def page(self, wanted: JobFilter, *, ended: bool) -> tuple[JobRecord, ...]:
        """Live or ended jobs."""
        return tuple(self._reader.history(wanted) if ended else self._reader.jobs(wanted))

    def warnings(self, job_id: bytes, after: int = 0, limit: int = 1000) -> tuple[Warned, ...]:
        return tuple(self._reader.warnings(job_id, after, limit))

    def children(self, job_id: bytes) -> tuple[int, int]:
        return self._reader.children_of(job_id)

    def statistics(self) -> Statistics:
        return self._reader.statistics()

    def pause(self, job_id: bytes) -> Status:
        return self._intend(job_id, Event.PAUSE, PAUSER_BITS[Pauser.USER])

    def resume(self, job_id: bytes) -> Status:
        """Only lifts the pause: nobody is here to run the job."""
        return self._intend(job_id, Event.RESUME, RESUMED_BY_USER)

    def cancel(self, job_id: bytes) -> Status:
        return self._intend(job_id, Event.CANCEL, 0)

    def retry(self, job_id: bytes, ledger: Any) -> Submitted:
        submitted = self._commit(InsertAgain(job_id, ledger))
        assert isinstance(submitted, Submitted)
        return submitted

    def add_items(
        self, name: str, batch_id: bytes, start: int, items: Sequence[Item], options: Mapping[str, object], *, last: bool, plan: bool
    ) -> dict[str, Any]:
        """As `Client.add_items`; nobody is here to run the jobs."""
        chunk = part_of(name, batch_id, start, items, options, last=last)
        if plan:
            return part_view(self._reader.plan(chunk, int(self._ports.wall() * 1000)))
        who = options.get("requested_by")
        stored = self._commit(InsertChunk(chunk, who if isinstance(who, str) else None))
        assert isinstance(stored, ChunkStored)
        return part_view(stored.outcome)

    def batch(self, batch_id: bytes) -> BatchRecord:
        return self._reader.batch(batch_id)

    def batches(self, before: bytes | None, limit: int) -> tuple[BatchRecord, ...]:
        return tuple(self._reader.batches(limit, before))

    def _intend(self, job_id: bytes, event: Event, pauser: int) -> Status:
        done = self._commit(SetIntent(job_id, event, pauser))
        assert isinstance(done, IntentSet)
        return done.after

    def _commit(self, write: Write) -> object:
        store = Store(
            self._folder, now_ms=lambda: int(self._ports.wall() * 1000), random_bytes=self._ports.random_bytes, knows=REGISTRY.knows
        )
        [answer] = store.commit([write])
        if isinstance(answer, Exception):
            raise answer
        return answer
