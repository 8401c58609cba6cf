"""The write side of a library: a group of writes, one transaction, one answer each. What is answered is on disk.

Fail-stop. An error before COMMIT rolls back: nothing of the group is stored (`NotAccepted`). A COMMIT that fails is neither stored nor not
stored until it is looked at: the connection is closed, opened anew, and the group's *evidence* (a row that only this group can have
written) is looked for. Found: the WAL is checkpointed, which syncs it, before anything is acknowledged; reading the row back alone proves
nothing about the disk. Not found: a clean `NotAccepted`. If that fails too: `OutcomeUnknown`, and the store takes nothing more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import apsw

from callboard.jobs.errors import CallboardError, DiskFull, NotAccepted, OutcomeUnknown, StoreUnavailable
from callboard.jobs.identity import IdSource
from callboard.jobs.lifecycle import PAUSER_BITS, Pauser, Status
from callboard.jobs.submission import Submitted
from callboard.persistence import damage, full
from callboard.persistence.aftermath import Aftermath, nothing_besides
from callboard.persistence.applying import GroupWriter, applied_rank
from callboard.persistence.claiming import with_checkpoint
from callboard.persistence.wal import Wal
from callboard.persistence.writes import (
    Answer,
    ChunkStored,
    Claim,
    Claimed,
    End,
    Insert,
    InsertAgain,
    InsertChunk,
    MakeDue,
    SaveCheckpoint,
    SpawnChildren,
    Write,
)  # fmt: skip

log = logging.getLogger("callboard.store")

Evidence = tuple[str, tuple[bytes | int, ...]]
"""SQL and its bindings."""
NOTHING_WRITTEN: Evidence = ("SELECT 1", ())
"""Then it makes no difference whether the transaction was committed."""

BROKEN = (apsw.IOError, apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)
"""After these the connection is not to be trusted. A full disk is not among them: it says clearly that nothing was written."""

DAMAGED = (apsw.CorruptError, apsw.NotADBError)
DAMAGED_MOST = 10
"""So many groups in turn that met a damaged page: what is written has no way around it, and to open the database anew mends nothing."""

READERS_LEAVE_MS = 2_000
"""How long the truncation of the WAL after an I/O error waits for readers."""

NEEDS_ROOM = (Insert, InsertChunk, SpawnChildren, InsertAgain, Claim)
"""What waits until a full disk has room again."""

PAUSED_FOR_DISK = f"""
SELECT id FROM jobs WHERE status IN ('pausing', 'paused') AND status <> 'queued' AND pausers & {PAUSER_BITS[Pauser.DISK]}"""

MARK = "INSERT OR REPLACE INTO meta (key, value) VALUES ('group', ?)"
LAST_ID = """
SELECT max(last) FROM (
  SELECT max(id) AS last FROM jobs WHERE id < ?1 UNION ALL SELECT max(id) FROM job_history WHERE id < ?1
  UNION ALL SELECT max(last_id) FROM batch_chunks WHERE last_id < ?1 AND last_id IS NOT NULL
)"""
LATEST_ID = (253_402_300_800_000 << 80).to_bytes(16, "big")
"""Of the year 10000. A higher one is damage, and there would be none left to give after it."""


class Misplaced(apsw.CantOpenError):
    """What was written now would go to a file that nobody finds again."""


class Place(Protocol):
    """Where the store's connection comes from; `persistence/folder.py` is one."""

    @property
    def writer(self) -> apsw.Connection: ...

    def reopen(self) -> None:
        """Close every connection, whatever state it is in, and open a new writer. The lock stays held."""
        ...

    def in_place(self) -> bool:
        """The database and its WAL are still where the next opener will look for them: what is written to a file without a name is lost."""
        ...

    def rescue(self) -> None:
        """It is not in place: see to it that what was stored is found all the same, if that can be."""
        ...

    def free_reserve(self) -> None:
        """Give up the room on the disk that was kept for the day it is full."""
        ...

    def find_room(self) -> bool:
        """Whether there is room again, for that reserve too."""
        ...


class Store:
    """Owned by one thread at a time."""

    def __init__(
        self,
        place: Place,
        *,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        knows: Callable[[str, int], bool],
        max_queued: int | None = None,
        max_queued_per_group: int | None = None,
    ) -> None:
        """`max_queued`: live jobs of the library, and of each group in it; a new one over it is answered with `Busy`. None: no limit."""
        self._place = place
        self._con = place.writer
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._knows = knows
        self._limits = max_queued, max_queued_per_group
        self._ids = IdSource(self._con.execute(LAST_ID, (LATEST_ID,)).get)
        self.failure: str | None = None
        """Why the store takes nothing more; None while it does."""
        self.full = False
        """The disk is: nothing new is taken and nothing starts, so that what runs can be paused and ended."""
        self._damaged = 0
        """Groups since the last that was stored that met a damaged page."""
        self._line = self._begin()
        self._aftermath = nothing_besides()

    def commit(self, writes: Sequence[Write]) -> list[Answer]:
        """Apply all, in one transaction. An answer that is an Exception means: this write was refused or is not stored."""
        if not writes:
            return []
        if self.failure is not None:
            return [StoreUnavailable(self.failure) for _ in writes]
        if self.full and any(isinstance(write, NEEDS_ROOM) for write in writes):
            rest = iter(self.commit([write for write in writes if not isinstance(write, NEEDS_ROOM)]))
            return [_turned_away(write) if isinstance(write, NEEDS_ROOM) else next(rest) for write in writes]
        answers: list[Answer] = []
        evidence: Evidence | None = None
        try:
            self._con.execute("BEGIN IMMEDIATE")
            before = self._con.total_changes()
            answers = self._line.apply(writes, self._now_ms())
            if not self._place.in_place():
                raise Misplaced("jobs.db or its -wal was removed or replaced while it was open")
            evidence = self._evidence(writes, answers) if self._con.total_changes() != before else NOTHING_WRITTEN
            self._con.execute("COMMIT")
            self._keep_aftermath()
            self._damaged = 0 if evidence is not NOTHING_WRITTEN else self._damaged
        except Exception as error:  # noqa: BLE001 - also what a damaged row makes of a conversion: UnicodeDecodeError, ValueError
            problem = full.told(error, self._con)
        else:
            return self._look_for_checkpoints(writes, answers) if self._line.claimed_again else answers
        return self._refuse(writes, problem) if evidence is None else self._settle(writes, answers, evidence, problem)

    def _look_for_checkpoints(self, writes: Sequence[Write], answers: list[Answer]) -> list[Answer]:
        """The group is stored. Most that are claimed again were dealt and given back, and have none; to load it would be a visit to the reader."""
        stored = with_checkpoint(self._con, self._line.claimed_again)
        for index, answer in enumerate(answers):
            if isinstance(writes[index], Claim) and isinstance(answer, tuple):
                claimed: Iterable[Claimed] = answer
                answers[index] = tuple(
                    each._replace(has_checkpoint=False) if each.has_checkpoint and each.job_id not in stored else each for each in claimed
                )
        return answers

    def find_room(self) -> list[bytes] | None:
        """After the disk was full, or at the beginning: None if it still is; else the jobs that were paused for it, which may go on."""
        if self.failure is not None or not self._place.find_room():
            return None
        self.full = False
        return self.paused_for_disk()

    def paused_for_disk(self) -> list[bytes]:
        found: list[Any] = self._con.execute(PAUSED_FOR_DISK).fetchall()
        return [job_id for (job_id,) in found]

    def take_aftermath(self) -> Aftermath:
        """What the groups since the last call have brought about beside their answers; all of it is on disk."""
        taken, self._aftermath = self._aftermath, nothing_besides()
        return taken

    def _keep_aftermath(self, aftermath: Aftermath | None = None) -> None:
        new: tuple[list[Any], ...] = aftermath or self._line.aftermath
        if any(new):
            kept: tuple[list[Any], ...] = self._aftermath
            for of_kind, more in zip(kept, new, strict=True):
                of_kind.extend(more)

    def tidy(self) -> None:
        """Keep the WAL short, and its file long enough. Outside the way to any acknowledgement; an error here touches none.

        A sync that failed is not tried again through the same handle: the database is opened anew, and all of the WAL moved again later.
        """
        if self.failure is None:
            error = self._wal.tidy()
            if error is not None and isinstance(full.told(error, self._con), BROKEN):
                self._reopen(error)

    def next_due_ms(self) -> int | None:
        """When the next job that waits for its time is due, in ms since the epoch."""
        return self._line.next_due_ms()

    def suspects(self) -> int:
        """How many jobs wait to run alone."""
        return self._line.suspects()

    # --- failing ----------------------------------------------------------------------------------------------------

    def _evidence(self, writes: Sequence[Write], answers: Sequence[Answer]) -> Evidence:
        """A query that answers with a row if, and only if, this group is stored. Without one in the group itself, a mark is written; also by the
        first group of a WAL, as the page with the mark says whose WAL it is (`persistence/birthmark.py`).
        """
        found = None if self._wal.begins else _in_group(writes, answers)
        if found is None:
            mark = self._random_bytes(8)
            self._con.execute(MARK, (mark,))
            found = "SELECT 1 FROM meta WHERE key = 'group' AND value = ?", (mark,)
        return found

    def _refuse(self, writes: Sequence[Write], error: Exception) -> list[Answer]:
        """Nothing of the group is stored. If one write alone is to blame, the others are stored without it."""
        self._line.forget()
        broken = isinstance(error, BROKEN)
        try:
            if self._con.in_transaction:
                self._con.execute("ROLLBACK")
        except apsw.Error:
            broken = True
        if isinstance(error, Misplaced):
            self._place.rescue()
        if broken:
            self._reopen(error)
        elif isinstance(error, apsw.FullError):
            return self._without_room(writes)
        elif len(writes) > 1:
            return self._commit_halves(writes)
        elif isinstance(writes[0], (Claim, MakeDue)) and self._set_aside():
            return self.commit(writes)
        else:
            log.error("a write was refused: %s", error, exc_info=error)
        if isinstance(error, CallboardError):
            return [error for _ in writes]
        return [NotAccepted(f"not stored: {type(error).__name__}: {error}") for _ in writes]

    def _without_room(self, writes: Sequence[Write]) -> list[Answer]:
        """Nothing of the group is stored. The reserve is given up, for those that pause and end; the WAL is moved, so that it need not grow."""
        if self.failure is None and not self.full:
            self.full = True
            log.error("the disk is full: jobs are paused until there is room again")
            self._place.free_reserve()
            try:
                self._con.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.Error as error:
                log.warning("the WAL could not be checkpointed: %s", error)
                if isinstance(full.told(error, self._con), BROKEN):  # as in `tidy`: no sync is asked for again through that handle
                    self._reopen(error)
            return self.commit(writes)
        return self._commit_halves(writes) if len(writes) > 1 else [_turned_away(write) for write in writes]

    def _set_aside(self) -> bool:
        """What goes over many rows was refused: perhaps there is a damaged one among them. True if there was."""
        try:
            found = damage.set_aside(self._con)
        except apsw.Error as error:
            log.error("a damaged job could not be set aside: %s", error)
            return False
        if found:
            log.error("%d damaged jobs were quarantined", found)
        return found > 0

    def _commit_halves(self, writes: Sequence[Write]) -> list[Answer]:
        """In the order in which they would have been applied together, as they are told of in that order."""
        order = sorted(range(len(writes)), key=lambda index: applied_rank(writes[index]))
        ordered, middle = [writes[index] for index in order], len(writes) // 2
        answers: list[Answer] = [None] * len(writes)
        for index, answer in zip(order, self.commit(ordered[:middle]) + self.commit(ordered[middle:]), strict=True):
            answers[index] = answer
        return answers

    def _settle(self, writes: Sequence[Write], answers: list[Answer], evidence: Evidence, error: Exception) -> list[Answer]:
        """COMMIT failed: find out on a fresh connection whether the group is stored."""
        aftermath = self._line.aftermath
        self._line.forget()
        self._reopen(error)
        if self.failure is None:
            try:
                if self._con.execute(*evidence).get is None:
                    if isinstance(error, apsw.FullError):
                        return self._without_room(writes)
                    return [_still(answer) or NotAccepted(f"not stored: COMMIT failed with {error}") for answer in answers]
                self._make_sure()
                self._keep_aftermath(aftermath)
                return answers
            except apsw.Error as again:
                self._fail(again)
        return [
            _still(answer)
            or OutcomeUnknown(
                f"COMMIT failed with {error}; whether it is stored shows when the library is opened again",
                token=_token(answer),
            )
            for answer in answers
        ]

    def _make_sure(self) -> None:
        """All that is in the WAL is written again, goes to the database and is synced; then a commit to a WAL that begins anew shows that the
        disk works.

        What a failed sync left of the WAL must never be read again, so it is truncated, for which whoever reads just now is waited for.
        """
        self._wal.write_again()
        self._con.set_busy_timeout(READERS_LEAVE_MS)
        try:
            self._con.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._con.set_busy_timeout(0)
        self._con.execute(MARK, (self._random_bytes(8),))

    def _reopen(self, error: BaseException) -> None:
        self._damaged += isinstance(error, DAMAGED)
        if self._damaged > DAMAGED_MOST:
            self._fail(error)
            return
        log.error("the library's database met an error and is opened anew: %s", error)
        try:
            self._place.reopen()
            self._con = self._place.writer
            self._line = self._begin()
        except Exception as again:  # noqa: BLE001 - whatever keeps it from opening, the answer is the same: take nothing more
            self._fail(again)

    def _fail(self, error: BaseException) -> None:
        way_out = "see what `callboard doctor` says, and `callboard salvage` it" if isinstance(error, DAMAGED) else "mend the disk and open it again"
        self.failure = f"the library takes no more writes: {type(error).__name__}: {error}; {way_out}"
        log.critical(self.failure)

    def _begin(self) -> GroupWriter:
        """What a connection needs before its first group."""
        self._wal = Wal(self._con)
        return GroupWriter(self._con, self._ids, self._random_bytes, self._knows, *self._limits)


def _in_group(writes: Sequence[Write], answers: Sequence[Answer]) -> Evidence | None:
    for write, answer in zip(writes, answers, strict=True):
        if isinstance(answer, Submitted) and not answer.duplicate:
            return "SELECT 1 FROM jobs WHERE id = ?1 UNION ALL SELECT 1 FROM job_history WHERE id = ?1", (answer.job_id,)
        if isinstance(write, Claim) and isinstance(answer, tuple) and answer:
            return "SELECT 1 FROM jobs WHERE id = ? AND claim = ?", (answer[0].job_id, answer[0].claim)
        if isinstance(write, End) and isinstance(answer, Status):
            return "SELECT 1 FROM job_history WHERE id = ? AND claim = ?", (write.job_id, write.claim)
    for write, answer in zip(writes, answers, strict=True):  # looked for last, as a job that ends may take its checkpoint with it
        if isinstance(write, SaveCheckpoint) and answer is None:
            return "SELECT 1 FROM job_checkpoints WHERE job_id = ? AND kind = 'head' AND sequence >= ?", (write.job_id, write.sequence)
    return None


def _turned_away(write: Write) -> Answer:
    return () if isinstance(write, Claim) else DiskFull("the disk is full: not stored. Make room; the library goes on by itself")


def _token(answer: Answer) -> bytes:
    """An id by which it can be seen whether this was stored."""
    if isinstance(answer, ChunkStored):
        return answer.outcome.first_id or b""
    return answer.job_id if isinstance(answer, Submitted) else b""


def _still(answer: Answer) -> Exception | None:
    """A refusal stays one, whatever became of the others."""
    return answer if isinstance(answer, Exception) else None
