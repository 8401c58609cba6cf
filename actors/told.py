"""What a library has told: its facts, numbered, and those who wait for a job to end or to stop. Told after the commit, never before."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import pykka

from callboard.actors.actor import send
from callboard.actors.messages import Look, Publish, QueryBatch, QueryJob, Ref, Replies, WatchBatch, WatchEnd
from callboard.actors.ports import Ports
from callboard.actors.store import give
from callboard.jobs.errors import LibraryClosed
from callboard.jobs.events import BatchEnded, Fact
from callboard.jobs.factlog import CODES, RawFact, build, is_end
from callboard.jobs.record import BatchRecord, JobRecord

RECENT_ENDS = 4_096
"""Ends kept in memory, for those who ask right after."""

Reply = Replies | None


class LookedUp(NamedTuple):
    """What the reader found of a job, or a batch, that somebody waits for."""

    job_id: bytes
    found: Any


class Told:
    """Belongs to one library actor."""

    def __init__(self, ports: Ports, me: pykka.ActorRef[Any], reader: Ref, hub: Ref, stream: bytes, epoch: int) -> None:
        self._ports, self._me, self._reader, self._hub = ports, me, reader, hub
        self._stream, self._epoch = stream, epoch
        self.n = 0
        """Number of the last fact."""
        self._facts: list[RawFact] = []
        self._ends: OrderedDict[bytes, tuple[int, RawFact]] = OrderedDict()
        """Job → the fact of its end, with its number."""
        self._end_watchers: dict[bytes, list[Reply]] = {}
        self._stop_watchers: dict[bytes, list[Reply]] = {}
        self._batch_watchers: dict[bytes, list[Reply]] = {}
        self._over: list[bytes] = []
        """Batches whose end is told with the next `publish`."""

    def fact(self, kind: type[Fact], job_id: bytes, name: str, *more: object) -> None:
        """A commit has made this true; it is told with the next `publish`."""
        raw: RawFact = (CODES[kind], job_id, name, more)
        self._facts.append(raw)
        if is_end(raw):
            self._ends[job_id] = (self.n + len(self._facts), raw)
            if len(self._ends) > RECENT_ENDS:
                self._ends.popitem(last=False)

    def publish(self) -> None:
        """Tell the facts gathered so far; then wake those who waited for an end among them."""
        if not self._facts:
            return
        facts, self._facts = tuple(self._facts), []
        first = self.n + 1
        self.n += len(facts)
        send(self._hub, Publish(self._stream, first, facts))
        for n, raw in enumerate(facts, first):
            if is_end(raw) and raw[1] in self._end_watchers:
                fact = build(self._epoch, n, raw)
                for reply in self._end_watchers.pop(raw[1]):
                    give(reply, fact)
        while self._over:
            for reply in self._batch_watchers.pop(self._over.pop(), ()):
                give(reply, None)

    def batch_over(self, batch_id: bytes, counts: dict[str, int]) -> None:
        """The last job of the batch has ended."""
        self.fact(BatchEnded, b"", "", batch_id, counts)
        self._over.append(batch_id)

    def look(self, request: object, reply: Reply) -> bool:
        """Hand a question to the reader, with the number of the last fact told. False if the reader has stopped."""
        return send(self._reader, Look(request, self._epoch, self.n, reply))

    # --- those who wait ---------------------------------------------------------------------------------------------

    def watch_end(self, message: WatchEnd, live: bool) -> None:
        """`live`: it is known to run. Otherwise it may have ended long ago, and the reader is asked."""
        end = self.end_of(message.job_id)
        if end is not None:
            give(message.future, end)
            return
        # The watcher stands before the look, so an end that comes meanwhile is not missed.
        self._end_watchers.setdefault(message.job_id, []).append(message.future)
        if not live:
            self._ask(message.job_id, QueryJob(message.job_id))

    def _ask(self, which: bytes, question: QueryJob | QueryBatch) -> None:
        """Have a `LookedUp` told to the library."""
        found = self._ports.future()
        me = self._me
        found.add_done_callback(lambda future: send(me, LookedUp(which, future)))
        if not self.look(question, found):
            found.set_error(LibraryClosed("the library's reader has stopped; open the library again"))

    def end_of(self, job_id: bytes) -> Fact | None:
        """The fact of its end, if that was not long ago."""
        ended = self._ends.get(job_id)
        return None if ended is None else build(self._epoch, *ended)

    def looked_up(self, message: LookedUp) -> None:
        try:
            record = message.found.get(timeout=0)
        except Exception as error:  # noqa: BLE001 - whatever the reader met is for those who wait
            record = error
        if isinstance(record, BatchRecord):
            if record.completed_at is not None:
                for reply in self._batch_watchers.pop(message.job_id, ()):
                    give(reply, None)
        elif isinstance(record, Exception) and message.job_id in self._batch_watchers:
            for reply in self._batch_watchers.pop(message.job_id):
                give(reply, record)
        elif isinstance(record, Exception) or (isinstance(record, JobRecord) and record.status.ended):
            for reply in self._end_watchers.pop(message.job_id, ()):
                give(reply, record)

    def watch_batch(self, message: WatchBatch) -> None:
        self._batch_watchers.setdefault(message.batch_id, []).append(message.future)
        self._ask(message.batch_id, QueryBatch(message.batch_id))

    def watch_stop(self, job_id: bytes, reply: Reply) -> None:
        self._stop_watchers.setdefault(job_id, []).append(reply)

    def has_stopped(self, job_id: bytes) -> None:
        """No code of this job runs any more, and what became of it is on disk."""
        for reply in self._stop_watchers.pop(job_id, ()):
            give(reply, None)

    def give_up(self, error: Exception) -> None:
        """Nothing more will be told."""
        for watchers in (*self._end_watchers.values(), *self._stop_watchers.values(), *self._batch_watchers.values()):
            for reply in watchers:
                give(reply, error)
        self._end_watchers.clear()
        self._stop_watchers.clear()
        self._batch_watchers.clear()
