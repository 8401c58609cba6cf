"""A contender in a process of its own: `python -m callboard.benchmarks.child SCENARIO CASE CONTENDER SIZE FOLDER GROUND`, its reading as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from callboard.benchmarks.scenario import Cannot, Place, Reading, load, reading_of

SECONDS_MOST = 1_800.0


def in_new_process(scenario: str, case: str, contender: str, at: Place) -> Reading:
    """What it answers there. Raises Cannot, or RuntimeError with the last line of what went wrong."""
    command = [sys.executable, "-m", "callboard.benchmarks.child", scenario, case, contender, str(at.size), str(at.folder), str(at.ground)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MOST)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["nothing was said"])[-1])
    view = json.loads(done.stdout.splitlines()[-1])
    if "cannot" in view:
        raise Cannot(view["cannot"])
    return Reading(view["values"], tuple(view["samples"]))


def main(arguments: list[str]) -> int:
    scenario, wanted, who, size, folder, ground = arguments
    case = next(case for case in load(scenario).cases if case.name == wanted)
    contender = next(contender for contender in case.contenders if contender.name == who)
    try:
        reading = reading_of(case, contender.run(Place(Path(folder), int(size), Path(ground))))
    except Cannot as error:
        print(json.dumps({"cannot": str(error)}))
    else:
        print(json.dumps({"values": reading.values, "samples": reading.samples}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
