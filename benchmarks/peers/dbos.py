"""DBOS Transact over SQLite: workflows started in this process, and enqueued from a client."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import Peer, Settings, Store, Work, sqlite_settings, until

POLL = 0.005
"""Seconds between two looks for the ends of many workflows."""
HELD = "held"
"""A queue that nobody listens to."""


class Workflows(Store):
    """One workflow type. Enqueued while nobody works; started, which needs no queue to be polled, while somebody does."""

    def __init__(self, place: Path) -> None:
        self.file = place / "dbos.sqlite"
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("PRAGMA journal_mode = wal")  # stays with the file; DBOS leaves the mode as it finds it, and SQLite syncs fully
        self.url = f"sqlite:///{self.file}"
        self.module: Any = import_module("dbos")
        self.alchemy: Any = import_module("sqlalchemy")
        self.dbos: Any = self.module.DBOS
        self.dbos(config={"name": "bench", "system_database_url": self.url, "log_level": "CRITICAL"})

        @self.dbos.workflow(name="sync_file")  # type: ignore[untyped-decorator]
        def sync_file(path: str, size: int, etag: str) -> bool:
            return True

        self.workflow = sync_file
        self.dbos.listen_queues(["none"])
        self.dbos.launch()
        self.queue = self.dbos.register_queue(HELD)
        self.works = False

    def close(self) -> None:
        self.dbos.destroy(destroy_registry=True)

    def settings(self) -> Settings:
        with self.module._dbos._get_dbos_instance()._sys_db.engine.connect() as connection:
            return sqlite_settings(lambda name: connection.exec_driver_sql(f"PRAGMA {name}").scalar())

    def put(self, job: Work) -> object:
        if self.works:
            with self.module.SetWorkflowID(job.key):
                return self.dbos.start_workflow(self.workflow, job.path, job.size, job.etag)
        with self.module.SetEnqueueOptions(deduplication_id=job.key, priority=job.priority):
            return self.queue.enqueue(self.workflow, job.path, job.size, job.etag)

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        if self.works:
            return self.put_singly(jobs)
        client: Any = self.module.DBOSClient(system_database_url=self.url)
        engine: Any = self.alchemy.create_engine(self.url)
        try:
            with engine.begin() as connection:
                return [client.enqueue_in_transaction(connection, options(job), job.path, job.size, job.etag) for job in jobs]
        finally:
            engine.dispose()
            client.destroy()

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        self.works = True
        yield

    def finish(self, tickets: list[Any]) -> None:
        if len(tickets) == 1:
            tickets[0].get_result()
            return
        with closing(sqlite3.connect(self.file)) as connection:
            names = {ticket.workflow_id for ticket in tickets}
            ended = "SELECT workflow_uuid FROM workflow_status WHERE status = 'SUCCESS'"
            until(lambda: names.issubset(name for (name,) in connection.execute(ended)), POLL)

    def keys(self) -> set[str]:
        with closing(sqlite3.connect(self.file)) as connection:
            return {key for (key,) in connection.execute("SELECT deduplication_id FROM workflow_status")}


def options(job: Work) -> dict[str, object]:
    return {"workflow_name": "sync_file", "queue_name": HELD, "deduplication_id": job.key, "priority": job.priority}


class DbosPeer(Peer):
    name = "dbos"
    requires = ("dbos>=3,<4",)
    claim = "fsync at each commit (the file put into WAL mode beforehand; DBOS's own default is a rollback journal)"
    store = Workflows
    notes = {
        "submit_batch": "DBOSClient.enqueue_in_transaction: one transaction",
        "noop_jobs": "workflows started in this process, with no steps: started one by one, in its thread pool",
        "alone_ms": "a workflow started in this process, with no steps",
    }
