"""A process that forks for each life of a library, so that a start costs milliseconds: it knows all of callboard, and has no threads.

Reads one request a line (JSON). A life tells what it does on standard output, a line at once for each; `{"kill": number}` ends it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import apsw
import killed_bugs
import killed_work

import callboard.actors.control  # noqa: F401 - imported late by callboard: not anew in each life
from callboard.persistence import migrate


def tell(**line: Any) -> None:
    """One write for a line: whole, and in order with those of other threads."""
    os.write(1, json.dumps(line).encode() + b"\n")


def live(request: dict[str, Any]) -> None:
    if request["does"] == "finish":
        killed_work.finish(request["path"], request["batches"], tell)
    else:
        killed_work.work(request["path"], request["seed"], request["first"], request["known"], request["batches"], tell, request["does"] == "close")


def child(request: dict[str, Any]) -> None:
    try:
        live(request)
    except BaseException as error:  # noqa: BLE001 - for the parent to judge
        import traceback

        tell(defect=f"{error!r}\n{traceback.format_exc()}")
    os._exit(0)


class Requests:
    """Lines of standard input, also while somebody else is looked after."""

    def __init__(self) -> None:
        self._lines = self._read()

    def _read(self) -> Iterator[dict[str, Any]]:
        rest = b""
        while chunk := os.read(0, 65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            self.waiting = len(lines)
            for line in lines:
                self.waiting -= 1
                yield json.loads(line)

    waiting = 0
    """Lines that were read and not taken."""

    def take(self) -> dict[str, Any] | None:
        return next(self._lines, None)


def look_after(pid: int, life: int, requests: Requests) -> int:
    """Until it has ended; how it did."""
    ends = os.pidfd_open(pid)
    while requests.waiting or ends not in select.select([ends, 0], [], [])[0]:
        request = requests.take()
        if request is None or request["kill"] == life:
            signal.pidfd_send_signal(ends, signal.SIGKILL)
            break
    _, status = os.waitpid(pid, 0)
    os.close(ends)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    logging.disable(logging.CRITICAL)
    killed_bugs.plant()
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        migrate.create(connection)
    gc.freeze()  # what a collection touches is copied, in each life
    requests = Requests()
    while (request := requests.take()) is not None:
        if "kill" in request:  # too late: that life has ended by itself
            continue
        pid = os.fork()
        if pid == 0:
            child(request)
        tell(exit=look_after(pid, request["life"], requests))


if __name__ == "__main__":
    main()
