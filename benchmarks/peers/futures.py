"""concurrent.futures: threads and nothing on disk. What durability costs is the distance to this."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_all
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import Peer, Settings, Store, Work

WORKERS = 2


def sync_file(path: str, size: int, etag: str) -> bool:
    return True


class Pool(Store):
    """A pool of threads; jobs run as soon as they are handed in."""

    def __init__(self, place: Path) -> None:
        self.pool = ThreadPoolExecutor(WORKERS)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def settings(self) -> Settings:
        return Settings("nothing is written", synced=False)

    def put(self, job: Work) -> Future[bool]:
        return self.pool.submit(sync_file, job.path, job.size, job.etag)

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        """`Executor.map` hands in one after the other too, and keeps the futures to itself."""
        return [self.put(job) for job in jobs]

    def finish(self, tickets: list[Any]) -> None:
        wait_all(tickets)

    def keys(self) -> set[str]:
        return set()


class FuturesPeer(Peer):
    """A ThreadPoolExecutor."""

    name = "concurrent.futures"
    claim = "none: jobs live in memory"
    store = Pool

    def version(self) -> str:
        return f"Python {sys.version.split()[0]}"
