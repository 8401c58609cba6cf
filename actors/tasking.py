"""The tasks of one run of a job: sent to the workers, waited for, taken back. None outlives its job, no result that was made is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from callboard.actors.actor import send
from callboard.actors.messages import Offer, TaskCall, TaskOrigin, TasksEnded, Withdraw
from callboard.actors.signal import Signal
from callboard.jobs.context import Dispatcher, TaskHandle
from callboard.jobs.errors import BadArgument, LibraryClosed, TaskCancelled, TaskFailed
from callboard.jobs.task import Cancelled, Done, Failed, Task, TaskEnd, check_task_type

if TYPE_CHECKING:
    from callboard.actors.context import RunningContext


class Tasks:
    """What a run has with the workers."""

    def __init__(self, ctx: RunningContext) -> None:
        self._ctx = ctx
        self._ends: dict[int, Callable[[int, TaskEnd], None]] = {}
        self._numbers = 0
        self.signal = Signal()
        """Tells the running ones to stop."""

    def ended(self, message: TasksEnded) -> None:
        """Hand each end to whoever waits for it."""
        for number, end in message.ends:
            take = self._ends.pop(number, None)
            if take is not None:
                take(number, end)

    def offer(self, tasks: Iterable[tuple[Task, Callable[[int, TaskEnd], None], dict[str, Any]]], origin: TaskOrigin) -> list[int]:
        """Send tasks to the workers; `take(number, end)` is called when one has ended. Answers their numbers."""
        calls: list[TaskCall] = []
        for task, take, more in list(tasks):  # as a list first: making a task may raise, and then none must be waited for
            self._numbers += 1
            self._ends[self._numbers] = take
            calls.append(TaskCall(origin, self._numbers, task, **more))
        if calls and not send(self._ctx.stage.dispatcher, Offer(tuple(calls))):
            for call in calls:
                del self._ends[call.number]
            raise LibraryClosed("the runtime has been closed; no task is run any more")
        return [call.number for call in calls]

    def origin(self, step: str, *, bulk: bool) -> TaskOrigin:
        return TaskOrigin(self._ctx.me, self._ctx.job_id, step, self._ctx.services, self.signal, bulk)

    def withdraw(self, number: int) -> None:
        self.signal.cancelled.add(number)
        send(self._ctx.stage.dispatcher, Withdraw(self._ctx.me, frozenset((number,))))

    def settle(self) -> None:
        """Take back the tasks that no worker has begun, and wait for the others: none outlives its job, no result that was made is lost."""
        if not self._ends:
            return
        self.signal.for_good = self._ctx.asked == "cancel"
        self.signal.stop = True
        send(self._ctx.stage.dispatcher, Withdraw(self._ctx.me))
        while self._ends:
            self._ctx.wait()
        self.signal = Signal()

    def as_completed(self, handles: Iterable[TaskHandle]) -> Iterator[TaskHandle]:
        ended: deque[RunningTask] = deque()
        waiting, kept_back = 0, False
        for handle in dict.fromkeys(handles):
            if not isinstance(handle, RunningTask):
                raise BadArgument(f"as_completed takes handles of this job's tasks, not {type(handle).__name__}")
            waiting += 1
            if handle.end is not None:
                ended.append(handle)
            else:
                handle.listener = ended.append
        while waiting:
            self._ctx.look()
            if self._ctx.asked is not None:
                self._ctx.settle()
            if ended:
                handle = ended.popleft()
                waiting -= 1
                if self._ctx.asked is None or not isinstance(handle.end, Cancelled):
                    yield handle
                else:
                    kept_back = True
            elif self._ctx.asked is not None:
                self._ctx.leave()
            else:
                self._ctx.wait()
        if kept_back:  # the loop was not given all of its tasks, so its end must not look like one
            self._ctx.leave()


class TaskDispatcher(Dispatcher):
    """`ctx.dispatcher`."""

    def __init__(self, ctx: RunningContext) -> None:
        self._ctx = ctx

    def dispatch(self, task: Task, *, step: str | None = None) -> TaskHandle:
        return self._send((task,), step, bulk=False)[0]

    def dispatch_many(self, tasks: Iterable[Task]) -> list[TaskHandle]:
        return self._send(tuple(tasks), None, bulk=True)

    def _send(self, tasks: tuple[Task, ...], step: str | None, *, bulk: bool) -> list[TaskHandle]:
        for kind in dict.fromkeys(map(type, tasks)):
            check_task_type(kind)
        handles = [RunningTask(self._ctx) for _ in tasks]
        more = {"step": step} if step is not None else {}
        origin = self._ctx.tasks.origin("", bulk=bulk)
        numbers = self._ctx.tasks.offer(((task, handle.take, more) for task, handle in zip(tasks, handles, strict=True)), origin)
        for handle, number in zip(handles, numbers, strict=True):
            handle.number = number
        return list(handles)


class RunningTask(TaskHandle):
    """A dispatched task, seen from its job."""

    __slots__ = ("_ctx", "end", "listener", "number")

    def __init__(self, ctx: RunningContext) -> None:
        self._ctx = ctx
        self.number = 0
        self.end: TaskEnd | None = None
        self.listener: Callable[[RunningTask], None] | None = None

    def take(self, number: int, end: TaskEnd) -> None:
        self.end = end
        if self.listener is not None:
            self.listener(self)

    def done(self) -> bool:
        self._ctx.look()
        return self.end is not None

    def result(self) -> object:
        self._ctx.look()
        while self.end is None and self._ctx.asked is None:
            self._ctx.wait()
        if self.end is None:
            self._ctx.settle()
        match self.end:
            case Done():
                return self.end.value
            case Failed():
                raise TaskFailed(self.end.error, traceback_text=self.end.traceback_text)
            case _:
                if self._ctx.asked is not None:
                    self._ctx.leave()
                raise TaskCancelled("the task was cancelled before it ended")

    def cancel(self) -> bool:
        if self.done():
            return False
        self._ctx.tasks.withdraw(self.number)
        return True
