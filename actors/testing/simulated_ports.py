"""The ports of one simulated life of the process: every call is a step of the simulation, and none gets out of a dead one.

The classes under test stay as they are: the inbox is the real `Inbox` over another queue, the future is the real `Future` with
another way to wait.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pykka
from pykka._envelope import Envelope

from callboard.actors.mailbox import Inbox
from callboard.actors.ports import Abandoned, Future, Joinable, Reply, Timer
from callboard.actors.testing.scheduler import Crashed, Life, Scheduler, SimThread, SimTimer

log = logging.getLogger(__name__)

LOOKS_THAT_ARE_STEPS = 0.25
"""The share of an actor's looks into its own inbox."""


class SimulatedPorts(Life):
    """`Ports` on virtual time. Made by `Simulation.boot()`; a crash ends it, and every later call raises `Crashed`."""

    def __init__(self, simulation: Scheduler, number: int) -> None:
        super().__init__(number)
        self.simulation = simulation
        self.inboxes: list[Inbox] = []
        self._in_run: dict[int, None] = {}
        """Threads that are inside a job's `run`."""
        # Monotonic clocks of two lives have nothing to do with each other: a stored reading must not be compared.
        self._clock_offset = 1_000.0 + simulation.rng.random() * 100_000.0
        self._due: deque[Callable[[], object]] = deque()
        self._timer_thread: SimThread | None = None
        self._timer_waiters: list[SimThread] = []

    def check(self) -> None:
        """Raise Crashed if this life is over."""
        if self.dead:
            self.simulation.banish()
            raise Crashed

    # --- the ports --------------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        if self.dead:  # here and wherever it is asked most, at a fifth of the time of a call
            self.check()
        return self._clock_offset + self.simulation.now

    def wall(self) -> float:
        self.check()
        return self.simulation.clock_start + self.simulation.now

    def random(self) -> float:
        self.check()
        return self.simulation.rng.random()

    def random_bytes(self, n: int, /) -> bytes:
        self.check()
        return self.simulation.rng.randbytes(n)

    def inbox(self, *, stop_overtakes: bool) -> Inbox:
        self.check()
        inbox = Inbox(SimArrivals(self), stop_overtakes=stop_overtakes)
        self.inboxes.append(inbox)
        return inbox

    def future(self) -> SimFuture:
        self.check()
        return SimFuture(self)

    def pykka_future(self) -> pykka.Future[Any]:
        return Reply(self.future())

    def call_later(self, seconds: float, call: Callable[[], object], /) -> Timer:
        self.check()
        timer = SimTimer(self, lambda: self._fire(call), later=True)
        if self.closed:
            timer.cancel()
        else:
            self.simulation.set_timer(max(seconds, 0.0), timer)
        self.simulation.step("timer", f"in {seconds:g} s" if self.simulation.traced else "")
        return timer

    def start_loop(self, loop: Callable[[], object], name: str) -> None:
        self.check()
        self.simulation.start_thread(self, loop, name)

    def thread(self, run: Callable[[], object], name: str) -> Joinable:
        self.check()
        return self.simulation.start_thread(self, run, name)

    def lock(self) -> AbstractContextManager[object]:
        self.check()
        return SimLock(self)

    def sleep(self, seconds: float, /) -> None:
        self.check()
        self.simulation.wait(lambda: False, [], f"{seconds:g} s to pass", seconds)

    def mark_run(self, inside: bool, /) -> None:
        if inside:
            self._in_run[id(self.simulation.current)] = None
        else:
            self._in_run.pop(id(self.simulation.current), None)

    def in_run(self) -> bool:
        return id(self.simulation.current) in self._in_run

    def yield_point(self, name: str, /) -> None:
        if self.dead:
            self.check()
        self.simulation.step("yield", name)

    def buggify(self, name: str, /) -> bool:
        self.check()
        return self.simulation.rare(name)

    def milestone(self, name: str, about: object, /) -> None:
        if self.dead:
            self.check()

    def close(self) -> None:
        self.check()
        self.closed = True
        self.simulation.drop_timers(self, later=True)

    # --- the timer thread -------------------------------------------------------------------------------------------------

    def _fire(self, call: Callable[[], object]) -> None:
        self._due.append(call)
        if self._timer_thread is None:
            self._timer_thread = self.simulation.start_thread(self, self._run_timers, "timers")
        while self._timer_waiters:
            self.simulation.wake(self._timer_waiters.pop())

    def _run_timers(self) -> None:
        while self.simulation.wait(lambda: bool(self._due), self._timer_waiters, "a timer", None, patient=True):
            call = self._due.popleft()
            try:
                call()
            except Abandoned:
                raise
            except BaseException:  # noqa: BLE001 - as the real timer thread: the others go on
                log.exception("a timer's call raised")


class SimArrivals:
    """The queue under a simulated inbox."""

    def __init__(self, ports: SimulatedPorts) -> None:
        self._ports = ports
        self._simulation = ports.simulation
        self._draw = ports.simulation.draw
        self._items: deque[Envelope[Any]] = deque()
        self._takers: list[SimThread] = []
        self.name = f"inbox-{ports.simulation.number('inbox')}"
        self._named = False

    def put(self, item: Envelope[Any], /) -> None:
        ports, simulation = self._ports, self._simulation
        if ports.dead:
            ports.check()
        reply = item.reply_to
        if type(reply) is Reply and type(reply.future) is not SimFuture:
            reply.future = future = ports.future()
            future.asked = self
        detail = f"{type(item.message).__name__} to {self.name}" if simulation.traced else ""
        early = simulation.draw() < 0.5
        if early:
            simulation.step("put", detail)
        self._items.append(item)
        if self._takers:
            simulation.wake(self._takers.pop())
        if not early:
            simulation.step("put", detail)

    def get(self) -> Envelope[Any]:
        if self._items and not self._ports.dead and not self._simulation.traced:
            return self._items.popleft()
        envelope = self.take(None)
        assert envelope is not None
        return envelope

    def take(self, timeout: float | None, /) -> Envelope[Any] | None:
        ports, items, simulation = self._ports, self._items, self._simulation
        if ports.dead:
            ports.check()
        if not items:
            if not self._named and simulation.current is not None:
                self.name, self._named = f"the inbox of {simulation.current.name}", True
            simulation.wait(items.__len__, self._takers, self.name, timeout, patient=True)
            if not items:
                return None
        envelope = items.popleft()
        if simulation.traced:
            simulation.note("take", type(envelope.message).__name__)
        return envelope

    def qsize(self) -> int:
        if self._ports.dead:
            self._ports.check()
        # Every other step would be such a look, and hardly anything happens between one and the step before it: not each is worth a switch.
        if self._draw() < LOOKS_THAT_ARE_STEPS:
            self._simulation.step("look", self.name)
        return len(self._items)


class SimFuture(Future):
    """A future that parks a greenlet where the real one blocks a thread."""

    __slots__ = ("_name", "_ports", "asked")

    def __init__(self, ports: SimulatedPorts) -> None:
        super().__init__()
        self.asked: SimArrivals | None = None
        """Whose answer it is to be."""
        simulation = ports.simulation
        self._ports = ports
        self._waiters = []
        maker = simulation.current
        self._name = f"future-{simulation.number('future')}" + ("" if maker is None else f" of {maker.name}")

    def _settle(self, value: object, error: BaseException | None) -> bool:
        self._ports.check()
        simulation = self._ports.simulation
        early = simulation.coin()
        if early:
            simulation.step("set", self._name)
        won = super()._settle(value, error)
        if not early:
            simulation.step("set", self._name)
        return won

    def _wait(self, timeout: float | None) -> bool:
        self._ports.check()
        assert self._waiters is not None
        name = self._name if self.asked is None else f"{self._name}, asked of {self.asked.name}"
        return self._ports.simulation.wait(self.done, self._waiters, name, timeout)

    def _wake(self, waiters: list[Any]) -> None:
        while waiters:
            self._ports.simulation.wake(waiters.pop())


class SimLock:
    """A lock whose holder may be preempted, as a thread may be."""

    def __init__(self, ports: SimulatedPorts) -> None:
        self._ports = ports
        self._held, self._holder = False, "-"
        self._waiters: list[SimThread] = []
        self._name = f"lock-{ports.simulation.number('lock')}"

    def __enter__(self) -> None:
        self._ports.check()
        self._ports.simulation.step("lock", self._name)
        simulation = self._ports.simulation
        if self._held:
            simulation.wait(lambda: not self._held, self._waiters, f"{self._name} held by {self._holder}", None)
        self._held, self._holder = True, "-" if simulation.current is None else simulation.current.name

    def __exit__(self, *_: object) -> None:
        self._held = False
        while self._waiters:
            self._ports.simulation.wake(self._waiters.pop())
