"""What users test with: `simulate`, `crash_everywhere`, a clock that stands still, the simulator. The simulator needs the extra `testing`.

Nothing is imported before it is asked for, as every pytest of an environment in which callboard is installed may come by here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callboard.actors.testing.crashes import CrashReport, UnsafeToRepeat, crash_everywhere
    from callboard.actors.testing.draining import drain
    from callboard.actors.testing.frozen_clock import FrozenClock
    from callboard.actors.testing.rehearsal import Rehearsed, simulate
    from callboard.actors.testing.simulation import Simulation

__all__ = ["CrashReport", "FrozenClock", "Rehearsed", "Simulation", "UnsafeToRepeat", "crash_everywhere", "drain", "simulate"]

_HOMES = {
    "CrashReport": "crashes",
    "FrozenClock": "frozen_clock",
    "Rehearsed": "rehearsal",
    "Simulation": "simulation",
    "UnsafeToRepeat": "crashes",
    "crash_everywhere": "crashes",
    "drain": "draining",
    "simulate": "rehearsal",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "greenlet":
            raise
        raise ImportError(f"callboard.actors.testing.{name} needs greenlet, an extra; install it: pip install 'callboard[testing]'") from None
