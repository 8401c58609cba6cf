"""Huey over SQLite, with its thread worker in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from callboard.benchmarks.peers.peer import PATIENCE, Peer, Settings, Store, Work, sqlite_settings

POLL = 0.001
"""Seconds between two looks of the worker at an empty queue; its own defaults are 0.1, growing to 10."""


class Tasks(Store):
    """One task type; its results are kept."""

    def __init__(self, place: Path) -> None:
        logging.getLogger("huey").setLevel(logging.CRITICAL)
        module: Any = import_module("huey")
        self.huey: Any = module.SqliteHuey(filename=str(place / "huey.db"), fsync=True)

        @self.huey.task()  # type: ignore[untyped-decorator]
        def sync_file(path: str, size: int, etag: str, key: str) -> bool:
            return True

        self.task = sync_file
        self.ended: SimpleQueue[str] = SimpleQueue()

        @self.huey.signal(module.signals.SIGNAL_COMPLETE)  # type: ignore[untyped-decorator]
        def note(signal: str, task: Any) -> None:
            self.ended.put(task.id)  # its result is recorded by then

    def close(self) -> None:
        self.huey.storage.close()

    def settings(self) -> Settings:
        return sqlite_settings(lambda name: self.huey.storage.sql(f"pragma {name}", results=True)[0][0])

    def put(self, job: Work) -> object:
        ticket: object = self.task(job.path, job.size, job.etag, job.key, priority=4 - job.priority)
        return ticket

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        return list(self.task.map((job.path, job.size, job.etag, job.key) for job in jobs))

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        consumer = self.huey.create_consumer(workers=1, periodic=False, initial_delay=POLL, max_delay=POLL, check_worker_health=False)
        consumer.start()
        try:
            yield
        finally:
            consumer.stop(graceful=True)

    def finish(self, tickets: list[Any]) -> None:
        waiting = {ticket.id for ticket in tickets}
        while waiting:
            waiting.discard(self.ended.get(timeout=PATIENCE))
        assert tickets[-1].get() is True

    def keys(self) -> set[str]:
        return {task.args[3] for task in self.huey.pending()}


class HueyPeer(Peer):
    name = "huey"
    requires = ("huey>=3,<4",)
    claim = "fsync at each commit (fsync=True)"
    store = Tasks
    notes = {
        "submit_singly": "no unique keys",
        "submit_batch": "TaskWrapper.map: a transaction each",
        "noop_jobs": "one worker; a signal tells the end",
        "alone_ms": "a worker that polls each millisecond; a signal tells the end",
    }
