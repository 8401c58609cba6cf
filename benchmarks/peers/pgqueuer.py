"""PgQueuer over PostgreSQL, its worker on the event loop that also submits."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from callboard.benchmarks.peers.looped import Looped
from callboard.benchmarks.peers.peer import PATIENCE, Settings, Work
from callboard.benchmarks.peers.postgres_peer import POLL_MANY, POLL_ONE, PostgresPeer, server_settings

ENTRY = "sync_file"
AT_ONCE = 100
"""Jobs that the worker takes, and ends that it records, in one statement; its own default is 10. A lone job's end would wait 0.1 s for more."""


class Jobs(Looped):
    """One connection to submit and ask, one for the worker."""

    def __init__(self, address: str) -> None:
        logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)
        self.runner, self.address = asyncio.Runner(), address
        self.asyncpg: Any = import_module("asyncpg")
        self.module: Any = import_module("pgqueuer")
        self.drivers: Any = import_module("pgqueuer.db")
        self.runner.run(self._connect())

    async def _connect(self) -> None:
        self.connection: Any = await self.asyncpg.connect(self.address)
        self.queries: Any = import_module("pgqueuer.queries").Queries(self.drivers.AsyncpgDriver(self.connection))
        if not await self.queries.schema_is_installed():
            await self.queries.install()

    def close(self) -> None:
        self.runner.run(self.connection.close())
        self.runner.close()

    def ask(self, query: str) -> Any:
        return self.runner.run(self.connection.fetchval(query))

    def settings(self) -> Settings:
        server = server_settings(lambda name: self.ask(f"SHOW {name}"))
        logged = self.ask("SELECT relpersistence = 'p' FROM pg_class WHERE relname = 'pgqueuer'")
        return Settings(f"{server.text}, table {'logged' if logged else 'unlogged'}", server.synced and logged)

    async def submit(self, job: Work) -> object:
        (ticket,) = await self.queries.enqueue(ENTRY, data(job), 4 - job.priority, dedupe_key=job.key)
        return ticket

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
            async with asyncio.timeout(PATIENCE):
                while await self.queries.queue_size():  # a job leaves it in the statement that records its end
                    await asyncio.sleep(POLL_ONE if len(tickets) == 1 else POLL_MANY)

        self.runner.run(emptied())

    def keys(self) -> set[str]:
        return {row["dedupe_key"] for row in self.runner.run(self.connection.fetch("SELECT dedupe_key FROM pgqueuer"))}


def data(job: Work) -> bytes:
    return json.dumps(job.fields()).encode()


class PgqueuerPeer(PostgresPeer):
    name = "pgqueuer"
    requires = ("pgqueuer>=1,<2", "asyncpg>=0.30,<1")
    store = Jobs
    notes = {
        "submit_batch": "one statement",
        "noop_jobs": f"one worker, {AT_ONCE} jobs a statement, on the event loop that submits",
        "alone_ms": "LISTEN/NOTIFY, a job a statement; its end is asked for each half millisecond",
    }
