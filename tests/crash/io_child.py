"""A process that forks for each case: `io_child.py`, with io_faults.c preloaded. A case is a scenario in a folder, with a fault or a log.

Reads one request a line (JSON), and answers with what the case tells, a line each as it happens, and at last with how its process ended.
Whatever a case was told by callboard it writes at once, so that its parent knows what was acknowledged before it died.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import planted_bugs
import stories

from callboard.actors.testing.simulation import Simulation, SimulationStuck

FAULTS = ctypes.CDLL(None)
MOST_STEPS = 50_000
MOST_SECONDS = 180
"""A case that takes longer is killed: it hangs."""


def tell(**line: Any) -> None:
    """To the parent, and into the log of the disk's changes, if there is one, at its place among them."""
    text = json.dumps(line).encode()
    FAULTS.faults_note(text, len(text))
    os.write(1, text + b"\n")


def arm(request: dict[str, Any]) -> None:
    log = -1
    if request.get("log"):
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    what, at, error, for_ever = request.get("fault") or (0, 0, 0, 0)
    FAULTS.faults_arm(os.fsencode(request["folder"]), what, ctypes.c_long(at), error, for_ever, log)


def carry_out(request: dict[str, Any]) -> None:
    story = stories.STORIES[request["story"]]
    step = getattr(story(Path(request["folder"]), tell), request["step"])
    if request.get("fault") or request.get("log"):
        arm(request)
    if request.get("threads"):
        step(None)
        return
    simulation = Simulation(request.get("seed", 1), traced=False, time_lapse=0.0)
    ports = simulation.boot()
    simulation.spawn(lambda: step(ports), "main")
    simulation.run(max_steps=MOST_STEPS)


def case(request: dict[str, Any]) -> None:
    signal.alarm(MOST_SECONDS)
    try:
        carry_out(request)
    except SimulationStuck as error:
        tell(defect=f"it hangs: {error}")
    except BaseException:  # noqa: BLE001 - what no story expects is for the parent to judge
        tell(defect=traceback.format_exc())
    FAULTS.faults_disarm()
    FAULTS.faults_count.restype = FAULTS.faults_retried.restype = ctypes.c_long
    tell(changes=FAULTS.faults_count(), retried=FAULTS.faults_retried())


def main() -> None:
    logging.disable(logging.CRITICAL)
    planted_bugs.plant()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            case(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        os.write(1, json.dumps({"exit": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


if __name__ == "__main__":
    main()
