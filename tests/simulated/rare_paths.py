"""Paths that load or bad luck opens, and a small history hardly ever takes: in a share of the histories each is taken now and then.

Nothing in production asks for them: a limit is met early, a message comes that nobody needed, a step takes long. The table at the end has all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any
from unittest import mock

from callboard.actors import alarm, crew, dispatcher, hub, job, library, parents, spawning, store
from callboard.actors.actor import send
from callboard.actors.messages import TimeHasCome
from callboard.actors.testing.simulated_ports import SimulatedPorts
from callboard.jobs.casting import Cast

FAIR_UNTIL = 6_000
"""Histories of lower seeds have none: those that are kept for what they found stay what they were."""

SHARE = 0.06
"""So many histories have some …"""

EACH = 0.3
"""… of these so many each."""

SLOW_POINTS = ("store: before commit", "store: after commit", "job: look", "task: look")


class MetEarly(int):
    """A limit: `count >= limit` is true now and then before it is."""

    rng: Random

    def __le__(self, count: int) -> bool:
        return int(self) <= count or self.rng.random() < 0.3


class RarePaths:
    """Of one history."""

    def __init__(self, seed: int) -> None:
        self._rng = rng = Random(f"rare paths {seed}")
        self.wanted = seed >= FAIR_UNTIL and rng.random() < SHARE
        self.taken = [name for name in PATHS if rng.random() < EACH] if self.wanted else []

    @contextmanager
    def over(self) -> Iterator[None]:
        """While a history runs."""
        with ExitStack() as stack:
            for name in self.taken:
                for where, what, value in PATHS[name](self._rng):
                    stack.enter_context(mock.patch.object(where, what, value))
            yield


Patches = Iterator[tuple[Any, str, Any]]


def now_and_then(rng: Random, share: float, where: Any, name: str, rare: Callable[..., Any]) -> tuple[Any, str, Any]:
    """A method of which `rare(usual, self, *given)` is called instead in a share of the cases."""
    usual = getattr(where, name)

    def called(self: Any, *given: Any, **how: Any) -> Any:
        return rare(usual, self, *given, **how) if rng.random() < share else usual(self, *given, **how)

    return where, name, called


def early(rng: Random, where: Any, name: str) -> tuple[Any, str, Any]:
    """A limit that is met early."""
    limit = MetEarly(getattr(where, name))
    limit.rng = rng
    return where, name, limit


def recall(usual: Any, self: Any, message: Any) -> None:
    usual(self, message)
    self.recall()


def ring_early(usual: Any, self: Any, due_ms: int | None) -> None:
    usual(self, due_ms)
    me = self._me
    self._ports.call_later(0.0, lambda: send(me, TimeHasCome()))


def sleep_there(rng: Random) -> Any:
    def rare(usual: Any, self: Any, name: str) -> None:
        usual(self, name)
        if name in SLOW_POINTS:
            self.sleep(rng.choice((0.0, 0.001, 0.06, 0.3)))

    return rare


def wake_and_do(usual: Any, self: Any, *given: Any) -> Any:
    self.wake()
    return usual(self, *given)


PATHS: dict[str, Callable[[Random], Patches]] = {
    "the store's group closes early": lambda rng: iter([early(rng, store, "GROUP_ROWS")]),
    "the library's group closes early": lambda rng: iter([early(rng, library, "WRITES_AT_ONCE")]),
    "one group ahead of the store": lambda rng: iter([(library, "GROUPS_AHEAD", 1)]),
    "ends are sent before there are many": lambda rng: iter([early(rng, job, "ENDS_AT_ONCE")]),
    "a hand is looked at as soon as it is dealt": lambda rng: iter([(crew, "REVIEW_SECONDS", 0.0)]),
    "fewer are claimed than might": lambda rng: iter([now_and_then(rng, 0.5, Cast, "room", lambda usual, self: min(1, usual(self)))]),
    "slots are called back for nobody": lambda rng: iter([now_and_then(rng, 0.3, crew.Crew, "hand_done", recall)]),
    "the crew is woken for nothing": lambda rng: iter([now_and_then(rng, 0.3, crew.Crew, "gone", wake_and_do)]),
    "the alarm rings early": lambda rng: iter([now_and_then(rng, 0.5, alarm.Alarm, "set", ring_early)]),
    "one child a commit is told": lambda rng: iter([(parents, "CASCADE_ROWS", 1)]),
    "one child a commit is queued anew": lambda rng: iter([(spawning, "RENEWED_AT_ONCE", 1)]),
    "readings are lost": lambda rng: iter([now_and_then(rng, 0.5, hub.HubActor, "_read", lambda usual, self, message: None)]),
    "tasks are dealt one by one": lambda rng: iter([(dispatcher, "CHUNK_MOST", 1), (dispatcher, "REVIEW_SECONDS", 0.0)]),
    "the WAL is tidied behind every commit": lambda rng: iter([(store, "PUT_OFF_MOST", 0)]),
    "a point takes long": lambda rng: iter([now_and_then(rng, 0.1, SimulatedPorts, "yield_point", sleep_there(rng))]),
}
