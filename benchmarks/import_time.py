"""How long `import callboard` takes beyond pykka, apsw and msgpack themselves: `python benchmarks/import_time.py [--runs N] [--json]`.

Each run is a process of its own with warm .pyc files; the first run, which may compile, is not counted. Goal: at most 100 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

GOAL_MS = 100.0
CHILD = """
import sys, time
start = time.perf_counter()
import pykka, apsw, msgpack
between, before = time.perf_counter(), len(sys.modules)
import callboard
end = time.perf_counter()
print((between - start) * 1e3, (end - between) * 1e3, len(sys.modules) - before)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21, help="processes to measure (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure() for _ in range(options.runs + 1)][1:]
    dependencies, callboard = (statistics.median(row[column] for row in rows) for column in (0, 1))
    figures = {
        "dependencies_ms": round(dependencies, 1),
        "callboard_ms": round(callboard, 1),
        "callboard_worst_ms": round(max(row[1] for row in rows), 1),
        "modules": int(rows[0][2]),
        "runs": options.runs,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print(f"pykka + apsw + msgpack {figures['dependencies_ms']} ms; callboard beyond them {figures['callboard_ms']} ms (median of")
        print(f"{options.runs}, worst {figures['callboard_worst_ms']} ms), {figures['modules']} more modules; goal {GOAL_MS:.0f} ms")
    return 0 if callboard <= GOAL_MS else 1


def measure() -> tuple[float, ...]:
    """(ms for the dependencies, ms for callboard, modules it added) in one new process."""
    with tempfile.TemporaryDirectory() as elsewhere:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # or nothing is ever warm
        done = subprocess.run([sys.executable, "-c", CHILD], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    return tuple(float(word) for word in done.stdout.split())


if __name__ == "__main__":
    sys.exit(main())
