"""Gives tasks to workers that ask for them, and leave to run jobs to libraries that ask for it. What is next is decided in `jobs/queue.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pykka

from callboard.actors.actor import Actor, ActorFailed, RestartBudget, send, tell_stop
from callboard.actors.messages import (
    AskSlots,
    Offer,
    Ready,
    RecallSlots,
    Ref,
    ReturnSlots,
    ReviewHands,
    Run,
    SlotsGranted,
    TaskCall,
    TasksEnded,
    Withdraw,
)  # fmt: skip
from callboard.actors.ports import Ports
from callboard.actors.worker import Chunk, WorkerActor
from callboard.jobs.errors import UnknownMessage
from callboard.jobs.queue import SlotPool, TaskQueue
from callboard.jobs.task import Cancelled, Failed, Task, TaskEnd

CHUNK_SECONDS = 0.004
"""Work in one chunk of small tasks: long against a message (some µs), short against what a person notices."""

CHUNK_MOST = 512
"""Tasks in one chunk, at most."""

REVIEW_SECONDS = 0.05
"""A chunk not done after so long gives back what it has not begun: one of it runs long."""

AVERAGE_WEIGHT = 0.2


class DispatcherActor(Actor):
    """One a runtime: its workers' parent."""

    def __init__(self, ports: Ports, parent: Ref | None, workers: int, lanes: Mapping[str, int], running_jobs: int) -> None:
        super().__init__(ports, parent)
        self._workers = workers
        self._queue: TaskQueue[TaskCall] = TaskQueue(dict(lanes))
        self._pool: SlotPool[Ref] = SlotPool(running_jobs)
        self._recalled: dict[Ref, None] = {}
        self._idle: list[Ref] = []
        self._crew: dict[Ref, None] = {}
        """Every worker that is not known to be dead."""
        self._hands: dict[Ref, tuple[Chunk, str, tuple[TaskCall, ...]]] = {}
        self._average: dict[type[Task], float] = {}
        self._reviewing = False
        self._restarts = RestartBudget(limit=8)

    def started(self) -> None:
        for _ in range(self._workers):
            self._hire()

    def _hire(self) -> None:
        self._crew[WorkerActor.start(self.ports, self.actor_ref)] = None

    def stopped(self) -> None:
        """What no worker has begun comes back to its job, which may be waiting for it; then the workers stop, each after its task."""
        while (envelope := self.inbox.next_past_stop(0)) is not None:
            if isinstance(envelope.message, Offer):
                self._enqueue(envelope.message)
        self._give_back(lambda call: True)
        for worker in self._crew:
            tell_stop(worker)

    def on_failure(self, exception_type: object, exception_value: BaseException | None, traceback: object) -> None:
        super().on_failure(exception_type, exception_value, traceback)
        self.stopped()

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        match message:
            case Offer():
                self._enqueue(message)
                self._feed()
            case Ready():
                self._ready(message)
                self._feed()
            case Withdraw():
                self._withdraw(message)
            case AskSlots():
                if message.alone:
                    self._pool.ask_alone(message.library)
                else:
                    self._pool.ask(message.library, message.slots)
                self._grant()
            case ReturnSlots():
                self._take_slots(message)
            case ReviewHands():
                self._review()
            case ActorFailed():
                self._worker_died(message)
            case _:
                raise UnknownMessage(f"the dispatcher has no answer to {type(message).__name__}")

    # --- tasks ------------------------------------------------------------------------------------------------------

    def _enqueue(self, offer: Offer) -> None:
        for call in offer.calls:
            self._queue.put(call.task.task_lane, call.task.task_priority, call)

    def _ready(self, message: Ready) -> None:
        dealt = self._hands.pop(message.worker, None)
        if dealt is not None:
            self._queue.free(dealt[1])
        if message.ran is not None:
            kind, count, seconds = message.ran
            mean = seconds / count
            self._average[kind] = mean + (1 - AVERAGE_WEIGHT) * (self._average.get(kind, mean) - mean)
        self._idle.append(message.worker)

    def _feed(self) -> None:
        while self._idle:
            best = self._queue.take()
            if best is None:
                return
            lane, first = best
            calls = [first, *self._more_like(lane, first)]
            worker, chunk = self._idle.pop(), Chunk(calls, first.origin.owner)
            self._hands[worker] = (chunk, lane, tuple(calls))
            if not send(worker, Run(chunk, lane)):
                self._crew.pop(worker, None)
                self._lost(worker)
            if len(calls) > 1 and not self._reviewing:
                self._reviewing = True
                self.ports.call_later(REVIEW_SECONDS, lambda: send(self.actor_ref, ReviewHands()) and None)

    def _more_like(self, lane: str, first: TaskCall) -> list[TaskCall]:
        """Small tasks of one job travel in chunks; the idle workers share what waits, so that none stays idle beside a full chunk.

        Those with a `run_many` are not shared: what it does once for all of them would be done by each worker.
        """
        kind, origin = type(first.task), first.origin
        average = self._average.get(kind)
        if not origin.bulk:
            return []
        if kind.task_batch > 1:
            most = kind.task_batch
        elif average is None or average >= CHUNK_SECONDS:
            return []
        else:
            most = min(CHUNK_MOST, int(CHUNK_SECONDS / max(average, 1e-7)), len(self._queue) // len(self._idle))
        return self._queue.take_more(lane, lambda call: type(call.task) is kind and call.origin is origin, most - 1)

    def _withdraw(self, message: Withdraw) -> None:
        def wanted(call: TaskCall) -> bool:
            return call.origin.owner is message.owner and (message.numbers is None or call.number in message.numbers)

        self._give_back(wanted)

    def _give_back(self, wanted: Callable[[TaskCall], bool]) -> None:
        """Take back what no worker has begun; its jobs get it as Cancelled."""
        back = self._queue.withdraw(wanted)
        for chunk, _, _ in self._hands.values():
            back += chunk.take_back_if(wanted)
        ends: dict[Ref, list[tuple[int, TaskEnd]]] = {}
        for call in back:
            ends.setdefault(call.origin.owner, []).append((call.number, Cancelled(call.position, call.item)))
        for owner, some in ends.items():
            send(owner, TasksEnded(tuple(some)))

    def _review(self) -> None:
        self._reviewing = False
        waiting = False
        for chunk, lane, _ in self._hands.values():
            chunk.tell()
            if self._idle and len(chunk):
                for call in chunk.take_back():
                    self._queue.put(lane, call.task.task_priority, call)
            waiting = waiting or bool(len(chunk))
        self._feed()
        if waiting and not self._reviewing:
            self._reviewing = True
            self.ports.call_later(REVIEW_SECONDS, lambda: send(self.actor_ref, ReviewHands()) and None)

    # --- workers that die -------------------------------------------------------------------------------------------

    def _worker_died(self, message: ActorFailed) -> None:
        if message.ref in self._idle:
            self._idle.remove(message.ref)
        self._crew.pop(message.ref, None)
        self._lost(message.ref, message.error)
        if self._restarts.allow(self.ports.monotonic()):
            self._hire()

    def _lost(self, worker: Ref, error: str = "it had stopped") -> None:
        """What a dead worker had not begun goes to another one; what it may have begun has failed."""
        lost = self._hands.pop(worker, None)
        if lost is None:
            return
        chunk, lane, calls = lost
        chunk.tell()
        self._queue.free(lane)
        unbegun = chunk.take_back()
        for call in unbegun:
            self._queue.put(lane, call.task.task_priority, call)
        spared = {id(call) for call in unbegun}
        for call in calls:
            if id(call) in spared:
                continue
            end = Failed(f"the worker died: {error}", "", call.position, call.item)
            send(call.origin.owner, TasksEnded(((call.number, end),)))

    # --- leave to run jobs ------------------------------------------------------------------------------------------

    def _take_slots(self, message: ReturnSlots) -> None:
        """Who gives back asks again when there is work. Left as wanting, an idle library would be granted the same slot at once."""
        if message.forget:
            self._pool.forget(message.library)
        else:
            self._pool.give_back(message.library, message.slots)
            self._pool.ask(message.library, 0)
        if message.end_alone:
            self._pool.end_alone(message.library)
        if message.slots or message.forget:  # one who had none to give stays called upon; to call again would only echo
            self._recalled.pop(message.library, None)
        self._grant()

    def _grant(self) -> None:
        for library, slots, alone in self._pool.grant():
            self._recalled.pop(library, None)
            if not send(library, SlotsGranted(slots, alone)):
                self._pool.forget(library)
        for library in self._pool.recall():
            if library not in self._recalled:
                self._recalled[library] = None
                send(library, RecallSlots())
