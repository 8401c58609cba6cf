"""A running runtime with an open library while nothing happens.

Counted, in a process of its own: processor time in per cent of one core, and voluntary context switches a second, which are its wake-ups. Raw
limit: a process that sleeps.
"""

from __future__ import annotations

import resource
import time

from callboard import Runtime
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place, Reading


def ours(at: Place) -> Reading:
    with Runtime(workers=8) as runtime:
        runtime.open_library(at.folder / "idle.library")
        time.sleep(0.5)
        return sleeping(at)


def sleeping(at: Place) -> Reading:
    """What the process uses for `at.size` seconds."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    time.sleep(at.size)
    after, took = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Reading({"processor": 100 * processor / took, "wake-ups": max(0, after.ru_nvcsw - before.ru_nvcsw - 1) / took})


CASES = (
    Case(
        "idle",
        "seconds in which nothing happens",
        (Figure("processor", "%", False, least=0.2), Figure("wake-ups", "1/s", False, least=0.5)),
        (Contender("callboard", ours, alone=True), Contender("a process that sleeps", sleeping, "raw", False, "keeps nothing")),
        full=(5,),
        quick=(1,),
        goals=(Goal("processor", 0.2), Goal("wake-ups", 0.5)),
        warm_up=lambda size: 0,
    ),
)
