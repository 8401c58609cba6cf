"""`ctx.map`: many tasks over a source of items, with the ledger of which are done. Cost in memory and on disk follows what is in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from callboard.jobs.errors import BadArgument, NotDecodable
from callboard.jobs.ledger import Ledger
from callboard.jobs.task import Cancelled, Done, Failed, Task, TaskEnd, check_task_type
from callboard.persistence.codec import CHECKPOINT, decode_value, encode_value
from callboard.persistence.writes import Part

if TYPE_CHECKING:
    from callboard.actors.context import RunningContext

I = TypeVar("I")  # noqa: E741 - an item

WINDOW_SECONDS = 0.02
"""Work kept in flight: enough that no worker waits for the job, little enough that a crash repeats little."""

WINDOW_MOST = 8_192

WINDOW_BATCHES = 2
"""Of tasks with a `run_many`, at least so many batches in flight: one is being written while another one waits for the disk."""

GATHER_SECONDS = 0.25
"""With so many lots of them in flight, fewer than a batch wait at most so long for more: offered as they come, each few would be a batch of its
own, and share its syncs with nobody."""

SAVE_SECONDS = 0.01
"""The ledger is saved at most so often, so that quick items share a commit."""

SOURCE_ITEMS = 256
SOURCE_SECONDS = 0.01
"""A source that is no sequence is read this far at a time: then what it gave is recorded, and the job looks around."""

UNSAVED_MOST = 4
"""Pieces of it on their way to the disk."""


class MapRun(Generic[I]):
    """The iterator that `ctx.map` returns."""

    def __init__(
        self, ctx: RunningContext, make: Callable[[I], Task], items: Sequence[I] | Callable[[I | None], Iterable[I]], parallel: int | None,
        name: str, describe: Callable[[I], str] | None = None,
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._make = make
        self._describe = describe
        self._parallel = parallel
        self.name = name
        self._origin = ctx.tasks.origin(name, bulk=True)
        self.ledger = Ledger()
        self._extra: list[Part] = []
        stored = [part for part in (ctx.stored.parts if ctx.stored is not None else ()) if part[1] == name and part[0] not in ("field", "head")]
        self._load(stored)
        self._source: SequenceSource[I] | RecordedSource[I]
        if callable(items):
            self._source = RecordedSource(self, ctx, items, stored)
        else:
            self._source = SequenceSource(items, self.ledger)
        self._in_flight: dict[int, int] = {}
        self._noted: dict[int, None] = {}
        """Positions with a note since the last save of any kind."""
        self._ends: deque[Done | Failed] = deque()
        self._last: Done | Failed | None = None
        self._least = 2 * ctx.stage.workers
        self._window = parallel or self._least
        self._filled_at, self._ended_since = ctx.ports.monotonic(), 0
        self._batch = 1
        """Most tasks that one `run_many` of this map takes; 1: there is none."""
        self._lots: dict[int, int] = {}
        """Of such tasks, offered together: by the number of the first how many have not ended."""
        self._lot_of: dict[int, int] = {}
        self._offered_at = float("-inf")
        self._saved_at = float("-inf")
        self._settled = self._over = False
        self._checked: dict[type[Task], None] = {}

    def __iter__(self) -> Iterator[Done | Failed]:
        return self

    @property
    def done(self) -> int:
        """Items done so far, over all runs of the job; failed ones count."""
        return self.ledger.done.count

    def __next__(self) -> Done | Failed:
        self._finish_last()
        ctx = self._ctx
        while not self._over:
            ctx.look()
            if ctx.asked is not None and not self._settled:
                ctx.settle()
                self._settled = True
            if self._ends:
                self._last = self._ends.popleft()
                return self._last
            if self._settled:
                ctx.leave()
            ctx.raise_save_error()
            held = self._refill()
            wait = self._save_if_due()
            if held is not None:
                wait = held if wait is None else min(wait, held)
            if not self._in_flight and not self._ends and self._source.exhausted():
                self._over = True
                if self.ledger.changed() or self._extra:
                    ctx.save()
            elif not self._ends:
                ctx.wait(wait)
        raise StopIteration

    # --- ends -------------------------------------------------------------------------------------------------------

    def _take(self, number: int, end: TaskEnd) -> None:
        position = self._in_flight.pop(number)
        self._ended_since += 1
        lot = self._lot_of.pop(number, None)
        if lot is not None:
            self._lots[lot] -= 1
            if not self._lots[lot]:
                del self._lots[lot]
        if isinstance(end, Cancelled):
            self._source.again(position, end.item)
        else:
            self._ends.append(end)

    def _finish_last(self) -> None:
        """The author asks for the next end: the previous one is done, and what he changed for it belongs to the same save."""
        end, self._last = self._last, None
        if end is None or end.position is None:
            return
        failed = isinstance(end, Failed)
        self.ledger.finish(end.position, failed=failed)
        if isinstance(end, Failed):
            self._ctx.warn(end.error, end.item if self._describe is None else self._describe(end.item))  # type: ignore[arg-type]
        self._source.finished(end.position, failed)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def _refill(self) -> float | None:
        """Offer what there is room for. Answers how many seconds fewer than a batch may wait for more; None: nothing waits for that."""
        if self._parallel is None:
            if len(self._in_flight) > self._window // 2:
                return None
            self._adapt()
        room = self._window - len(self._in_flight)
        gathering = self._offered_at + GATHER_SECONDS - self._ctx.ports.monotonic() if len(self._lots) >= WINDOW_BATCHES else 0.0
        batch = self._source.take(room, least=min(self._batch, room) if gathering > 0 else 1)
        if not batch:
            return gathering if gathering > 0 else None
        self._offered_at = self._ctx.ports.monotonic()
        tasks = [self._task(item) for _, item in batch]
        offered = ((task, self._take, self._more(*one)) for task, one in zip(tasks, batch, strict=True))
        numbers = self._ctx.tasks.offer(offered, self._origin)
        self._in_flight.update(zip(numbers, (position for position, _ in batch), strict=True))
        together = [number for number, task in zip(numbers, tasks, strict=True) if task.task_batch > 1]
        if together:
            self._lots[together[0]] = len(together)
            self._lot_of.update(dict.fromkeys(together, together[0]))
        return None

    def _adapt(self) -> None:
        """Keep some 20 ms of work in flight, at least two tasks a worker and two batches."""
        now = self._ctx.ports.monotonic()
        elapsed, self._filled_at = now - self._filled_at, now
        if elapsed > 0 and self._ended_since:
            wanted = int(self._ended_since / elapsed * WINDOW_SECONDS)
            self._window = max(self._least, min(WINDOW_MOST, wanted, self._window * 2))
        self._ended_since = 0

    def _task(self, item: I) -> Task:
        task = self._make(item)
        kind = type(task)
        if kind not in self._checked:
            check_task_type(kind)
            self._checked[kind] = None
            if kind.task_batch > 1:
                self._batch = max(self._batch, kind.task_batch)
                self._least = max(self._least, WINDOW_BATCHES * kind.task_batch)
        return task

    def _more(self, position: int, item: I) -> dict[str, Any]:
        recorded = self.ledger.notes.get(position)
        return {"position": position, "item": item} if recorded is None else {"position": position, "item": item, "recorded": recorded}

    def note(self, number: int, value: bytes) -> bool:
        """A running task of this map recorded a value. False if the task is not of this map."""
        position = self._in_flight.get(number)
        if position is None:
            return False
        self.ledger.note(position, value)
        self._noted[position] = None
        return True

    # --- saving -----------------------------------------------------------------------------------------------------

    def _save_if_due(self) -> float | None:
        """Save if something changed, nothing is on its way, and the last save is a while ago. Answers how long to wait at most."""
        if not self.ledger.changed() or self._ctx.saving:
            return None
        now = self._ctx.ports.monotonic()
        if now - self._saved_at < SAVE_SECONDS:
            return self._saved_at + SAVE_SECONDS - now
        self._saved_at = now
        self._ctx.save()
        return None

    def record(self, part: Part) -> None:
        """A part that goes with the next save."""
        self._extra.append(part)

    def changed_parts(self) -> list[Part]:
        ledger, name = self.ledger, self.name
        parts: list[Part] = [("done", name, page, value) for page, value in ledger.done.take_changes()]
        parts += [("failed", name, page, value) for page, value in ledger.failed.take_changes()]
        parts += [("note", name, position, value) for position, value in ledger.take_notes()]
        self._noted.clear()
        parts += self._extra
        self._extra = []
        return parts

    def changed_notes(self) -> list[Part]:
        """Only what tasks recorded. Not that a note is obsolete: that goes with the ledger, which says the item is done."""
        noted, self._noted = self._noted, {}
        notes = self.ledger.notes
        return [("note", self.name, position, notes[position]) for position in noted if position in notes]

    def touch_all(self) -> None:
        """A save failed: write everything again with the next one."""
        self.ledger.touch_all()
        self._source.touch_all()

    def _load(self, stored: list[tuple[str, str, int, bytes]]) -> None:
        for kind, _, page, value in stored:
            try:
                if kind == "done":
                    self.ledger.done.load(page, value)
                elif kind == "failed":
                    self.ledger.failed.load(page, value)
                elif kind == "only":
                    if self.ledger.only is None:
                        self.ledger.only = type(self.ledger.done)()
                    self.ledger.only.load(page, value)
                elif kind == "note":
                    self.ledger.notes[page] = value
            except ValueError as error:
                raise NotDecodable(f"the ledger of map {self.name!r} is damaged: {error}") from None


class SequenceSource(Generic[I]):
    """Items by position: nothing of them is stored."""

    def __init__(self, items: Sequence[I], ledger: Ledger) -> None:
        try:
            self._length = len(items)
        except TypeError:
            raise BadArgument(f"map: items is a {type(items).__name__}; give a sequence, or a function items(after)") from None
        self._items = items
        self._ledger = ledger
        self._next = ledger.done.first_missing()
        self._again: deque[int] = deque()

    def take(self, most: int, least: int) -> list[tuple[int, I]]:
        """Up to `most`; all of them are there already, so that none waits until there are `least`."""
        batch: list[tuple[int, I]] = []
        while self._again and len(batch) < most:
            position = self._again.popleft()
            batch.append((position, self._items[position]))
        while self._next < self._length and len(batch) < most:
            if not self._ledger.is_done(self._next):
                batch.append((self._next, self._items[self._next]))
            self._next += 1
        return batch

    def again(self, position: int, item: object) -> None:
        """The task was withdrawn."""
        self._again.append(position)

    def finished(self, position: int, failed: bool) -> None: ...

    def touch_all(self) -> None: ...

    def exhausted(self) -> bool:
        return self._next >= self._length and not self._again


class RecordedSource(Generic[I]):
    """Items from a function: each piece of what it yields is on disk before the first of it is dispatched, so that positions stay true."""

    def __init__(
        self, run: MapRun[I], ctx: RunningContext, items: Callable[[I | None], Iterable[I]], stored: list[tuple[str, str, int, bytes]]
    ) -> None:
        self._run, self._ctx, self._function = run, ctx, items
        self._iterator: Iterator[I] | None = None
        self._after: I | None = None
        self._ready: deque[tuple[int, I]] = deque()
        self._unsaved: deque[tuple[int, int, list[I]]] = deque()
        self._pieces: dict[int, tuple[list[I], int]] = {}
        """First position → (items, how many are not done). Kept until all are done and none failed."""
        ledger = run.ledger
        for kind, _, page, value in stored:
            if kind == "source":
                ledger.recorded, ledger.exhausted, self._after = decode_value(value, CHECKPOINT)
            elif kind == "items":
                piece: list[I] = decode_value(value, CHECKPOINT)
                left = [(page + index, item) for index, item in enumerate(piece) if not ledger.is_done(page + index)]
                if left:  # otherwise it is kept for its failed items only
                    self._pieces[page] = (piece, len(left))
                    self._ready.extend(left)
        if ledger.only is not None:
            ledger.exhausted = True  # a retry of what failed does not look for more

    def take(self, most: int, least: int) -> list[tuple[int, I]]:
        """Up to `most`; none while there are fewer than `least` and more may come."""
        while self._unsaved and self._unsaved[0][0] <= self._ctx.saved:
            _, start, piece = self._unsaved.popleft()
            self._ready.extend(enumerate(piece, start))
        if len(self._ready) < most and len(self._unsaved) < UNSAVED_MOST and not self._run.ledger.exhausted:
            self._read_on()
        if len(self._ready) < least and (self._unsaved or not self._run.ledger.exhausted):
            return []
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def _read_on(self) -> None:
        ledger, ctx = self._run.ledger, self._ctx
        if self._iterator is None:
            self._iterator = iter(self._function(self._after))
        piece: list[I] = []
        until = ctx.ports.monotonic() + SOURCE_SECONDS
        while len(piece) < SOURCE_ITEMS and (not piece or ctx.ports.monotonic() < until):
            try:
                piece.append(next(self._iterator))
            except StopIteration:
                ledger.exhausted = True
                break
        start = ledger.recorded
        if piece:
            blob = encode_value(piece, CHECKPOINT)
            piece = decode_value(blob, CHECKPOINT)  # what a resumed run will get, this one gets too (a dataclass comes back as a dict)
            self._pieces[start] = (piece, len(piece))
            self._after = piece[-1]
            ledger.recorded += len(piece)
            self._run.record(("items", self._run.name, start, blob))
        self._run.record(self._source_part())
        self._unsaved.append((ctx.save(), start, piece))

    def _source_part(self) -> Part:
        ledger = self._run.ledger
        return "source", self._run.name, 0, encode_value((ledger.recorded, ledger.exhausted, self._after), CHECKPOINT)

    def again(self, position: int, item: object) -> None:
        self._ready.append((position, item))  # type: ignore[arg-type]

    def finished(self, position: int, failed: bool) -> None:
        """Forget a piece once all of it is done; one with a failure stays, for a retry."""
        start = self._start_of(position)
        piece, left = self._pieces[start]
        self._pieces[start] = (piece, left - 1)
        if left == 1:
            del self._pieces[start]
            failures = self._run.ledger.failed
            if not any(start + index in failures for index in range(len(piece))):
                self._run.record(("items", self._run.name, start, None))

    def _start_of(self, position: int) -> int:
        """Pieces are few (those in flight), and the oldest is the likely one."""
        return max(start for start in self._pieces if start <= position)

    def touch_all(self) -> None:
        for start, (piece, _) in self._pieces.items():
            self._run.record(("items", self._run.name, start, encode_value(piece, CHECKPOINT)))
        self._run.record(self._source_part())

    def exhausted(self) -> bool:
        return self._run.ledger.exhausted and not self._ready and not self._unsaved
