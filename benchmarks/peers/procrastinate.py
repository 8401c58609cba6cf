"""Procrastinate over PostgreSQL: submitted by its synchronous connector, worked off on an event loop in a thread of this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from callboard.benchmarks.peers.peer import PATIENCE, Settings, Store, Work, until
from callboard.benchmarks.peers.postgres_peer import POLL_MANY, POLL_ONE, PostgresPeer, server_settings

AT_ONCE = 10
"""Jobs that the worker runs concurrently; its own default is 1."""


class Deferred(Store):
    """One task. The lock that keeps a key from being queued twice is Procrastinate's queueing_lock."""

    def __init__(self, address: str) -> None:
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        self.address = address
        self.module: Any = import_module("procrastinate")
        self.app: Any = self.module.App(connector=self.module.SyncPsycopgConnector(conninfo=address))

        @self.app.task(name="sync_file")  # type: ignore[untyped-decorator]
        async def sync_file(path: str, size: int, etag: str) -> bool:
            return True

        self.task = sync_file
        self.asking: Any = import_module("psycopg").connect(address, autocommit=True)
        self.app.open()
        if not self.ask("SELECT count(*) FROM pg_class WHERE relname = 'procrastinate_jobs'"):
            self.app.schema_manager.apply_schema()

    def ask(self, query: str) -> Any:
        return self.asking.execute(query).fetchone()[0]

    def settings(self) -> Settings:
        return server_settings(lambda name: self.ask(f"SHOW {name}"))

    def close(self) -> None:
        self.app.close()
        self.asking.close()

    def put(self, job: Work) -> object:
        return self.task.configure(queueing_lock=job.key, priority=4 - job.priority).defer(**job.fields())

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        return list(self.task.batch_defer(*(job.fields() for job in jobs)))

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        worker = self.app.with_connector(self.module.PsycopgConnector(conninfo=self.address))
        started = threading.Event()
        stop: list[Any] = []

        async def work() -> None:
            async with worker.open_async():
                task = asyncio.create_task(worker.run_worker_async(concurrency=AT_ONCE, install_signal_handlers=False))
                stop.extend((asyncio.get_running_loop(), task))
                started.set()
                await asyncio.gather(task, return_exceptions=True)

        thread = threading.Thread(target=asyncio.run, args=(work(),), daemon=True)
        thread.start()
        started.wait(PATIENCE)
        try:
            yield
        finally:
            loop, task = stop
            loop.call_soon_threadsafe(task.cancel)
            thread.join(PATIENCE)

    def finish(self, tickets: list[Any]) -> None:
        """It has no results to wait for."""
        waiting = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"
        until(lambda: not self.ask(waiting), POLL_ONE if len(tickets) == 1 else POLL_MANY)

    def keys(self) -> set[str]:
        return {lock for (lock,) in self.asking.execute("SELECT queueing_lock FROM procrastinate_jobs").fetchall()}


class ProcrastinatePeer(PostgresPeer):
    name = "procrastinate"
    requires = ("procrastinate>=3,<4", "psycopg[binary]>=3.2,<4")
    store = Deferred
    notes = {
        "submit_batch": "one statement; no keys, since one lock would be for all of them",
        "noop_jobs": f"one worker, {AT_ONCE} jobs at once, on an event loop in a thread",
        "alone_ms": "LISTEN/NOTIFY; its end is asked for each half millisecond",
    }
