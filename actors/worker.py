"""A worker: runs tasks that it asked for, and says how each ended. User code never runs bare on its stack.

`run_task` and `run_together` are the seam: tasks go in with their contexts, an end comes out for each. A lane that runs its tasks in another
process replaces these calls.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pykka

from callboard.actors.actor import Actor, send
from callboard.actors.machine import Abandoned
from callboard.actors.messages import Ready, Ref, Run, TaskAdvanced, TaskCall, TaskNoted, TasksEnded
from callboard.actors.ports import Ports
from callboard.jobs.errors import BadArgument, Interrupted, StoreUnavailable, UnknownMessage, error_text, traceback_text
from callboard.jobs.identity import id_text
from callboard.jobs.queue import Hand
from callboard.jobs.task import Cancelled, Done, Failed, Task, TaskEnd
from callboard.persistence.codec import decode_value, encode, encode_value

log = logging.getLogger("callboard.library")

TELL_EVERY = 0.005
"""Seconds: ends of a chunk are told at the latest after so long, so that a job sees the first before the last is done."""

ALIVE_SECONDS = 1.0
"""Who waits for the disk in `record(wait=True)` looks this often whether the job's actor, which must answer, is still there."""


class Chunk(Hand[TaskCall]):
    """Tasks of one origin, dealt to one worker, with the ends that their job has not been told yet.

    The worker tells them when there are enough; the dispatcher when the worker has been long in the next task.
    """

    __slots__ = ("_owner", "ended")

    def __init__(self, calls: Iterable[TaskCall], owner: Ref) -> None:
        super().__init__(calls)
        self._owner = owner
        self.ended: deque[tuple[int, TaskEnd]] = deque()

    def tell(self) -> None:
        """Tell the job what has ended. Each end is told by exactly one of the two who call this."""
        told: list[tuple[int, TaskEnd]] = []
        while True:
            try:
                told.append(self.ended.popleft())
            except IndexError:
                break
        if told:
            send(self._owner, TasksEnded(tuple(told)))


class WorkerContext:
    """What one task sees; `jobs/task.py` says what each part means."""

    __slots__ = ("_call", "_ports")

    def __init__(self, call: TaskCall, ports: Ports) -> None:
        self._call = call
        self._ports = ports

    @property
    def token(self) -> str:
        call = self._call
        if call.position is not None:
            step = f"{call.origin.step}:{call.position}"
        elif call.step is not None:
            step = call.step
        else:
            kind = type(call.task)
            fields = hashlib.blake2b(kind.__qualname__.encode() + b"\0" + encode(call.task), digest_size=8).hexdigest()
            step = f"{kind.__name__}:{fields}"
        return f"{id_text(call.origin.job_id)}:{step}"

    @property
    def recorded(self) -> object:
        return None if self._call.recorded is None else decode_value(self._call.recorded)

    @property
    def interrupted(self) -> bool:
        return self._call.origin.signal.asks(self._call.number)

    @property
    def cancelled(self) -> bool:
        return self._call.origin.signal.for_good

    @property
    def services(self) -> Any:
        return self._call.origin.services

    def check_interrupt(self) -> None:
        self._ports.yield_point("task: look")
        if self._call.origin.signal.asks(self._call.number):
            raise Interrupted("the job wants its tasks to stop")

    def record(self, value: object, *, wait: bool = False) -> None:
        future = self._ports.future() if wait else None
        owner = self._call.origin.owner
        there = send(owner, TaskNoted(self._call.number, encode_value(value), future))
        while future is not None and not future.wait(ALIVE_SECONDS if there else 0.0):
            there = there and owner.is_alive()
            if not there:
                raise StoreUnavailable("the job's actor has stopped; whether the value is kept is not known")
        if future is not None:
            future.get(timeout=0)

    def advance(self, amount: int) -> None:
        send(self._call.origin.owner, TaskAdvanced(amount))


def run_task(call: TaskCall, ports: Ports) -> TaskEnd:
    """Run one task; whatever it raises becomes an end."""
    try:
        value = call.task.run(WorkerContext(call, ports))
    except Abandoned:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit in a task must not stop every actor of the host
        return _raised(call, error)
    return Done(value, call.position, call.item)


def run_together(calls: Sequence[TaskCall], ports: Ports, ended: Callable[[TaskCall, TaskEnd], None]) -> None:
    """Run tasks of one class by its `run_many`. `ended` is told an end for each, in order, whatever becomes of the others."""
    kind, left = type(calls[0].task), deque(calls)
    try:
        for outcome in kind.run_many([call.task for call in calls], [WorkerContext(call, ports) for call in calls]):
            if not left:
                raise BadArgument(f"{kind.__qualname__}.run_many gave more outcomes than the {len(calls)} tasks it was given")
            call = left.popleft()
            if isinstance(outcome, Done):
                ended(call, Done(outcome.value, call.position, call.item))
            elif isinstance(outcome, BaseException):
                ended(call, _raised(call, outcome))
            else:
                text = f"{kind.__qualname__}.run_many gave a {type(outcome).__name__}; give Done(value) or an exception for each task"
                ended(call, _raised(call, BadArgument(text)))
        if left:
            raise BadArgument(f"{kind.__qualname__}.run_many gave {len(calls) - len(left)} outcomes for {len(calls)} tasks")
    except Abandoned:
        raise
    except BaseException as error:  # noqa: BLE001 - as in run_task
        if not left:
            log.error("%s.run_many failed after its last outcome; the tasks ended as it had said", kind.__qualname__, exc_info=error)
        for call in left:
            ended(call, _raised(call, error, f" (raised out of {kind.__qualname__}.run_many; {len(left)} of {len(calls)} had no outcome yet)"))


def _raised(call: TaskCall, error: BaseException, more: str = "") -> TaskEnd:
    """The end of a task that raised."""
    if isinstance(error, Interrupted) and call.origin.signal.asks(call.number):
        return Cancelled(call.position, call.item)
    # An Interrupted by the author, whom nobody asked, has failed: as Cancelled the item would be tried again at once, for ever.
    return Failed(error_text(error) + more, traceback_text(error), call.position, call.item)


class WorkerActor(Actor):
    """One thread of the pool. Pulls: it says Ready and is given work."""

    stop_overtakes = True

    def __init__(self, ports: Ports, dispatcher: Ref) -> None:
        super().__init__(ports, dispatcher)
        self._dispatcher = dispatcher

    def started(self) -> None:
        send(self._dispatcher, Ready(self.actor_ref))

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        if not isinstance(message, Run):
            raise UnknownMessage(f"a worker takes only Run, not {type(message).__name__}")
        chunk, monotonic = message.hand, self.ports.monotonic
        assert isinstance(chunk, Chunk)
        started = told_at = monotonic()
        count, kind = 0, None

        def ended(call: TaskCall, end: TaskEnd) -> None:
            nonlocal told_at
            chunk.ended.append((call.number, end))
            self.ports.milestone("task ended", (call.task, end))
            if monotonic() - told_at >= TELL_EVERY:
                chunk.tell()
                told_at = monotonic()

        while (call := chunk.take()) is not None:
            kind = type(call.task)
            calls = [call]
            while len(calls) < kind.task_batch and (call := chunk.take()) is not None:
                calls.append(call)
            self._run(calls, ended)
            count += len(calls)
        chunk.tell()
        ran: tuple[type[Task], int, float] | None = None if kind is None else (kind, count, monotonic() - started)
        send(self._dispatcher, Ready(self.actor_ref, ran, message.lane))

    def _run(self, calls: list[TaskCall], ended: Callable[[TaskCall, TaskEnd], None]) -> None:
        """Run those that nobody wants to stop."""
        wanted: list[TaskCall] = []
        for call in calls:
            if self.inbox.stopping or call.origin.signal.asks(call.number):
                ended(call, Cancelled(call.position, call.item))
            else:
                wanted.append(call)
        if len(wanted) > 1:
            run_together(wanted, self.ports, ended)
        elif wanted:
            ended(wanted[0], run_task(wanted[0], self.ports))
