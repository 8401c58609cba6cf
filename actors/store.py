"""The store actor: commits its mailbox as one group. While one commit syncs, the next group gathers by itself.

A lone message waits for nobody, a thousand share one sync: 20,000 single tells were committed at 120,000 rows/s this way, against 4,400
one commit each (2 cores, ext4, synchronous=FULL). Nothing is told or answered before the commit that makes it true.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, replace
from itertools import repeat
from typing import NamedTuple

import pykka

from callboard.actors.actor import Actor, answer, answer_error, send
from callboard.actors.messages import Answered, Commit, Committed, DiskState, LookForRoom, Ref, Replies, StoreFailed
from callboard.actors.ports import Future, Ports
from callboard.jobs.errors import LibraryClosed, error_text
from callboard.jobs.lifecycle import PAUSER_BITS, Pauser
from callboard.persistence.aftermath import Aftermath
from callboard.persistence.applying import applied_rank
from callboard.persistence.store import Store
from callboard.persistence.writes import (
    Answer,
    Cascade,
    ChunkStored,
    Claim,
    InsertChunk,
    Leave,
    ParentWaits,
    SaveCheckpoint,
    SetBatchIntent,
    SpawnAgain,
    SpawnChildren,
    Write,
)  # fmt: skip

log = logging.getLogger("callboard.store")

GROUP_ROWS = 2_500
"""A group is committed at the latest when it has so many writes: beyond, rows a second no longer rise and others wait longer."""

GROUP_SECONDS = 0.005
"""… or when its first write has waited so long."""

BULK = (InsertChunk, SetBatchIntent, SpawnChildren, SpawnAgain, Cascade)
"""Writes of many rows each. Each is a Commit and a transaction of its own, after the group that waits beside it: so whoever submits, saves or
steers one job waits for one of them at most."""


ROOM_SECONDS = 5.0
"""A disk that was full is looked at so often."""

PUT_OFF_MOST = 4
"""Moving a grown WAL takes as long as two parts of a batch: so many commits of those who wait already go first, no more."""

BY_JOBS = (SaveCheckpoint, ParentWaits)
"""What job actors write for themselves. It has no aftermath; all else is reported to the library."""

DISK_BIT = PAUSER_BITS[Pauser.DISK]


def _pauses_for_disk(write: Write) -> bool:
    return isinstance(write, Leave) and write.pauser == DISK_BIT


class TellBack:
    """A reply that is told to an actor, since it sent a tell with `reply_to`."""

    __slots__ = ("_ref", "_request")

    def __init__(self, ref: Ref, request: object) -> None:
        self._ref = ref
        self._request = request

    def set(self, value: object = None, /) -> object:
        return send(self._ref, Answered(self._request, value))

    def set_error(self, error: Exception, /) -> object:
        return send(self._ref, Answered(self._request, None, error))


def give(reply: Replies | None, value: object) -> None:
    """Answer whoever asked, in the way that he asked; an Exception is raised at him, not returned."""
    if reply is None:
        return
    if isinstance(reply, (Future, TellBack)):
        if isinstance(value, Exception):
            reply.set_error(value)
        else:
            reply.set(value)
    elif isinstance(reply, pykka.Future):
        if isinstance(value, Exception):
            answer_error(reply, value)
        else:
            answer(reply, value)
    else:
        reply.set(value)


class CountSuspects(NamedTuple):
    """Tell `report_to` how many jobs wait to run alone: a `SuspectsCounted`."""

    report_to: Ref


@dataclass(frozen=True, slots=True, eq=False)
class SuspectsCounted:
    """As of the last commit."""

    count: int


class StoreActor(Actor):
    """One a library. Its stop keeps its place in the inbox, so everything sent before it is written."""

    def __init__(self, ports: Ports, parent: Ref | None, store: Store, reader: Ref | None = None) -> None:
        """`reader`: is told how the disk is, as the library is."""
        super().__init__(ports, parent)
        self._reader = reader
        self._library: Ref | None = None
        self._looking = False
        """A timer runs that looks for room."""
        self._full = self._was_full = False
        """As was told last; and at some time of this life."""
        self._failed = False
        self._store = store
        self._group: list[Commit] = []
        self._bulk: deque[Commit] = deque()
        self._rows = 0
        self._since = 0.0
        self._put_off = 0
        """So many commits ago the WAL was last looked after."""
        self._others = False
        """Somebody has written something since the last part of a batch."""

    def started(self) -> None:
        if self._store.paused_for_disk():
            self._look_later()

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        if isinstance(message, LookForRoom):
            self._looking = False
            self._look_for_room()
            return
        if isinstance(message, CountSuspects):
            self._commit()
            send(message.report_to, SuspectsCounted(self._suspects()))
            self._commit_bulk_while_idle()
            return
        if not isinstance(message, Commit):
            raise LibraryClosed(f"the store takes only Commit, not {type(message).__name__}")
        if not self._group and not self._bulk:
            self._since = self.ports.monotonic()
        if isinstance(message.writes[0], BULK):
            self._bulk.append(message)
        else:
            self._group.append(message)
            self._rows += len(message.writes)
        if self.inbox.idle() or self._rows >= GROUP_ROWS or self.ports.monotonic() - self._since >= GROUP_SECONDS:
            self._commit()
            self._commit_bulk()
            self._commit_bulk_while_idle()
            self._since = self.ports.monotonic()

    def stopped(self) -> None:
        self._commit()
        while self._bulk:
            self._commit_bulk()

    def _commit(self) -> None:
        group, self._group, self._rows = self._group, [], 0
        if group:
            self._others = self._others or any(not isinstance(write, Claim) for commit in group for write in commit.writes)
            self._commit_all(group)

    def _commit_bulk_while_idle(self) -> None:
        """One at a time: whoever has come meanwhile goes before the next."""
        while self._bulk and self.inbox.idle():
            self._commit_bulk()

    def _commit_bulk(self) -> None:
        if self._bulk:
            others, self._others = self._others, False
            self._commit_all([self._bulk.popleft()], others)

    def _commit_all(self, group: list[Commit], others: bool = False) -> None:
        writes: list[Write] = [write for commit in group for write in commit.writes]
        if self._library is None and not isinstance(writes[0], BY_JOBS):
            self._library = group[0].report_to
        self.ports.yield_point("store: before commit")
        self.ports.milestone("before commit", writes)
        answers = self._store.commit(writes)
        self.ports.milestone("after commit", writes)
        self.ports.yield_point("store: after commit")
        if others:
            answers = [replace(answer, others=True) if isinstance(answer, ChunkStored) else answer for answer in answers]
        if self._store.full and not self._full:
            self._full = self._was_full = True
            self._tell(DiskState(True))
        if self._was_full and not self._looking and (self._store.full or any(map(_pauses_for_disk, writes))):
            self._look_later()  # who is slow to pause may do so when there has been room for long: it is to go on too
        aftermath = self._store.take_aftermath()
        self._report(group, writes, answers, aftermath if any(aftermath) else None)
        if self._store.failure is not None and not self._failed:
            self._failed = True
            self._tell(StoreFailed(self._store.failure))
        if self.inbox.idle() or self._put_off >= PUT_OFF_MOST:
            self._store.tidy()
            self._put_off = 0
        else:
            self._put_off += 1

    def _look_for_room(self) -> None:
        """By a timer as long as the disk is full, and at the beginning: jobs may have been paused for it in another life."""
        try:
            paused = None if self._library is None else self._store.find_room()
        except Exception as error:  # noqa: BLE001 - it is looked for again
            log.error("whether the disk has room could not be seen: %s", error_text(error))
            paused = None
        if paused is not None:
            self._full = False
            self._tell(DiskState(False, tuple(paused)))
        elif self._store.failure is None:
            self._look_later()

    def _look_later(self) -> None:
        self._looking, me = True, self.actor_ref
        self.ports.call_later(ROOM_SECONDS, lambda: send(me, LookForRoom()))

    def _tell(self, state: DiskState | StoreFailed) -> None:
        for ref in (self._library, self._reader):
            if ref is not None:
                send(ref, state)

    def _suspects(self) -> int:
        try:
            return self._store.suspects()
        except Exception as error:  # noqa: BLE001 - a read that fails must not take the store down: they are counted again at the next opening
            log.error("the jobs that wait to run alone could not be counted: %s", error_text(error))
            return 0

    def _report(self, group: list[Commit], writes: list[Write], answers: list[Answer], aftermath: Aftermath | None) -> None:
        """First those who act on it, each with one message in the order of applying; then those who asked.

        Only what the library writes has an aftermath; a job actor writes checkpoints and nothing else.
        """
        if len(writes) == 1:  # nothing to sort: whoever waits for a lone write waits for nothing else
            [commit] = group
            send(commit.report_to, Committed(commit.writes, tuple(answers), ((commit.ticket, 0),), aftermath))
            for asker in commit.replies:
                give(asker, answers[0])
            return
        reports: dict[Ref, tuple[list[Write], list[Answer], list[tuple[int, int]]]] = {}
        start = 0
        for commit in group:
            size = len(commit.writes)
            own, told, tickets = reports.setdefault(commit.report_to, ([], [], []))
            own += commit.writes
            told += answers[start : start + size]
            tickets += zip(repeat(commit.ticket), range(size), strict=False)
            start += size
        for receiver, (own, told, tickets) in reports.items():
            ranks = [applied_rank(write) for write in own]
            order = sorted(range(len(own)), key=ranks.__getitem__)
            sorted_own, sorted_told, sorted_tickets = (tuple(map(each.__getitem__, order)) for each in (own, told, tickets))
            of_library = None if isinstance(own[0], BY_JOBS) else aftermath
            send(receiver, Committed(sorted_own, sorted_told, sorted_tickets, of_library))  # type: ignore[arg-type]
        start = 0
        for commit in group:
            for offset, asker in enumerate(commit.replies):
                give(asker, answers[start + offset])
            start += len(commit.writes)
