"""What a caller holds of a batch: how far it is, wait for it, steer it. For threads and for asyncio; actors use messages."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from callboard.actors.handle import settled
from callboard.actors.messages import AddChunk, CancelBatch, PauseBatch, ResumeBatch, WatchBatch
from callboard.jobs.identity import id_text
from callboard.jobs.record import BatchRecord, JobPage
from callboard.persistence.writes import Chunk

if TYPE_CHECKING:
    from callboard.actors.door import Library

SEAL_SECONDS = 60.0
"""As long as any answer is waited for."""


class BatchHandle:
    """One batch. Thread-safe; cheap to make and to drop."""

    def __init__(self, library: Library, batch_id: bytes) -> None:
        self._library = library
        self.id = batch_id
        """16 bytes."""

    def __repr__(self) -> str:
        return f"<BatchHandle {self.id_text}>"

    @property
    def id_text(self) -> str:
        """The id as people write it."""
        return id_text(self.id)

    def record(self) -> BatchRecord:
        """All the library knows of it; the record has the counts. Raises `NoSuchBatch`."""
        return self._library.batch_record(self.id)

    def states(self) -> dict[str, int]:
        """Status → how many of its jobs have it; statuses that none has are left out."""
        return dict(self.record().states or {})

    def progress(self) -> float:
        """Which part of its jobs has ended, 0 to 1."""
        record = self.record()
        return 1.0 - record.open / record.jobs if record.jobs else 1.0

    def wait(self, timeout: float | None = None) -> BatchRecord:
        """Until its last job has ended, however: the record's `states` say how. Raises `NoAnswer` after `timeout` seconds (None: waits for ever).

        A batch whose last part was never sent (its outcome is not `complete`) has no last job: it is waited for, and its `on_complete` waits,
        until the rest is sent under its `batch_id`, or `seal` says that there is none.
        """
        self._watch().get(timeout=timeout)
        return self.record()

    def seal(self) -> BatchRecord:
        """Say that nothing more of it is sent: what is stored is all. Answered when that is on disk; harmless twice, and of a complete batch.

        A part that is sent later is refused with `BatchMismatch`; so is this, if another part is stored at the same moment. `NoSuchBatch`.
        """
        future = self._library.ports.future()
        nothing_more = Chunk(self.id, self.record().count, 0, (), None, (), (), b"", True)
        self._library.tell(AddChunk(nothing_more, future, None))
        future.get(timeout=SEAL_SECONDS)
        return self.record()

    def pause(self) -> int:
        """Pause every job of it that has not ended; answered when that is on disk. How many have another status now: a running one that is
        not resumable runs on."""
        return self._steer(PauseBatch(self.id))

    def resume(self) -> int:
        """Lift a user's pause from all of them. How many have another status now."""
        return self._steer(ResumeBatch(self.id))

    def cancel(self) -> int:
        """Cancel every job of it that has not ended. How many have another status now."""
        return self._steer(CancelBatch(self.id))

    def jobs(self, **which: Any) -> JobPage:
        """Its live jobs in order of arrival; `which`: the fields of `JobFilter`."""
        return self._library.jobs(batch=self.id, **which)

    def history(self, **which: Any) -> JobPage:
        """Its ended jobs, the latest arrival first; `which`: the fields of `JobFilter`."""
        return self._library.history(batch=self.id, **which)

    def __await__(self) -> Generator[Any, None, BatchRecord]:
        """As `wait`, without blocking the event loop."""
        return self._await().__await__()

    async def _await(self) -> BatchRecord:
        watched = self._watch()
        await settled(watched)
        watched.get(timeout=0)
        return self.record()

    def _watch(self) -> Any:
        future = self._library.ports.future()
        self._library.tell(WatchBatch(self.id, future))
        return future

    def _steer(self, message: PauseBatch | ResumeBatch | CancelBatch) -> int:
        count: int = self._library.ask(message)
        return count
