"""Greenlets instead of threads, a heap of timers instead of clocks, and a seeded choice of who goes on at every step.

Knows lives of a process only as owners of threads and timers that can be dead; who is killed and when is the simulation's matter.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Callable
from random import Random
from typing import Any

from greenlet import getcurrent  # type: ignore[import-untyped]

from callboard.actors.ports import Abandoned
from callboard.actors.testing.stack import Stack, idle_stacks
from callboard.actors.testing.trace import Trace

STEP_SECONDS = 1e-6
"""Virtual time a step takes, so that no two steps are at the same instant."""


class Crashed(Abandoned):
    """This life of the simulated process is over. Seen only by code that is being cleared away."""


class SimulationStuck(AssertionError):
    """Nothing can go on although somebody waits for ever, or the limit of steps was reached. The text has the seed and the trace."""


class Life:
    """One life of the simulated process, from a boot to a crash."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Which life it is, from 1."""
        self.dead = False
        self.closed = False
        """Its timers were closed; its threads go on."""
        self.threads: list[SimThread] = []
        """Those that have not finished."""


class SimThread:
    """A simulated thread: an actor's loop, a thread of the runtime, or a script."""

    def __init__(self, scheduler: Scheduler, life: Life, name: str, *, script: bool) -> None:
        self.name = name
        self.life = life
        self.script = script
        self.greenlet: Any = None
        """None when it has finished."""
        self.stack: Stack | None = None
        self.begun = False
        self.waiting: str | None = None
        """What it is parked on; None when it runs or is ready to."""
        self.patient = False
        """It waits for messages: for ever is no deadlock."""
        self.woken = False
        """By what it waited for, not by its timeout."""
        self.finished = False
        self.error: BaseException | None = None
        self.ghost_calls = 0
        self._scheduler = scheduler
        self._joiners: list[SimThread] = []

    def join(self, timeout: float | None) -> bool:
        """Wait at most `timeout` virtual seconds (None: for ever). Whether it has finished."""
        return self._scheduler.wait(lambda: self.finished, self._joiners, f"the end of {self.name}", timeout)

    def body(self, run: Callable[[], object]) -> None:
        """What its greenlet runs."""
        self.begun = True
        try:
            run()
        except Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, `run()` of the simulation raises it
            self.error = error
        self.finished = True
        while self._joiners:
            self._scheduler.wake(self._joiners.pop())


class SimTimer:
    """A timer: a call to come (`later`), or the end of somebody's patience."""

    __slots__ = ("call", "later", "life")

    def __init__(self, life: Life | None, call: Callable[[], object], *, later: bool = False) -> None:
        self.life = life
        """Whose end is its own; None: nobody's."""
        self.call: Callable[[], object] | None = call
        """None: it fires no more."""
        self.later = later

    def cancel(self) -> None:
        self.call = None


class Scheduler:
    """Who goes on, and what time it is. Drawn from `rng`, and from nothing else."""

    def __init__(self, seed: int, clock_start: float, time_lapse: float, *, traced: bool) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.draw = self.rng.random
        self.now = 0.0
        """Virtual seconds since the start."""
        self.clock_start = clock_start
        """What the wall clock shows at `now` 0; may be changed at any time, as people do."""
        self.steps = 0
        self.current: SimThread | None = None
        """Who runs; None: the program that made the simulation."""
        self.record = Trace()
        self.traced = traced
        """Whether anybody will read what is noted: else no words are made for it."""
        # Some seeds change the thread at every step, others let it run for a while; some keep time, in others a thread is now and
        # then so slow that even a timer of a minute overtakes it. Each finds what the others do not.
        self._stay = self.rng.choice((0.0, 0.5, 0.9))
        self._slowness = self.rng.choice((-1, 0, 0, 2))
        self._time_lapse = time_lapse
        self._alarm = math.inf
        self._hub_sees_idleness = False
        """Someone has to be asked there whether to go on when nobody can."""
        self._hub = getcurrent()
        self._hub_switch: Callable[[], object] = self._hub.switch
        self._idle_stacks = idle_stacks()
        self._ready: list[SimThread] = []
        self._stayer: SimThread | None = None
        self._timers: list[tuple[float, int, SimTimer]] = []
        self._timers_set = 0
        self._numbers: dict[str, int] = {}
        self._rare_paths: dict[str, bool] = {}

    def run(self, *, until: Callable[[], bool] | None = None, when_idle: bool = False, max_steps: int = 200_000) -> str:
        """Let it go on; see `Simulation.run`."""
        raise NotImplementedError

    def report(self, reason: str, lines: int = 50) -> str:
        """A text for whoever has to find out; see `Simulation.report`."""
        raise NotImplementedError

    # --- for the ports --------------------------------------------------------------------------------------------------

    def step(self, what: str, detail: str) -> None:
        """A port was called: note it, and let another thread go on, or this one, or nobody ever again."""
        self.steps += 1
        self.now += STEP_SECONDS
        if self.traced:
            self.note(what, detail)
        thread = self.current
        if thread is None:
            return
        if self.draw() < self._stay:
            if self.steps < self._alarm:
                return
            self._stayer = thread
        self._ready.append(thread)
        self._leave(thread)

    def note(self, what: str, detail: str) -> None:
        """Add a line to the trace."""
        if not self.traced:
            return
        thread = self.current
        self.record.add(self.steps, self.now, "-" if thread is None else thread.name, what, detail)

    def coin(self) -> bool:
        """Whether to step before the effect of a call or after it: a crash may come on either side."""
        return self.draw() < 0.5

    def rare(self, name: str) -> bool:
        """Now and then True, for the names that this seed has chosen."""
        chosen = self._rare_paths.get(name)
        if chosen is None:
            chosen = self._rare_paths[name] = self.rng.random() < 0.25
        return chosen and self.rng.random() < 0.1

    def number(self, kind: str) -> int:
        """The next number of a kind of thing, from 1: names must not come from addresses or uuids."""
        count = self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return count

    def start_thread(self, life: Life, run: Callable[[], object], name: str, *, script: bool = False) -> SimThread:
        """Start a simulated thread in a life of the process."""
        thread = SimThread(self, life, f"{life.number}/{name}-{self.number(name)}", script=script)
        thread.stack = stack = self._idle_stacks.pop() if self._idle_stacks else Stack(self._hub)
        thread.greenlet, stack.run = stack.greenlet, functools.partial(thread.body, run)
        life.threads.append(thread)
        self._ready.append(thread)
        self.step("start", thread.name)
        return thread

    def wait(self, ended: Callable[[], object], waiters: list[SimThread], what: str, timeout: float | None, *, patient: bool = False) -> bool:
        """Wait until `ended`, at most `timeout` seconds: parked among `waiters`, out of which the waker takes whom it wakes."""
        if ended():
            return True
        thread = self.current
        if thread is None:
            return self._drive(ended, what, timeout)
        timer = None
        if timeout is not None:
            if timeout <= 0:
                self.step("look", what)
                return bool(ended())
            deadline = self.now + timeout
        while True:
            waiters.append(thread)
            thread.waiting, thread.patient, thread.woken = what, patient, False
            if timeout is not None:
                timer = self.set_timer(deadline - self.now, SimTimer(thread.life, functools.partial(self._time_out, thread)))
            if self.traced:
                self.note("wait", what)
            self._leave(thread)
            if timer is not None:
                timer.cancel()
            if not thread.woken:
                if thread in waiters:
                    waiters.remove(thread)
                return bool(ended())
            if ended():
                return True

    def wake(self, thread: SimThread) -> None:
        """Let a parked thread go on."""
        if thread.waiting is not None and not thread.life.dead:
            thread.waiting = None
            thread.woken = True
            self._ready.append(thread)

    def set_timer(self, seconds: float, timer: SimTimer) -> SimTimer:
        """Have it fired by the scheduler in `seconds` of virtual time."""
        self._timers_set += 1
        heapq.heappush(self._timers, (self.now + seconds, self._timers_set, timer))
        return timer

    def drop_timers(self, life: Life, *, later: bool) -> None:
        """Those of a life fire no more; `later`: only the calls to come."""
        for _, _, timer in self._timers:
            if timer.life is life and (timer.later or not later):
                timer.cancel()

    def banish(self) -> None:
        """Away for good with a ghost that will not leave: one that catches everything and tries again."""
        ghost = self.current
        if ghost is not None and ghost.greenlet is getcurrent():
            ghost.ghost_calls += 1
            if ghost.ghost_calls > 100:
                ghost.greenlet.parent.switch()

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _pass_time(self) -> bool:
        """Fire the next timer if it is due, or nobody can go on, or now and then if everybody is slow. Whether one was fired."""
        timers = self._timers
        while timers:
            when, _, timer = timers[0]
            if timer.call is None:
                heapq.heappop(timers)
                continue
            if when > self.now and self._ready and (self.draw() >= self._time_lapse or not self._are_slow(when - self.now)):
                return False
            self._fire_next()
            return True
        return False

    def _fire_next(self) -> None:
        when, _, timer = heapq.heappop(self._timers)
        self.now = max(self.now, when)
        call, timer.call = timer.call, None
        if call is not None:
            call()

    def _are_slow(self, seconds: float) -> bool:
        """Whether those who could go on take so long: often as long as milliseconds, seldom longer."""
        patience: float = 10.0 ** self.rng.uniform(-3, self._slowness)
        return seconds <= patience

    def _pick(self) -> SimThread | None:
        """Who goes on."""
        ready = self._ready
        if self._stayer is not None:
            thread, self._stayer = self._stayer, None
            ready.remove(thread)
            return thread
        if not ready:
            return None
        index = int(self.draw() * len(ready))
        ready[index], ready[-1] = ready[-1], ready[index]
        return ready.pop()

    def _resume(self, thread: SimThread) -> None:
        """Let a thread go on, until one has finished or there is something that only the hub does."""
        self.current = thread
        try:
            thread.greenlet.switch()
        finally:
            back, self.current = self.current, None
        if back is not None and back.finished:
            self._give_back(back)
            back.life.threads.remove(back)
            if back.error is not None:
                back.error.add_note(self.report(f"raised in {back.name}"))
                raise back.error

    def _leave(self, thread: SimThread) -> None:
        """Let another one go on, until it is this thread's turn. For the dead it never is; they end by a Crashed thrown in here.

        The next one is switched to from here, which is half the way that leads through the hub. This is in every step, so what `_pass_time`
        and `_pick` mostly come to stands here once more: the next timer is not due, time does not pass, and somebody is picked.
        """
        self.current = None
        while self.steps < self._alarm:
            ready, timers, after = self._ready, self._timers, None
            if ready and timers and timers[0][0] > self.now and timers[0][2].call is not None:
                if self.draw() < self._time_lapse and self._are_slow(timers[0][0] - self.now):
                    self._fire_next()
                    continue
            elif not ready and self._hub_sees_idleness:
                break
            elif timers and self._pass_time():
                continue  # it may have started a thread, which is a step
            if ready and self._stayer is None:
                index = int(self.draw() * len(ready))
                after = ready.pop()
                if index < len(ready):
                    after, ready[index] = ready[index], after
            else:
                after = self._pick()
                if after is None:
                    break
            self.current = after
            if after is not thread:
                after.greenlet.switch()
            return
        self.current = thread
        self._hub_switch()

    def _give_back(self, thread: SimThread) -> None:
        """What a thread ran on that has finished, or has not begun and never will."""
        stack, thread.stack, thread.greenlet = thread.stack, None, None
        if stack is not None:
            stack.greenlet.parent = self._hub
            stack.greenlet.gr_context = None  # what the thread had set there is no business of the next one
            self._idle_stacks.append(stack)

    def _time_out(self, thread: SimThread) -> None:
        if thread.waiting is not None:
            thread.waiting = None
            self._ready.append(thread)

    def _drive(self, ended: Callable[[], object], what: str, timeout: float | None) -> bool:
        """How the program that made the simulation waits: by running it."""
        passed: list[bool] = []
        timer = None if timeout is None else self.set_timer(max(timeout, 0.0), SimTimer(None, lambda: passed.append(True)))
        outcome = self.run(until=lambda: bool(ended() or passed))
        if timer is not None:
            timer.cancel()
        if outcome != "until":
            raise SimulationStuck(self.report(f"nothing goes on ({outcome}), and the program waits for {what}"))
        return bool(ended())
