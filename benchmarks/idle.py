"""What a running runtime with an open library costs while nothing happens: CPU seconds and wake-ups a second.

Raw limit: a process that sleeps. Goal: about 0, no polling.
"""

from __future__ import annotations

import resource
import time

from measure import Figure, options, scratch, show

from callboard import Runtime

SECONDS = 5.0


def main() -> None:
    chosen = options(__doc__)
    with scratch(chosen.dir) as place, Runtime(workers=8) as runtime:
        runtime.open_library(place / "idle.library")
        time.sleep(0.5)
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        time.sleep(SECONDS)
        after, took = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / took * 100
    wakes = (after.ru_nvcsw - before.ru_nvcsw - 1) / took
    show(
        [
            Figure("idle runtime: CPU", cpu, 0.0, "%", 0.0, 1.0, "about 0"),
            Figure("idle runtime: wake-ups", wakes, 0.0, "1/s", 0.0, 1.0, "no polling"),
        ],
        chosen.json,
    )


if __name__ == "__main__":
    main()
