"""PgQueuer over PostgreSQL, its worker on the event loop that also submits."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import Peer, Settings, Store, Work
from callboard.benchmarks.peers.servers import missing_programs, postgres

ENTRY = "sync_file"
AT_ONCE = 100
"""Jobs that the worker takes, and ends that it records, in one statement; its own default is 10. A lone job's end would wait 0.1 s for more."""
POLL_ONE, POLL_MANY = 0.0005, 0.01
"""Seconds between two looks whether the queue is empty: for one job, and for many."""


class Jobs(Store):
    """One connection that submits and asks, and one for the worker."""

    def __init__(self, runner: asyncio.Runner, address: str) -> None:
        self.runner, self.address = runner, address
        self.asyncpg: Any = import_module("asyncpg")
        self.module: Any = import_module("pgqueuer")
        self.drivers: Any = import_module("pgqueuer.db")
        self.queries: Any = None
        self.connection: Any = None

    async def connect(self) -> None:
        self.connection = await self.asyncpg.connect(self.address)
        self.queries = import_module("pgqueuer.queries").Queries(self.drivers.AsyncpgDriver(self.connection))
        if not await self.queries.schema_is_installed():
            await self.queries.install()

    def settings(self) -> Settings:
        logged = self.runner.run(self.connection.fetchval("SELECT relpersistence = 'p' FROM pg_class WHERE relname = 'pgqueuer'"))
        fsync, commit = (self.runner.run(self.connection.fetchval(f"SHOW {name}")) for name in ("fsync", "synchronous_commit"))
        text = f"fsync={fsync}, synchronous_commit={commit}, table {'logged' if logged else 'unlogged'}"
        return Settings(text, logged and fsync == "on" and commit != "off")

    async def enqueue(self, job: Work) -> object:
        (ticket,) = await self.queries.enqueue(ENTRY, data(job), 4 - job.priority, dedupe_key=job.key)
        return ticket

    def put(self, job: Work) -> object:
        return self.runner.run(self.enqueue(job))

    def put_singly(self, jobs: Iterable[Work]) -> list[object]:
        async def all_of_them() -> list[object]:
            return [await self.enqueue(job) for job in jobs]

        return self.runner.run(all_of_them())

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        made = list(jobs)
        names, payloads = [ENTRY] * len(made), [data(job) for job in made]
        some = self.queries.enqueue(names, payloads, [4 - job.priority for job in made], dedupe_key=[job.key for job in made])
        return list(self.runner.run(some))

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        self.runner.run(self._start(1 if alone else AT_ONCE))
        try:
            yield
        finally:
            self.runner.run(self._stop())

    async def _start(self, at_once: int) -> None:
        self.workers = await self.asyncpg.connect(self.address)
        self.worker = self.module.PgQueuer(self.drivers.AsyncpgDriver(self.workers))

        @self.worker.entrypoint(ENTRY)  # type: ignore[untyped-decorator]
        async def sync_file(job: Any) -> None:
            json.loads(job.payload)

        self.task = asyncio.create_task(self.worker.run(batch_size=at_once))

    async def _stop(self) -> None:
        self.worker.shutdown.set()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.task, 10)
        await self.workers.close()

    def finish(self, tickets: list[Any]) -> None:
        async def emptied() -> None:
            while await self.queries.queue_size():  # a job leaves it in the statement that records its end
                await asyncio.sleep(POLL_ONE if len(tickets) == 1 else POLL_MANY)

        self.runner.run(emptied())

    def keys(self) -> set[str]:
        return {row["dedupe_key"] for row in self.runner.run(self.connection.fetch("SELECT dedupe_key FROM pgqueuer"))}


def data(job: Work) -> bytes:
    return json.dumps(job.fields()).encode()


class PgqueuerPeer(Peer):
    """PgQueuer with asyncpg."""

    name = "pgqueuer"
    requires = ("pgqueuer>=1,<2", "asyncpg>=0.30,<1")
    claim = "fsync of the server's WAL at each commit"
    notes = {
        "submit_batch": "one statement",
        "noop_jobs": f"one worker, {AT_ONCE} jobs a statement, on the event loop that submits",
        "alone_ms": "LISTEN/NOTIFY, a job a statement; its end is asked for each half millisecond",
    }

    def missing(self) -> str | None:
        return super().missing() or missing_programs("postgresql", "initdb", "postgres", "pg_isready")

    @contextmanager
    def opened(self, place: Path) -> Iterator[Store]:
        logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
        with postgres(place) as address, asyncio.Runner() as runner:
            jobs = Jobs(runner, address)
            runner.run(jobs.connect())
            try:
                yield jobs
            finally:
                runner.run(jobs.connection.close())
