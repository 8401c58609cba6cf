"""The same actors, one step at a time: a seeded scheduler on virtual time, in which a process can die at any step and boot again.

Each actor's loop, pykka's own and unmodified, is a greenlet. Every call of a port is a step: there the scheduler may go on with any
other greenlet, and there a crash can come. Nothing but the seed decides, so a seed is a whole history and replays exactly.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pykka
from greenlet import getcurrent  # type: ignore[import-untyped]

from callboard.actors.testing.scheduler import Crashed, Life, Scheduler, SimThread, SimulationStuck
from callboard.actors.testing.simulated_ports import SimulatedPorts

__all__ = ["Crashed", "SimThread", "SimulatedPorts", "Simulation", "SimulationStuck"]

_UNDEAD: list[SimThread] = []
"""Those whose code catches everything and goes on. Collected as garbage they would be woken once more, so they are kept."""


class Simulation(Scheduler):
    """One history: lives of a process (`boot`), scripts in them (`spawn`), and what the seed makes of it (`run`, `crash_at`).

    The program that makes it plays fate. It is no part of the history: its own calls of ports are never interrupted, and where it
    waits (for an ask, a future, a sleep) it drives the simulation on.

    A context manager: leaving it clears away all greenlets, after which nothing of the history can run.
    """

    def __init__(self, seed: int, *, clock_start: float = 1_800_000_000.0, time_lapse: float = 0.05, traced: bool = True) -> None:
        """`clock_start`: what the wall clock shows at first, seconds since the epoch. `time_lapse`: the share of steps at which time
        may pass, up to a timer that is near enough, although somebody could go on; 0: only when nobody can. `traced`: whether
        anyone will ask for `trace` or `trace_hash`.
        """
        self.boots: list[SimulatedPorts] = []
        super().__init__(seed, clock_start, time_lapse, traced=traced)
        self.on_crash: list[Callable[[], None]] = []
        """Called after each crash, to do what an operating system does: close the connections and drop the locks of the dead."""
        self._crash_step = math.inf
        self._doomed: list[Life] = []
        self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # collected by another thread, perhaps
            self.close()

    # --- playing fate ---------------------------------------------------------------------------------------------------

    def boot(self) -> SimulatedPorts:
        """A new life of the process: its ports. An earlier life that has not crashed goes on beside it."""
        ports = SimulatedPorts(self, len(self.boots) + 1)
        self.boots.append(ports)
        self.note("boot", str(ports.number))
        return ports

    def spawn(self, run: Callable[[], object], name: str) -> SimThread:
        """Start a script, such as a thread of the host, in the latest boot. What it raises, `run` of the simulation raises."""
        return self.start_thread(self.boots[-1], run, name, script=True)

    def run(self, *, until: Callable[[], bool] | None = None, when_idle: bool = False, max_steps: int = 200_000) -> str:
        """Let the history go on. What ended it: "until", "crashed", or "quiescent" (nobody can go on and no timer is set). `until` is asked
        before every step; `when_idle`: only when nobody can go on until a timer fires, which costs the steps nothing.

        Raises SimulationStuck after `max_steps`, or when nobody can go on although a script waits, or anyone else for anything but a
        message. Raises what a script or a thread raised, with the seed and the trace in a note.
        """
        if self._running or getcurrent() is not self._hub:
            raise RuntimeError("Simulation.run() was called from within the simulation")
        limit = self.steps + max_steps
        self._running, self._hub_sees_idleness = True, when_idle
        try:
            while True:
                # Whoever goes on without a look at the hub does so only until the alarm.
                self._alarm = 0 if until is not None and not when_idle else min(self._crash_step, limit)
                if self.steps >= self._crash_step:
                    self._doomed = self._living()
                if self._doomed:
                    self._crash_now()
                    return "crashed"
                if until is not None and (self.idle or not when_idle) and until():
                    return "until"
                if self.steps >= limit:
                    raise SimulationStuck(self.report(f"still going on after {max_steps:,} steps"))
                if self._pass_time():
                    continue
                thread = self._pick()
                if thread is None:
                    self._look_for_deadlock()
                    return "quiescent"
                self._resume(thread)
        finally:
            self._running = self._hub_sees_idleness = False

    def crash(self, ports: SimulatedPorts | None = None) -> None:
        """Kill a life of the process at once, or all there are; no `finally` of theirs runs. From within, the caller dies with it."""
        self._doomed = self._living() if ports is None else [ports]
        thread = self.current
        if thread is None:
            self._crash_now()
        else:
            self._ready.append(thread)
            self._hub_switch()

    def crash_at(self, step: int) -> None:
        """Kill every life of the process when `steps` gets there, in the middle of whatever is being done."""
        self._crash_step = step
        self._alarm = min(self._alarm, step)

    def close(self) -> None:
        """Clear away: every life ends, and its greenlets are unwound with their ports disabled.

        Only here does a `finally` of the dead run, up to its first port. So look at results first, and let `on_crash` close what the
        dead could write to without a port.
        """
        threads = [thread for ports in self.boots for thread in ports.threads]
        for ports in self.boots:
            self._disable(ports)
        self.boots = []
        for thread in threads:
            if thread.begun and not thread.finished:
                thread.greenlet.parent = getcurrent()
                self.current = thread
                thread.greenlet.throw(Crashed)
                self.current = None
                if not thread.finished:
                    _UNDEAD.append(thread)
                    continue
            self._give_back(thread)

    # --- looking at it --------------------------------------------------------------------------------------------------

    @property
    def trace(self) -> list[str]:
        """The latest lines of what happened: step, time, who, what."""
        return self.record.lines()

    @property
    def trace_hash(self) -> str:
        """Hash over all that happened so far. The same seed and program give the same one."""
        return self.record.hash()

    @property
    def idle(self) -> bool:
        """Nobody can go on until a timer fires."""
        return not self._ready and self.current is None

    def waits(self) -> list[str]:
        """Who waits for what, one line each."""
        return [f"{thread.name} waits for {thread.waiting}" for thread in self._threads() if thread.waiting is not None]

    def circle(self) -> str:
        """Who waits for whom in a circle, as far as it is known who is to answer; empty: nobody does."""
        ahead: dict[str, str] = {}
        for thread in self._threads():
            for sign in ("the end of ", "asked of the inbox of ", "held by "):
                _, found, name = (thread.waiting or "").rpartition(sign)
                if found:
                    ahead[thread.name] = name
        for first in ahead:
            path = [first]
            while (after := ahead.get(path[-1])) is not None and after not in path:
                path.append(after)
            if after == first:
                return f"a circle: {', which waits for '.join([*path, first])}"
        return ""

    def report(self, reason: str, lines: int = 50) -> str:
        """A text for whoever has to find out: the reason, the seed, who waits for what, the last lines of the trace."""
        head = f"{reason} (seed {self.seed}, step {self.steps}, {self.now:.6f} s)"
        waits = ("  " + line for line in (*self.waits(), self.circle()) if line)
        return "\n".join([head, *waits, f"the last {lines} lines of the trace:", *self.trace[-lines:]])

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _living(self) -> list[Life]:
        return [ports for ports in self.boots if not ports.dead]

    def _threads(self) -> list[SimThread]:
        return [thread for life in self._living() for thread in life.threads]

    def _look_for_deadlock(self) -> None:
        if any(thread.waiting is not None and (thread.script or not thread.patient) for thread in self._threads()):
            raise SimulationStuck(self.report("a deadlock: nothing can go on"))

    def _crash_now(self) -> None:
        doomed, self._doomed = self._doomed, []
        self._crash_step = math.inf
        for life in doomed:
            self.note("crash", str(life.number))
            self._disable(life)
        for call in self.on_crash:
            call()

    def _disable(self, life: Life) -> None:
        """From here on nothing of this life runs: its ports refuse, its greenlets are never resumed, its actors are unknown."""
        life.dead = True
        self.drop_timers(life, later=False)
        self._ready = [thread for thread in self._ready if not thread.life.dead]
        self._stayer = None
        inboxes = {id(inbox) for ports in self.boots if ports is life for inbox in ports.inboxes}
        for ref in pykka.ActorRegistry.get_all():
            if id(ref.actor_inbox) in inboxes:
                pykka.ActorRegistry.unregister(ref)
                ref.actor_stopped.set()
