"""What befalls a history from outside, drawn from its seed: a slow disk, a clock that is set, a death inside a commit, listeners
that vanish, a host that stops every actor.

And a look at what no step shows: that a message is the same when it is taken as when it was sent, since nobody makes a copy.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from random import Random
from typing import Any
from unittest import mock

import pykka
from host import PATIENCE, Host
from observed import ClockSet

from callboard.actors.actor import Actor
from callboard.actors.messages import Subscribe
from callboard.actors.testing.simulated_ports import SimArrivals
from callboard.actors.testing.simulation import SimThread, Simulation
from callboard.jobs.errors import CallboardError
from callboard.persistence.store import Store

FAIR_UNTIL = 6_000
"""Histories of lower seeds have none: those that are kept for what they found stay what they were."""

SHARE = 0.06
"""So many histories have each of them."""

SLOW_SECONDS = 20.0
"""The slowest commit: less than an ask waits."""

STOPPED_STEPS = 400
"""A process whose actors were all stopped ends within so many."""

DAY = 86_400.0
JUMPS = (-400 * DAY, -DAY, -3_600.0, -2.0, 2.0, 3_600.0, DAY)


class Weather:
    """Of one history."""

    def __init__(self, simulation: Simulation, note: Callable[[str], None]) -> None:
        self._simulation, self._note = simulation, note
        self._rng = rng = Random(f"weather {simulation.seed}")
        self.slow, self.torn, self.set_clocks, self.vanishing, self.watched, self.stopping = (
            simulation.seed >= FAIR_UNTIL and rng.random() < SHARE for _ in range(6)
        )

        self.stopped = False
        """The host has stopped all actors of this life."""

    def spawn(self, run: Callable[[], object], name: str) -> SimThread:
        """As the simulation does; a script of a host that has stopped all actors ends at what it then meets."""

        def script() -> None:
            try:
                run()
            except (CallboardError, pykka.ActorDeadError, LookupError):
                if not self.stopped:
                    raise

        return self._simulation.spawn(script, name)

    @contextmanager
    def over(self) -> Iterator[None]:
        """While a history runs."""
        with ExitStack() as stack:
            if self.slow or self.torn:
                stack.enter_context(mock.patch.object(Store, "_evidence", self._inside(getattr(Store, "_evidence"))))  # noqa: B009
            if self.watched:
                stack.enter_context(mock.patch.multiple(SimArrivals, **unchanging(self._note)))
            yield

    def begin(self, hosts: list[Host], families: bool, last: bool) -> None:
        """In a life that has just begun. `families`: it counts as quiet after a minute, and a clock set back puts off a retry for longer."""
        if self.stopped:
            self.stopped = False
            logging.disable(logging.WARNING)
        if self.set_clocks and not families:
            self._simulation.spawn(lambda: self._set_clock(hosts), "clock")
        if self.vanishing:
            self._simulation.spawn(lambda: self._pass_by(hosts[0]), "passer-by")

        if self.stopping and not last:
            self._simulation.spawn(lambda: self._stop_all(hosts), "host")

    def _stop_all(self, hosts: list[Host]) -> None:
        """The host stops every actor of the process, ours too, and ends a little later."""
        hosts[0].ports.sleep(self._rng.choice((0.0, 0.001, 0.05, 1.0)))
        self.stopped = True
        logging.disable()  # that actors have died is said as an error, and is what the host asked for
        for host in hosts:
            host.loses_its_library()
        for ref in pykka.ActorRegistry.get_all():
            ref.stop(block=False)
        self._simulation.crash_at(self._simulation.steps + self._rng.randrange(1, STOPPED_STEPS))

    def _inside(self, evidence: Callable[..., Any]) -> Callable[..., Any]:
        """Everything of a commit is written, and COMMIT is not said: others go on, time passes, or the process dies."""

        def then(store: Store, *given: Any) -> Any:
            found = evidence(store, *given)
            ports = self._simulation.boots[-1]
            ports.yield_point("store: inside the commit")
            if self.slow and self._rng.random() < 0.3:
                ports.sleep(self._rng.choice((0.01, 1.0, SLOW_SECONDS)))
            return found

        return then

    def _set_clock(self, hosts: list[Host]) -> None:
        """The wall clock is set, as people do."""
        for _ in range(self._rng.randint(1, 3)):
            hosts[0].ports.sleep(self._rng.choice((0.0, 0.01, 0.5, 30.0)))
            jump = self._rng.choice(JUMPS)
            self._simulation.clock_start += jump
            for host in hosts:
                host.observed.add(ClockSet(host.life, jump))

    def _pass_by(self, host: Host) -> None:
        """Subscribes, hears a little or nothing, and is gone without a word."""
        for _ in range(self._rng.randint(1, 3)):
            host.ports.sleep(self._rng.choice((0.0, 0.001, 0.05)))
            library = host.library
            if library is None:
                continue
            passer_by = PasserBy.start(host.ports)
            try:
                library.ask(Subscribe(passer_by, progress=self._rng.random() < 0.5, lag=self._rng.choice((1, 3, 10_000))), timeout=PATIENCE)
            except CallboardError:
                pass
            host.ports.sleep(self._rng.choice((0.0, 0.001, 0.05, 1.0)))
            passer_by.stop(block=False)


class PasserBy(Actor):
    """Hears, and says nothing."""

    def receive(self, message: object, reply: pykka.Future[Any] | None) -> None:
        pass


# --- messages -----------------------------------------------------------------------------------------------------------------


def unchanging(note: Callable[[str], None]) -> dict[str, Any]:
    """`put` and `take` of a simulated inbox that compare what is taken with what was put."""
    put, take = SimArrivals.put, SimArrivals.take
    sent: dict[int, tuple[Any, object]] = {}

    def looking_put(self: SimArrivals, item: Any, /) -> None:
        sent[id(item)] = item, content_of(item.message)
        put(self, item)

    def looking_take(self: SimArrivals, timeout: float | None, /) -> Any:
        item = take(self, timeout)
        if item is not None:
            _, before = sent.pop(id(item))
            after = content_of(item.message)
            if after != before:
                note(f"a message was changed on its way: {type(item.message).__name__} was {before}, and is {after}")
        return item

    return {"put": looking_put, "take": looking_take}


_PLAIN = frozenset((type(None), bool, int, float, str, bytes))


def content_of(value: Any) -> object:
    """What a message says, to be compared. Of what is neither a value nor a container of values, which one it is."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, (bool, int, float, str, bytes, Enum)):
        return value
    if isinstance(value, (tuple, list)):
        return kind.__name__, [content_of(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return kind.__name__, {repr(content_of(each)) for each in value}
    if isinstance(value, dict):
        return [(content_of(key), content_of(each)) for key, each in value.items()]
    if isinstance(value, bytearray):
        return bytes(value)
    names = _names_of(kind)
    return id(value) if names is None else (kind.__name__, [content_of(getattr(value, name)) for name in names])


@functools.cache
def _names_of(kind: type) -> tuple[str, ...] | None:
    """The fields of a frozen dataclass; None of any other type."""
    params = getattr(kind, "__dataclass_params__", None)
    return tuple(each.name for each in dataclasses.fields(kind)) if params is not None and params.frozen else None
