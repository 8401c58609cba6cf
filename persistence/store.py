"""The write side of a library: a group of writes, one transaction, one answer each. What is answered is on disk.

Order within a group: all writes of a group were on their way at the same moment, so any order of them is a true one. New jobs come first and
claims last; everything of one kind is applied together, in order of arrival.

Fail-stop. An error before COMMIT rolls back: nothing of the group is stored (`NotAccepted`). A COMMIT that fails is neither stored nor not
stored until it is looked at: the connection is closed, opened anew, and the group's *evidence* (a row that only this group can have
written) is looked for. Found: the WAL is checkpointed, which syncs it, before anything is acknowledged; reading the row back alone proves
nothing about the disk. Not found: a clean `NotAccepted`. If that fails too: `OutcomeUnknown`, and the store takes nothing more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import apsw

from callboard.jobs.errors import CallboardError, NotAccepted, OutcomeUnknown, StoreUnavailable
from callboard.jobs.identity import IdSource
from callboard.jobs.submission import Submitted
from callboard.persistence import checkpoints, claiming, ending, inserting, intents
from callboard.persistence.writes import (
    Answer,
    Claim,
    Due,
    End,
    Excuse,
    Fenced,
    Insert,
    InsertAgain,
    Leave,
    MakeDue,
    SaveCheckpoint,
    SetIntent,
    SetUnresponsive,
    Write,
    WriteProgress,
)  # fmt: skip

log = logging.getLogger("callboard.store")

W = TypeVar("W")
Evidence = tuple[str, tuple[object, ...]]

WAL_PAGES_BEFORE_CHECKPOINT = 4_000
"""16 MiB of WAL: reading it back at the next opening takes under 0.1 s, and a checkpoint's syncs are spread over many commits."""

DUE = "UPDATE jobs SET run_at = NULL, queued_at = max(queued_at, run_at) WHERE run_at <= ?"
NEXT_DUE = "SELECT min(run_at) FROM jobs WHERE run_at IS NOT NULL"
PROGRESS = "UPDATE jobs SET progress = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
UNRESPONSIVE = "UPDATE jobs SET unresponsive = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
EXCUSE = "UPDATE jobs SET excused = 1 WHERE id IN (SELECT value FROM carray(?)) AND status IN ('running', 'pausing', 'cancelling')"
SUSPECTS = "SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = 1"
LAST_ID = "SELECT max(last) FROM (SELECT max(id) AS last FROM jobs UNION ALL SELECT max(id) FROM job_history)"


APPLIED = (Insert, InsertAgain, SaveCheckpoint, WriteProgress, SetUnresponsive, SetIntent, Leave, End, Excuse, MakeDue, Claim)
"""The order in which the writes of one group are applied, whatever the order of their arrival."""

_RANK = {kind: rank for rank, kind in enumerate(APPLIED)}


def applied_rank(write: Write) -> int:
    """Where a write stands in that order: what is told of a group must be told in it."""
    return _RANK[type(write)]


class Place(Protocol):
    """Where the store's connection comes from; `persistence/folder.py` is one."""

    @property
    def writer(self) -> apsw.Connection: ...

    def reopen(self) -> None:
        """Close every connection, whatever state it is in, and open a new writer. The lock stays held."""
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
    ) -> None:
        self._place = place
        self._con = place.writer
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._knows = knows
        self._ids = IdSource(self._con.execute(LAST_ID).get)
        self._kinds: dict[claiming.JobKind, None] = {}
        self._kinds_known = False
        self._groups = 0
        self._wal_pages = 0
        self.failure: str | None = None
        """Why the store takes nothing more; None while it does."""
        self._watch_wal()

    def commit(self, writes: Sequence[Write]) -> list[Answer]:
        """Apply all, in one transaction. An answer that is an Exception means: this write was refused or is not stored."""
        if self.failure is not None:
            error = StoreUnavailable(self.failure)
            return [error] * len(writes)
        try:
            self._con.execute("BEGIN IMMEDIATE")
            answers = self._apply(writes)
            evidence = self._evidence(writes, answers)
        except (apsw.Error, AssertionError, CallboardError, MemoryError) as error:
            return self._refuse(writes, error)
        try:
            self._con.execute("COMMIT")
        except apsw.Error as error:
            return self._settle(answers, evidence, error)
        return answers

    def tidy(self) -> None:
        """Move the WAL into the database when it has grown. Outside the way to any acknowledgement; an error here touches none."""
        if self._wal_pages < WAL_PAGES_BEFORE_CHECKPOINT or self.failure is not None:
            return
        try:
            self._con.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal_pages = 0
        except apsw.Error as error:
            log.warning("the WAL could not be checkpointed and grows on: %s", error)

    def next_due_ms(self) -> int | None:
        """When the next job that waits for its time is due, in ms since the epoch."""
        due: int | None = self._con.execute(NEXT_DUE).get
        return due

    def suspects(self) -> int:
        """How many jobs wait to run alone."""
        count: int = self._con.execute(SUSPECTS).get
        return count

    # --- applying ---------------------------------------------------------------------------------------------------

    def _apply(self, writes: Sequence[Write]) -> list[Answer]:
        now = self._now_ms()
        answers: list[Answer] = [None] * len(writes)
        kinds: dict[type, list[int]] = {}
        for index, write in enumerate(writes):
            kinds.setdefault(type(write), []).append(index)

        def each(kind: type[W], apply: Callable[[W], Answer]) -> None:
            for index in kinds.get(kind, ()):
                answers[index] = apply(writes[index])  # type: ignore[arg-type]

        if Insert in kinds:
            self._insert(writes, kinds[Insert], answers, now)
        each(InsertAgain, lambda write: self._insert_again(write, now))
        each(SaveCheckpoint, lambda write: checkpoints.save_checkpoint(self._con, write))
        each(WriteProgress, self._write_progress)
        each(SetUnresponsive, self._set_unresponsive)
        each(SetIntent, lambda write: self._queues(intents.set_intent(self._con, write, now)))
        each(Leave, lambda write: self._queues(ending.leave(self._con, write, now)))
        if End in kinds:
            ends = [writes[index] for index in kinds[End]]
            for index, status in zip(kinds[End], ending.end(self._con, ends, now), strict=True):  # type: ignore[arg-type]
                answers[index] = status
        each(Excuse, lambda write: self._con.execute(EXCUSE, (inserting.bound(write.job_ids),)) and None)
        each(MakeDue, lambda _: self._make_due(now))
        each(Claim, lambda write: self._claim(write, now))
        return answers

    def _insert(self, writes: Sequence[Write], indexes: list[int], answers: list[Answer], now: int) -> None:
        some = [write for write in (writes[index] for index in indexes) if isinstance(write, Insert)]
        for index, answer in zip(indexes, inserting.insert(self._con, some, now, lambda: self._next_id(now)), strict=True):
            answers[index] = answer
        for write in some:
            self._kinds[write.name, write.version] = None

    def _insert_again(self, write: InsertAgain, now: int) -> Answer:
        answer, kind = inserting.insert_again(self._con, write, now, lambda: self._next_id(now))
        if kind[1]:
            self._kinds[kind] = None
        return answer

    def _next_id(self, now: int) -> bytes:
        return self._ids.next(now, self._random_bytes(8))

    def _write_progress(self, write: WriteProgress) -> None:
        self._con.execute(PROGRESS, (write.progress, write.job_id, write.claim))

    def _set_unresponsive(self, write: SetUnresponsive) -> bool:
        self._con.execute(UNRESPONSIVE, (write.since_ms, write.job_id, write.claim))
        return bool(self._con.changes())

    def _make_due(self, now: int) -> Due:
        self._con.execute(DUE, (now,))
        self._kinds_known = False
        return Due(self._con.changes(), self.next_due_ms())

    def _queues(self, answer: Answer) -> Answer:
        """A job may wait again whose kind was not among those that wait."""
        self._kinds_known = False
        return answer

    def _claim(self, write: Claim, now: int) -> Answer:
        if write.alone:
            kinds = claiming.kinds_waiting(self._con, True)
        else:
            if not self._kinds_known:
                self._kinds.update(dict.fromkeys(claiming.kinds_waiting(self._con, False)))
                self._kinds_known = True
            kinds = list(self._kinds)
        known = [kind for kind in kinds if self._knows(*kind)]
        return claiming.claim(self._con, known, 1 if write.alone else write.most, write.alone, now, write.only)

    # --- failing ----------------------------------------------------------------------------------------------------

    def _evidence(self, writes: Sequence[Write], answers: Sequence[Answer]) -> Evidence:
        """A query that answers with a row if, and only if, this group is stored."""
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, Submitted) and not answer.duplicate:
                return "SELECT 1 FROM jobs WHERE id = ?1 UNION ALL SELECT 1 FROM job_history WHERE id = ?1", (answer.job_id,)
            if isinstance(write, SaveCheckpoint) and not isinstance(answer, Fenced):
                return "SELECT 1 FROM job_checkpoints WHERE job_id = ? AND kind = 'head' AND sequence = ?", (write.job_id, write.sequence)
            if isinstance(write, End) and not isinstance(answer, Fenced):
                return "SELECT 1 FROM job_history WHERE id = ? AND claim = ?", (write.job_id, write.claim)
        self._groups += 1
        mark = self._random_bytes(8)
        self._con.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('group', ?)", (mark,))
        return "SELECT 1 FROM meta WHERE key = 'group' AND value = ?", (mark,)

    def _refuse(self, writes: Sequence[Write], error: BaseException) -> list[Answer]:
        """Nothing of the group is stored. If one write alone is to blame, the others are stored without it."""
        try:
            if self._con.in_transaction:
                self._con.execute("ROLLBACK")
        except apsw.Error:
            self._reopen(error)
        self._kinds_known = False
        disk = isinstance(error, (apsw.IOError, apsw.FullError, apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError))
        if disk:
            self._reopen(error)
        elif len(writes) > 1 and self.failure is None:
            return [self.commit([write])[0] for write in writes]
        else:
            log.error("a write was refused: %s", error, exc_info=error)
        refusal = error if isinstance(error, CallboardError) else NotAccepted(f"not stored: {type(error).__name__}: {error}")
        return [refusal] * len(writes)

    def _settle(self, answers: list[Answer], evidence: Evidence, error: apsw.Error) -> list[Answer]:
        """COMMIT failed: find out on a fresh connection whether the group is stored."""
        self._reopen(error)
        if self.failure is None:
            try:
                if self._con.execute(*evidence).get is None:  # type: ignore[arg-type]
                    self._kinds_known = False
                    return [NotAccepted(f"not stored: COMMIT failed with {error}")] * len(answers)
                self._con.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                return answers
            except apsw.Error as again:
                self._fail(again)
        return [
            OutcomeUnknown(
                f"COMMIT failed with {error}; whether it is stored shows when the library is opened again",
                token=answer.job_id if isinstance(answer, Submitted) else b"",
            )
            for answer in answers
        ]

    def _reopen(self, error: BaseException) -> None:
        log.error("the library's database met an error and is opened anew: %s", error)
        try:
            self._place.reopen()
            self._con = self._place.writer
            self._watch_wal()
        except Exception as again:  # noqa: BLE001 - whatever keeps it from opening, the answer is the same: take nothing more
            self._fail(again)

    def _fail(self, error: BaseException) -> None:
        self.failure = f"the library takes no more writes: {type(error).__name__}: {error}; mend the disk and open it again"
        log.critical(self.failure)

    def _watch_wal(self) -> None:
        self._wal_pages = 0

        def count(_con: apsw.Connection, _database: str, pages: int) -> int:
            self._wal_pages = pages
            return apsw.SQLITE_OK

        self._con.set_wal_hook(count)
