"""A worker: runs tasks that it asked for, and says how each ended. User code never runs bare on its stack.

`run_task` is the seam: a task goes in with its context, an end comes out. A lane that runs its tasks in another process replaces this call.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pykka

from callboard.actors.actor import Actor, send
from callboard.actors.machine import Abandoned
from callboard.actors.messages import Ready, Ref, Run, TaskAdvanced, TaskCall, TaskNoted, TasksEnded
from callboard.actors.ports import Ports
from callboard.jobs.errors import Interrupted, UnknownMessage, error_text, traceback_text
from callboard.jobs.identity import id_text
from callboard.jobs.task import Cancelled, Done, Failed, Task, TaskEnd
from callboard.persistence.codec import decode_value, encode, encode_value

TELL_EVERY = 0.005
"""Seconds: ends of a chunk are told at the latest after so long, so that a job sees the first before the last is done."""

RECORD_TIMEOUT = 60.0
"""Seconds that `record(wait=True)` waits for the disk."""


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
        return self._call.origin.signal.stop

    @property
    def services(self) -> Any:
        return self._call.origin.services

    def check_interrupt(self) -> None:
        self._ports.yield_point("task: look")
        if self._call.origin.signal.stop:
            raise Interrupted("the job wants its tasks to stop")

    def record(self, value: object, *, wait: bool = False) -> None:
        future = self._ports.future() if wait else None
        send(self._call.origin.owner, TaskNoted(self._call.number, encode_value(value), future))
        if future is not None:
            future.get(timeout=RECORD_TIMEOUT)

    def advance(self, amount: int) -> None:
        send(self._call.origin.owner, TaskAdvanced(amount))


def run_task(call: TaskCall, ports: Ports) -> TaskEnd:
    """Run one task; whatever it raises becomes an end."""
    try:
        value = call.task.run(WorkerContext(call, ports))
    except Abandoned:
        raise
    except Interrupted:
        return Cancelled(call.position, call.item)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a task must not stop every actor of the host
        return Failed(error_text(error), traceback_text(error), call.position, call.item)
    return Done(value, call.position, call.item)


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
        monotonic = self.ports.monotonic
        started = told_at = monotonic()
        count, kind = 0, None
        ends: list[tuple[int, TaskEnd]] = []
        owner: Ref | None = None
        while (call := message.hand.take()) is not None:
            if owner is not None and (call.origin.owner is not owner or monotonic() - told_at >= TELL_EVERY):
                send(owner, TasksEnded(tuple(ends)))
                ends, told_at = [], monotonic()
            owner, kind = call.origin.owner, type(call.task)
            if self.inbox.stopping or call.origin.signal.stop:
                ends.append((call.number, Cancelled(call.position, call.item)))
            else:
                ends.append((call.number, run_task(call, self.ports)))
            count += 1
        if owner is not None:
            send(owner, TasksEnded(tuple(ends)))
        ran: tuple[type[Task], int, float] | None = None if kind is None else (kind, count, monotonic() - started)
        send(self._dispatcher, Ready(self.actor_ref, ran, message.lane))


