"""Actors that die of an error outside of user code, in a share of the histories: a worker or a job actor, in front of what it runs or behind it.

What they had not begun is run by others, what they ran has failed; a worker is replaced. Nobody waits for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any
from unittest import mock

from callboard.actors.job import JobActor
from callboard.actors.worker import WorkerActor

FAIR_UNTIL = 6_000
"""Histories of lower seeds have none: those that are kept for what they found stay what they were."""

SHARE = 0.04

MOST = 6
"""Deaths in a history: of workers, more would not be replaced."""

TOLD = ("a job actor died", "Unhandled exception in", "died of an error")
"""What is logged of a death, and is no defect here."""


class PlantedDeath(RuntimeError):
    """What they die of."""


class Deaths:
    """Of one history."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(f"deaths {seed}")
        self.wanted = seed >= FAIR_UNTIL and self._rng.random() < SHARE
        self._left = self._rng.randint(1, MOST)

    @contextmanager
    def over(self) -> Iterator[None]:
        """While a history runs."""
        if not self.wanted:
            yield
            return
        with ExitStack() as stack:
            for actor, name in ((JobActor, "_perform"), (WorkerActor, "_run")):
                stack.enter_context(mock.patch.object(actor, name, self._deadly(getattr(actor, name))))
            stack.enter_context(deaths_expected())
            yield

    def _deadly(self, works: Callable[..., Any]) -> Callable[..., Any]:
        def work(actor: Any, *given: Any) -> Any:
            self._strike(actor)
            result = works(actor, *given)
            self._strike(actor)
            return result

        return work

    def _strike(self, actor: Any) -> None:
        if self._left and self._rng.random() < 0.1:
            self._left -= 1
            raise PlantedDeath(f"{type(actor).__name__} dies")


@contextmanager
def deaths_expected() -> Iterator[None]:
    """What callboard logs of an actor's death is no defect meanwhile."""
    handlers = [handler for name in ("callboard", "pykka") for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(_expected)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_expected)


def _expected(record: logging.LogRecord) -> bool:
    """False for what is said of a death that was planted."""
    said = record.getMessage() + str(record.exc_info[1] if record.exc_info else "")
    return not ("PlantedDeath" in said or any(text in said for text in TOLD))
