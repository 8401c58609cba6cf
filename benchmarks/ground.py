"""What scenarios stand on: scratch folders, clocks, busy threads, what the kernel says of this process."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def scratch(where: Path) -> Iterator[Path]:
    """An empty folder below `where`, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(folder: Path) -> None:
    """All of this file system is on disk: what one has left is not the next one's to write. Others' file systems are left alone."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(fd)
    finally:
        os.close(fd)


@contextmanager
def busy_threads(count: int) -> Iterator[None]:
    """So many Python threads that only count, as a host's own work may: each holds the GIL for whole switch intervals."""
    stop = False

    def spin() -> None:
        number = 0
        while not stop:
            number += 1

    threads = [threading.Thread(target=spin, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop = True
        for thread in threads:
            thread.join()


def at_once(threads: int, work: Callable[[int], object]) -> None:
    """`work(number)` in so many threads; raises what one of them raised."""
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failed.append(error)

    some = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in some:
        thread.start()
    for thread in some:
        thread.join()
    if failed:
        raise failed[0]


def memory_kib(field: str = "VmRSS") -> int:
    """Resident memory of this process; "VmHWM": the most it ever was."""
    return _proc("/proc/self/status", field)


def written_bytes() -> int:
    """Bytes that this process has had written to a block device so far."""
    return _proc("/proc/self/io", "write_bytes")


def _proc(path: str, field: str) -> int:
    with open(path) as file:
        return int(next(line for line in file if line.startswith(field)).split()[1])
