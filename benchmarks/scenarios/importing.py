"""`import callboard` beyond its dependencies, and from there to the first result.

Counted in new processes with warm .pyc files: milliseconds, modules, and memory beyond that of pykka, apsw and msgpack. A start is a runtime, a new
library and one job, on disk, to its result. A reading is the median of several processes. Raw limit: importing the dependencies.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place, Reading

CHILD = """
import json, sys, time
def memory():
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) / 1024
start, empty = time.perf_counter(), memory()
import pykka, apsw, msgpack
between, before, small = time.perf_counter(), len(sys.modules), memory()
import callboard
end, large = time.perf_counter(), memory()
print(json.dumps([(between - start) * 1e3, (end - between) * 1e3, len(sys.modules) - before, small - empty, large - small]))
"""
START = """
import json, sys, time
from callboard import Runtime
from callboard.benchmarks.work import Noop
start = time.perf_counter()
runtime = Runtime(workers=2)
library = runtime.open_library(sys.argv[1])
opened = time.perf_counter()
library.submit(Noop(1)).wait(60)
end = time.perf_counter()
runtime.close()
print(json.dumps([(opened - start) * 1e3, (end - start) * 1e3]))
"""


def columns(at: Place, code: str) -> list[float]:
    """The median of each number that so many processes print."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # or nothing is ever warm
    rows = []
    for number in range(at.size):
        command = [sys.executable, "-c", code, str(at.folder / str(number))]
        done = subprocess.run(command, cwd=at.folder, env=environment, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def ours(at: Place) -> Reading:
    _, took, modules, _, memory = columns(at, CHILD)
    return Reading({"import": took, "memory": memory, "modules": modules})


def dependencies(at: Place) -> Reading:
    took, _, _, memory, _ = columns(at, CHILD)
    return Reading({"import": took, "memory": memory})


def start(at: Place) -> Reading:
    opened, ended = columns(at, START)
    return Reading({"first result": ended, "opened": opened})


CASES = (
    Case(
        "import",
        "processes that import callboard",
        (Figure("import", "ms", False), Figure("memory", "MiB", False), Figure("modules", "modules", False)),
        (Contender("callboard", ours), Contender("its dependencies", dependencies, "raw", False, "keeps nothing")),
        full=(7,),
        goals=(Goal("import", 100.0, firm=False),),
        warm_up=lambda size: 1,
    ),
    Case(
        "start",
        "processes that open a new library and run a job in it",
        (Figure("first result", "ms", False), Figure("opened", "ms", False)),
        (Contender("callboard", start),),
        full=(7,),
        warm_up=lambda size: 1,
    ),
)
