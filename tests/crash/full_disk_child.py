"""Child process with a small file system of its own (tmpfs, in a mount namespace): a library on it while it fills up and is emptied again.

Usage: unshare -rm python full_disk_child.py FOLDER. Prints what it saw as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from callboard import Job, JobContext, Runtime
from callboard.jobs.errors import DiskFull, StoreUnavailable
from callboard.persistence import reserve
from callboard.persistence.reserve import RESERVE

SIZE = 24 * 2**20
BALLAST = 11 * 2**20
SAVES = 60
SECONDS = 180.0


@dataclass
class Saver(Job, name="saver"):
    """Writes until the disk is full."""

    n: int = 0
    blob: bytes = b""

    def run(self, ctx: JobContext) -> int:
        while self.n < SAVES:
            self.n += 1
            self.blob = os.urandom(150_000)
            ctx.checkpoint()
            ctx.sleep(0.01)
        return self.n


@dataclass
class Waiter(Job, name="waiter"):
    """Saves nothing: it is asked to pause."""

    go_on: bool = False

    def run(self, ctx: JobContext) -> str:
        if not ctx.resumed:
            ctx.sleep(SECONDS)
        return "went on"


def until(runtime: Runtime, true: Callable[[], bool]) -> None:
    end = runtime.ports.monotonic() + SECONDS
    while True:
        with contextlib.suppress(StoreUnavailable):  # asked while the database was opened anew
            if true():
                return
        if runtime.ports.monotonic() > end:
            raise TimeoutError
        runtime.ports.sleep(0.05)


def main(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    (folder / "most of it").write_bytes(bytes(SIZE - 6 * 2**20))
    seen: dict[str, object] = {"too little": not reserve.make(folder, tried=True)}
    (folder / "most of it").unlink()
    with Runtime(workers=1) as runtime:
        library, other = runtime.open_library(folder / "library"), runtime.open_library(folder.parent / "other")
        seen["reserve"] = (folder / "library" / RESERVE).exists()
        (folder / "ballast").write_bytes(bytes(BALLAST))
        handles = [library.submit(Saver()), library.submit(Saver()), library.submit(Waiter())]
        until(runtime, lambda: library.statistics().live == {"paused": 3})
        seen["full"] = library.statistics().disk_full
        seen["paused"] = [[sorted(record.pausers), record.error] for record in library.jobs().records]
        try:
            library.submit(Saver())
        except DiskFull as error:
            seen["refused"] = str(error)
        seen["other"] = other.submit(Waiter(True)).id != b"" and not other.statistics().disk_full
        handles[0].pause()
        seen["reserve when full"] = (folder / "library" / RESERVE).exists()
    with Runtime(workers=1) as runtime:  # closed and opened again while it is full
        library = runtime.open_library(folder / "library")
        seen["still"] = library.statistics().live
        (folder / "ballast").unlink()
        again = [library.job(handle.id) for handle in handles]
        seen["results"] = [again[1].wait(SECONDS), again[2].wait(SECONDS)]
        seen["a user's pause"] = str(again[0].status)
        again[0].resume()
        seen["at last"] = again[0].wait(SECONDS)
        seen["full at last"] = library.statistics().disk_full
        until(runtime, lambda: (folder / "library" / RESERVE).exists())
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
