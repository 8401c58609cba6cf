"""How long from the moment a pause (a cancel) has arrived until no code of the job runs any more, for a job that looks every 10 ms.

Raw limit: the 10 ms between two looks. Goal: p99 <= 50 ms.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from measure import Figure, options, scratch, seconds, show

from callboard import Job, JobContext, Runtime

TIMES = 200


@dataclass
class Looking(Job, name="benchmark_looking"):
    """Looks every 10 ms."""

    looks: int = 0

    def run(self, ctx: JobContext) -> None:
        while True:
            ctx.check_interrupt()
            time.sleep(0.010)
            self.looks += 1


def stops_ms(folder: Path | None, what: str) -> list[float]:
    found = []
    with scratch(folder) as place, Runtime(workers=2) as runtime:
        library = runtime.open_library(place / "pause.library")
        handle = library.submit(Looking())
        for _ in range(TIMES):
            while handle.status != "running":
                time.sleep(0.001)
            if what == "pause":
                found.append(1000 * seconds(partial(handle.pause, wait=True)))
                handle.resume()
            else:
                found.append(1000 * seconds(partial(handle.cancel, wait=True)))
                handle = library.submit(Looking())
        handle.cancel(wait=True)
    return sorted(found)


def main() -> None:
    chosen = options(__doc__)
    for what in ("pause", "cancel"):
        found = stops_ms(chosen.dir, what)
        p50, p99 = found[len(found) // 2], found[int(len(found) * 0.99)]
        show([Figure(f"{what}: asked to stopped, p99 (p50 {p50:.1f} ms)", p99, 10.0, "ms", 10.0 / p99, 1.0, "<= 50 ms")], chosen.json)


if __name__ == "__main__":
    main()
