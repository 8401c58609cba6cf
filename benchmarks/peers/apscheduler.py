"""APScheduler 4 (alpha): its synchronous scheduler over a SQLite data store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import PATIENCE, Peer, Settings, Store, Work, sqlite_settings

KEPT_S = 3_600.0
"""How long a result is kept; 0, its default, records none."""


def sync_file(path: str, size: int, etag: str, key: str) -> bool:
    return True


class Scheduled(Store):
    """Jobs of one task, run in its thread pool."""

    def __init__(self, place: Path) -> None:
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
        self.module: Any = import_module("apscheduler")
        self.engine: Any = import_module("sqlalchemy").create_engine(f"sqlite:///{place / 'scheduler.db'}")
        with self.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = wal")
        store = import_module("apscheduler.datastores.sqlalchemy").SQLAlchemyDataStore(self.engine)
        self.scheduler: Any = self.module.Scheduler(store).__enter__()
        self.ended: set[object] = set()
        self.changed = threading.Condition()

    def close(self) -> None:
        self.scheduler.__exit__(None, None, None)
        self.engine.dispose()

    def settings(self) -> Settings:
        with self.engine.connect() as connection:
            return sqlite_settings(lambda name: connection.exec_driver_sql(f"PRAGMA {name}").scalar())

    def put(self, job: Work) -> object:
        return self.scheduler.add_job(sync_file, args=(job.path, job.size, job.etag, job.key), result_expiration_time=KEPT_S)

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        def note(event: Any) -> None:
            with self.changed:
                self.ended.add(event.job_id)
                self.changed.notify_all()

        self.scheduler.subscribe(note, self.module.JobReleased)
        self.scheduler.start_in_background()
        try:
            yield
        finally:
            self.scheduler.stop()
            self.scheduler.wait_until_stopped()

    def finish(self, tickets: list[Any]) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.ended.issuperset(tickets), PATIENCE)
        assert self.scheduler.get_job_result(tickets[-1]).return_value is True

    def keys(self) -> set[str]:
        return {job.args[3] for job in self.scheduler.get_jobs()}


class ApschedulerPeer(Peer):
    name = "apscheduler"
    requires = ("apscheduler>=4.0.0a5,<5", "sqlalchemy>=2,<3", "sniffio>=1.3,<2")
    claim = "fsync at each commit (the engine is told WAL mode; SQLAlchemy's own default is a rollback journal)"
    store = Scheduled
    notes = {"submit_singly": "a job has no key, group or priority", "noop_jobs": "thread pool; an event tells the end"}
