"""The caller's side of a batch: reads the items as they are needed, encodes them, and sends them on while the library stores those before.

All of it happens on the caller's thread, and what it holds is bounded at any length: the parts in flight, and the one being encoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from callboard.actors.intake import Account, new_id
from callboard.actors.messages import CHUNK_ROWS, AddChunk, AwaitRoom, PlanChunk, StopBatch
from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_outcome import BatchOutcome, BatchPlan
from callboard.jobs.errors import Busy, CallboardError, InboxFull, LibraryClosed, OutcomeUnknown
from callboard.jobs.job import Job
from callboard.jobs.submission import Submission
from callboard.persistence.batchrows import CHUNK_BYTES, BatchEncoder
from callboard.persistence.jobdata import new_job
from callboard.persistence.writes import Chunk, ChunkStored

if TYPE_CHECKING:
    from callboard.actors.door import Library

T = TypeVar("T")

IN_FLIGHT = 2
"""Parts on their way at once: one is being stored, one waits, and a third is being encoded."""

PART_SECONDS = 0.020
"""While others write to the library too, a part is what it can store in so long: they wait for one at most …"""

PART_LEAST = 500
"""… but so many items at least: every part costs a sync."""

BREATH_ROWS = 250
"""After so many items the interpreter is let go, so that whoever else needs it does not wait a switch interval for it."""

BREATH_SECONDS = 0.000_05

ALIVE_SECONDS = 0.5
"""Who waits for an answer looks this often whether the library is still there."""

ANSWER_SECONDS = 60.0
ROWS_A_SECOND = 1_000
"""A part is waited for so long, and a second more for so many items of it, before it is given up as unknown."""


class Cutter:
    """Reads items and encodes them, part by part."""

    def __init__(self, library: Library, batch: BatchSubmission, cuts: Mapping[int, int], most: int) -> None:
        """`cuts`: start → items of the parts that are stored already, which are cut again as they were then. `most`: items in one transaction."""
        self._sleep = library.ports.sleep
        self._encoder = BatchEncoder(batch, batch.batch_id or b"")
        self._counted = count(1)
        self._items: Iterator[Submission | Job] = map(itemgetter(0), zip(batch.submissions, self._counted, strict=False))
        self._known = len(batch.submissions) if isinstance(batch.submissions, Sized) else None
        self._cuts, self._most, self._whole = cuts, most, batch.whole
        self._begun = self._one = False
        """`_one`: all of it goes in one transaction."""
        self._size: int | None = None
        """Items in a part; None: all."""
        self._read = -1
        self.start = 0
        """Index of the first item that is not in any part yet."""

    def next(self) -> Chunk:
        """The next part; its `last` says whether there are more. Raises what the items' iterator raises, and drops the part that it began."""
        if not self._begun:
            self._begin()
        cut = self._cuts.get(self.start)
        chunk = self._encoder.chunk(self._items, cut or self._size, CHUNK_BYTES if cut is None and self._size is not None else None)
        if self._encoder.error is not None:
            raise self._encoder.error
        assert chunk is not None  # asked for behind the last one
        self.start += chunk.count
        return chunk

    def pace(self, items: int, seconds: float, others: bool) -> None:
        """The library has stored so many items in so long. `others`: somebody else has written to it meanwhile."""
        if self._size is None or self._one:
            return
        wanted = int(items / max(seconds, 1e-6) * PART_SECONDS) if others else 2 * self._size
        self._size = min(self._most, CHUNK_ROWS, max(PART_LEAST, wanted))

    def read(self) -> int:
        """How many items there are, as far as is known, now that no more are read."""
        if self._read < 0:
            self._read = next(self._counted) - 1
        return max(self._read, self._known or 0)

    def _begin(self) -> None:
        """Find out whether all of it goes in one transaction."""
        self._begun, items, part = True, self._items, min(CHUNK_ROWS, self._most)
        if self._whole:
            self._size = None
        elif self._cuts:  # it was begun in parts
            self._size = part
        elif self._known is not None:
            self._size = self._most if self._known <= self._most else part
        else:
            head = list(islice(items, self._most + 1))
            self._size = self._most if len(head) <= self._most else part
            items = chain(head, items)
        self._one = self._size == self._most
        self._items = self._breathing(items)

    def _breathing(self, items: Iterator[Submission | Job]) -> Iterator[Submission | Job]:
        for first in items:
            yield first
            yield from islice(items, BREATH_ROWS - 1)
            self._sleep(BREATH_SECONDS)


class Sender:
    """One batch on its way in."""

    def __init__(self, library: Library, batch: BatchSubmission, most: int, block: float | None) -> None:
        """`most`: items in one transaction. `block`: seconds to wait for room in all."""
        self._library, self._monotonic = library, library.ports.monotonic
        stored = library.stored_parts(batch.batch_id) if batch.batch_id is not None else ()
        if batch.batch_id is None:
            batch = replace(batch, batch_id=new_id(library.ports))
        assert batch.batch_id is not None
        self._batch_id, self._requested_by = batch.batch_id, batch.requested_by
        self._on_complete = None if batch.on_complete is None else new_job(batch.on_complete)
        self._cutter = Cutter(library, batch, {part.start: part.size for part in stored}, most)
        self._until = None if block is None else self._monotonic() + block
        self._flying: deque[tuple[Chunk, Any]] = deque()
        self._account = Account(self._batch_id)
        self._landed_at = self._monotonic()

    def send(self) -> BatchOutcome:
        """Raises what has stopped it if nothing of it is stored."""
        account, last = self._account, False
        try:
            while not last and account.error is None:
                try:
                    chunk = self._cutter.next()
                except Exception as error:  # the caller's own: nothing more can be had from his iterator
                    self._land_all()
                    account.error = account.error or error
                    break
                last = chunk.last
                self._fly(chunk)
                while len(self._flying) >= IN_FLIGHT and account.error is None:
                    self._land()
            self._land_all()
        finally:
            if account.error is not None or not last:
                self._stop()
        if account.error is None:
            return account.outcome()
        if not account.kept:
            raise account.error
        account.left_out(self._cutter.read())
        return account.outcome()

    def _fly(self, chunk: Chunk) -> None:
        future = self._library.ports.future()
        try:
            self._library.tell(AddChunk(chunk, future, self._requested_by, self._on_complete))
        except (Busy, LibraryClosed) as error:
            future.set_error(error)
        self._flying.append((chunk, future))

    def _land_all(self) -> None:
        while self._flying:
            self._land()

    def _land(self) -> None:
        """Account for the oldest part in flight; one for which there is no room is sent again, if that may be waited for."""
        chunk, future = self._flying[0]
        answer = self._answer(chunk, future)
        while isinstance(answer, Busy) and self._until is not None and self._account.error is None and self._monotonic() < self._until:
            room = self._library.ports.future()
            self._send_again(AwaitRoom(room))
            chunk, future = self._flying[0]
            answer = self._answer(chunk, future)
            if isinstance(answer, Busy) and room.wait(max(0.0, self._until - self._monotonic())):
                continue
        self._flying.popleft()
        self._account.add(chunk, answer)
        before, self._landed_at = self._landed_at, self._monotonic()
        self._cutter.pace(chunk.count, self._landed_at - before, isinstance(answer, ChunkStored) and answer.others)

    def _send_again(self, first: object) -> None:
        """All that is in flight, in order: behind one that is not stored, none is."""
        flying = [chunk for chunk, future in self._flying if self._answer(chunk, future) is not None]
        self._flying.clear()
        with suppress(LibraryClosed):
            self._library.tell(first)
        for chunk in flying:
            self._fly(chunk)

    def _answer(self, chunk: Chunk, future: Any) -> object:
        until = self._monotonic() + ANSWER_SECONDS + chunk.count / ROWS_A_SECOND
        try:
            while not future.wait(ALIVE_SECONDS):
                if not self._library.ref.is_alive() and not future.wait(ALIVE_SECONDS):
                    raise OutcomeUnknown("the library was closed before it answered; send the batch again under its batch_id")
                if self._monotonic() >= until:
                    raise OutcomeUnknown("the library has not answered in time; send the batch again under its batch_id")
            return future.get(0)
        except CallboardError as error:
            return error

    def _stop(self) -> None:
        with suppress(LibraryClosed):
            self._library.tell(StopBatch(self._batch_id))


def patiently(library: Library, block: float | None, attempt: Callable[[], T]) -> T:
    """What `attempt` answers; while it is `Busy`, try it again whenever there may be room, for `block` seconds (None: not at all)."""
    try:
        return attempt()
    except Busy as busy:
        if block is None:
            raise
        of_inbox = isinstance(busy, InboxFull)
    monotonic = library.ports.monotonic
    until = monotonic() + block
    while True:
        room = library.ports.future()
        library.tell(AwaitRoom(room, of_inbox))  # before the attempt, so that what ends meanwhile is not missed
        try:
            return attempt()
        except Busy as busy:
            of_inbox = isinstance(busy, InboxFull)
            if not room.wait(max(0.0, until - monotonic())):
                raise


def plan(library: Library, batch: BatchSubmission) -> BatchPlan:
    """What would become of each item. Raises what the items' iterator raises."""
    chunk = Cutter(library, replace(batch, whole=True), {}, 1).next()  # one part, as a part knows nothing of another that is not stored
    return BatchPlan([library.ask(PlanChunk(chunk), ANSWER_SECONDS + chunk.count / ROWS_A_SECOND)], batch_id=batch.batch_id or b"")
