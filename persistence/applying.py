"""What the writes of one group do to the rows, inside the store's transaction.

Order within a group: all writes of a group were on their way at the same moment, so any order of them is a true one. What ends comes before
what is new, which finds its key free, and claims come last; everything of one kind is applied together, in order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import apsw

from callboard.jobs.identity import IdSource
from callboard.jobs.submission import Submitted
from callboard.persistence import checkpoints, claiming, ending, inserting, intents
from callboard.persistence.rows import bound
from callboard.persistence.writes import (
    Answer,
    Claim,
    Claimed,
    Due,
    End,
    Excuse,
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

FRESH_MOST, FRESH_BYTES = 16_384, 1_024
"""New jobs kept in memory until they are claimed: so many, and none larger: at most some 30 MiB."""

DUE = "UPDATE jobs SET run_at = NULL, queued_at = max(queued_at, run_at) WHERE run_at <= ?"
NEXT_DUE = "SELECT min(run_at) FROM jobs WHERE run_at IS NOT NULL"
PROGRESS = "UPDATE jobs SET progress = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
UNRESPONSIVE = "UPDATE jobs SET unresponsive = ? WHERE id = ? AND claim = ? AND status IN ('running', 'pausing', 'cancelling')"
EXCUSE = "UPDATE jobs SET excused = 1 WHERE id IN (SELECT value FROM carray(?)) AND status IN ('running', 'pausing', 'cancelling')"
SUSPECTS = "SELECT count(*) FROM jobs WHERE status = 'queued' AND run_at IS NULL AND alone = 1"

APPLIED = (SaveCheckpoint, WriteProgress, SetUnresponsive, SetIntent, Leave, End, Excuse, Insert, InsertAgain, MakeDue, Claim)
"""The order in which the writes of one group are applied, whatever the order of their arrival."""

_LET_NOBODY_WAIT = frozenset((SaveCheckpoint, WriteProgress, SetUnresponsive, End, Excuse, Insert, Claim))
"""No job comes into line by any of these, save the new ones."""

_RANK = {kind: rank for rank, kind in enumerate(APPLIED)}


def applied_rank(write: Write) -> int:
    """Where a write stands in that order: what is told of a group must be told in it."""
    return _RANK.get(type(write), 0)


class Line:
    """The rows of a library as one connection writes them, and what is remembered of the jobs in line, so that it need not be read."""

    def __init__(
        self, con: apsw.Connection, ids: IdSource, random_bytes: Callable[[int], bytes], knows: Callable[[str, int], bool]
    ) -> None:  # fmt: skip
        self._con, self._ids, self._random_bytes, self._knows = con, ids, random_bytes, knows
        self._kinds: dict[claiming.JobKind, None] = {}
        """Every kind that may be in line, if `_kinds_known`."""
        self._kinds_known = False
        self._nobody_waits = False
        """Nothing is in line that this process could claim, alone or not."""
        self._fresh: dict[bytes, claiming.Fresh] = {}
        """New jobs that have not been claimed yet: a claim need not read them back."""
        inserting.prepare(con)
        ending.prepare(con)

    def forget(self) -> None:
        """A group was not stored: what is remembered may not be true."""
        self._some_may_wait()
        self._fresh.clear()

    def apply(self, writes: Sequence[Write], now: int) -> list[Answer]:
        """Inside a transaction; answers in the order of `writes`. Raises what SQLite raises, and for values that fit no row."""
        chance = b""
        answers: list[Answer] = [None] * len(writes)
        kinds: dict[type, list[int]] = {}
        for index, write in enumerate(writes):
            kinds.setdefault(type(write), []).append(index)

        def next_id() -> bytes:
            nonlocal chance
            chance = chance or self._random_bytes(8)  # once a group: asking lets go of the GIL
            return self._ids.next(now, chance)

        takes_all = self._claim_takes_all_new(kinds, writes)
        for kind in sorted(kinds, key=lambda kind: _RANK.get(kind, 0)):
            some: list[Any] = [writes[index] for index in kinds[kind]]
            applied: Sequence[Answer]
            if kind is Insert and takes_all is not None:
                applied, answers[takes_all] = self._insert_claimed(some, now, next_id)
            elif kind is Claim and takes_all is not None:
                continue
            else:
                applied = self._apply_kind(kind, some, now, next_id)
            for index, answer in zip(kinds[kind], applied, strict=True):
                answers[index] = answer
        return answers

    def _claim_takes_all_new(self, kinds: Mapping[type, list[int]], writes: Sequence[Write]) -> int | None:
        """The place of the group's claim, if it would take the group's new jobs and nothing else: then they can be written as claimed."""
        if not self._nobody_waits or Insert not in kinds or len(kinds.get(Claim, ())) != 1 or not _LET_NOBODY_WAIT.issuperset(kinds):
            return None
        place, new = kinds[Claim][0], [cast(Insert, writes[index]) for index in kinds[Insert]]
        claim = cast(Claim, writes[place])
        if claim.alone or claim.only is not None or len(new) > claim.most:
            return None
        at_once = all(write.run_at_ms is None and write.delay_ms is None and self._knows(write.name, write.version) for write in new)
        return place if at_once else None

    def _apply_kind(self, kind: type, writes: list[Any], now: int, next_id: Callable[[], bytes]) -> Sequence[Answer]:
        """Apply writes of one kind: together where they come in numbers, else one by one."""
        if kind is Insert:
            return self._insert(writes, now, next_id)
        if kind is SaveCheckpoint:
            return checkpoints.save_checkpoints(self._con, writes)
        if kind is End:
            return ending.end(self._con, writes, now)
        if kind is Leave:
            self._some_may_wait()
            return ending.leave(self._con, writes, now)
        return [self._apply_one(write, now, next_id) for write in writes]

    def _apply_one(self, write: Write, now: int, next_id: Callable[[], bytes]) -> Answer:
        match write:
            case InsertAgain():
                self._some_may_wait()
                return inserting.insert_again(self._con, write, now, next_id)
            case Claim():
                return self._claim(write, now)
            case SetIntent():
                self._some_may_wait()
                self._fresh.pop(write.job_id, None)
                return intents.set_intent(self._con, write, now)
            case WriteProgress():
                self._con.execute(PROGRESS, (write.progress, write.job_id, write.claim))
            case SetUnresponsive():
                self._con.execute(UNRESPONSIVE, (write.since_ms, write.job_id, write.claim))
                return bool(self._con.changes())
            case Excuse():
                if write.job_ids:
                    self._con.execute(EXCUSE, (bound(write.job_ids),))
            case MakeDue():
                return self._make_due(now)
            case _:
                raise TypeError(f"{type(write).__name__} is not something that can be written")
        return None

    def _insert(self, writes: list[Insert], now: int, next_id: Callable[[], bytes]) -> list[Submitted]:
        self._kinds.update(dict.fromkeys((write.name, write.version) for write in writes))
        self._nobody_waits = False
        answers = inserting.insert(self._con, writes, now, next_id)
        if len(self._fresh) < FRESH_MOST:
            for write, answer in zip(writes, answers, strict=True):
                if not answer.duplicate and answer.run_at_ms is None and len(write.data) <= FRESH_BYTES:
                    self._fresh[answer.job_id] = write.name, write.version, write.data, write.requested_by, write.retry, now
        return answers

    def _insert_claimed(
        self, writes: list[Insert], now: int, next_id: Callable[[], bytes]
    ) -> tuple[list[Submitted], tuple[Claimed, ...]]:
        self._kinds.update(dict.fromkeys((write.name, write.version) for write in writes))
        answers = inserting.insert(self._con, writes, now, next_id, claimed=True)
        new = sorted((write.priority, answer.job_id, write) for write, answer in zip(writes, answers, strict=True) if not answer.duplicate)
        return answers, tuple(
            claiming.first_claim(job_id, (write.name, write.version, write.data, write.requested_by, write.retry, now), now)
            for _, job_id, write in new
        )

    def _some_may_wait(self) -> None:
        """Jobs may have come into line by other ways than as new ones."""
        self._kinds_known = self._nobody_waits = False

    def _make_due(self, now: int) -> Due:
        self._some_may_wait()
        self._con.execute(DUE, (now,))
        return Due(self._con.changes(), self.next_due_ms(), self.suspects())

    def _claim(self, write: Claim, now: int) -> Answer:
        if write.alone:
            kinds = claiming.kinds_waiting(self._con, True)
        else:
            if not self._kinds_known:
                self._kinds.update(dict.fromkeys(claiming.kinds_waiting(self._con, False)))
                self._kinds_known = True
            kinds = list(self._kinds)
        known = [kind for kind in kinds if self._knows(*kind)]
        claimed = claiming.claim(self._con, known, 1 if write.alone else write.most, write.alone, now, write.only, self._fresh)
        self._nobody_waits = not write.alone and write.only is None and len(claimed) < write.most and len(known) == len(kinds)
        return claimed

    def next_due_ms(self) -> int | None:
        """When the next job that waits for its time is due, in ms since the epoch."""
        due: int | None = self._con.execute(NEXT_DUE).get
        return due

    def suspects(self) -> int:
        """How many jobs wait to run alone."""
        count: int = self._con.execute(SUSPECTS).get
        return count
