"""Bugs that random kills must find: those of the simulated histories, put into the process that forks by an environment variable."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

from callboard.actors.ports import ThreadPorts

PLANTED = "CALLBOARD_PLANTED_BUG_OF_KILLS"
GAP = 0.002
"""Seconds between the two halves of what should have been one."""
planted: list[Any] = []


def plant() -> None:
    """What the environment asks for, if anything."""
    bug = os.environ.get(PLANTED)
    if bug:
        sys.path.insert(0, str(Path(__file__).parent.parent / "simulated"))
        ThreadPorts.yield_point = yield_point  # type: ignore[method-assign]
        planted.append(getattr(importlib.import_module("test_planted_bugs"), bug)())
        planted[0].__enter__()


def yield_point(self: ThreadPorts, name: str, /) -> None:
    if name.startswith("planted"):
        threading.Event().wait(GAP)
