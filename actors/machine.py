"""The machine as the actors see it: time, chance, threads, futures, inboxes and timers, in one object that has two twins.

`callboard.actors.ports.ThreadPorts` is the real one; `callboard.actors.testing.simulation.SimulatedPorts` runs the same actors on
virtual time, one step after the other, in an order drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import pykka

from callboard.actors.mailbox import Inbox

if TYPE_CHECKING:
    from callboard.actors.ports import Future


class Abandoned(BaseException):
    """This life of the process is over; the code that sees this is a ghost and leaves. Only simulated ports raise it."""


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Withdraw the call; harmless if it was made already. A call being made at this moment is not waited for."""
        ...


class Joinable(Protocol):
    """A thread that can be waited for."""

    def join(self, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds (None: for ever). Whether it has finished."""
        ...


class Ports(Protocol):
    """The machine as the actors see it. All times are seconds."""

    def monotonic(self) -> float:
        """Seconds since some instant; never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch; may jump when somebody sets the clock."""
        ...

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def random_bytes(self, n: int, /) -> bytes:
        """`n` bytes that nobody can guess."""
        ...

    def inbox(self, *, stop_overtakes: bool) -> Inbox: ...

    def future(self) -> Future: ...

    def pykka_future(self) -> pykka.Future[Any]:
        """A future for those who speak pykka."""
        ...

    def call_later(self, seconds: float, call: Callable[[], object], /) -> Timer:
        """Make the call after `seconds`, on the one timer thread: it only sends messages. What it raises is logged."""
        ...

    def start_loop(self, loop: Callable[[], object], name: str) -> None:
        """Run an actor's loop on a thread of its own, which does not keep the process alive."""
        ...

    def thread(self, run: Callable[[], object], name: str) -> Joinable:
        """Run something that blocks outside of messages, such as a socket server, on a thread of its own (daemon)."""
        ...

    def lock(self) -> AbstractContextManager[object]:
        """A lock, for sections of a few lines that call no port."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Only for patience outside of actors; an actor waits in its inbox."""
        ...

    def mark_run(self, inside: bool, /) -> None:
        """This thread enters a job's `run`, or leaves it."""
        ...

    def in_run(self) -> bool:
        """Whether this thread is inside a job's `run`."""
        ...

    def yield_point(self, name: str, /) -> None:
        """Nothing, or in the simulator a place where others may run and a crash may come."""
        ...

    def buggify(self, name: str, /) -> bool:
        """False, or in the simulator now and then True: take the rare path here."""
        ...

    def milestone(self, name: str, about: object, /) -> None:
        """Nothing, or for who tries every crash a place for one: a commit is about to be made, or is made; a task has ended. No step."""
        ...

    def close(self) -> None:
        """End the timer thread; calls still to come are dropped."""
        ...
