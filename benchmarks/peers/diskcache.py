"""diskcache: a cache that can push and pull, here as a queue with a result for each job."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import LOOP, Peer, Settings, Store, Work, sqlite_settings


class Queue(Store):
    """The cache's queue without a prefix. A job and its result change places in one transaction."""

    def __init__(self, place: Path) -> None:
        self.cache: Any = import_module("diskcache").Cache(str(place), sqlite_synchronous=2, eviction_policy="none", cull_limit=0)

    def close(self) -> None:
        self.cache.close()

    def settings(self) -> Settings:
        return sqlite_settings(lambda name: self.cache._sql(f"PRAGMA {name}").fetchone()[0])

    def put(self, job: Work) -> object:
        return self.cache.push((job.key, job.fields()))

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        with self.cache.transact():
            return [self.put(job) for job in jobs]

    def finish(self, tickets: list[Any]) -> None:
        for _ in tickets:
            with self.cache.transact():
                _, (key, _) = self.cache.pull()
                self.cache[key] = True

    def keys(self) -> set[str]:
        return {self.cache[entry][0] for entry in self.cache if isinstance(entry, int)}


class DiskcachePeer(Peer):
    name = "diskcache"
    requires = ("diskcache>=5.6,<6",)
    claim = "fsync at each commit (sqlite_synchronous=2; its default is 1)"
    store = Queue
    notes = {
        "submit_singly": "no unique keys, groups or priorities",
        "submit_batch": "one transaction",
        "noop_jobs": LOOP + "; taken and recorded in one transaction, so no running mark",
        "alone_ms": LOOP,
    }
