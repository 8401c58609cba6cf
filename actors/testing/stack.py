"""Stacks for simulated threads: a greenlet that has finished with one of them runs another one next, as a new one has to be given memory
by the system. A history has thirty threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]


class Stack:
    """What one simulated thread runs on at a time."""

    def __init__(self, hub: Any) -> None:
        """`hub`: the greenlet to which control goes when a thread has finished."""
        self.greenlet: Any = greenlet(self._serve, hub)
        self.run: Callable[[], object] = _nothing

    def _serve(self) -> None:
        while True:
            run, self.run = self.run, _nothing
            run()
            del run
            self.greenlet.parent.switch()


def _nothing() -> None:
    """Between two threads."""


def idle_stacks() -> list[Stack]:
    """Those that wait for a thread, of whoever asks: greenlets never leave the thread of the system in which they were made."""
    hub = getcurrent()
    idle: list[Stack] | None = hub.__dict__.get("idle_stacks")
    if idle is None:
        idle = hub.idle_stacks = []
    return idle
