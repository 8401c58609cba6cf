"""Taskiq over a Redis stream, its receiver on the event loop that also submits."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from callboard.benchmarks.peers.looped import Looped
from callboard.benchmarks.peers.peer import PATIENCE, Work
from callboard.benchmarks.peers.redis_peer import OnRedis, RedisPeer

POLL = 0.0005
"""Seconds between two looks for a result; its own default is 0.2."""


class Kicked(OnRedis, Looped):
    """One task, on the broker that acknowledges messages."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        logging.getLogger("taskiq").setLevel(logging.CRITICAL)
        self.runner = asyncio.Runner()
        module: Any = import_module("taskiq_redis")
        url = f"unix://{address}"
        self.broker: Any = module.RedisStreamBroker(url=url).with_result_backend(module.RedisAsyncResultBackend(redis_url=url))

        @self.broker.task(task_name="sync_file")  # type: ignore[untyped-decorator]
        async def sync_file(path: str, size: int, etag: str) -> bool:
            return True

        self.task = sync_file
        self.runner.run(self.broker.startup())

    def close(self) -> None:
        self.runner.run(self.broker.shutdown())
        self.runner.close()
        super().close()

    async def submit(self, job: Work) -> object:
        ticket: object = await self.task.kicker().with_task_id(job.key).kiq(**job.fields())
        return ticket

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        async def start() -> asyncio.Task[None]:
            return asyncio.create_task(import_module("taskiq.api").run_receiver_task(self.broker))

        async def stop() -> None:
            receiver.cancel()
            with suppress(asyncio.CancelledError):
                await receiver

        receiver = self.runner.run(start())
        try:
            yield
        finally:
            self.runner.run(stop())

    def finish(self, tickets: list[Any]) -> None:
        async def all_of_them() -> None:
            for ticket in tickets:
                await ticket.wait_result(check_interval=POLL, timeout=PATIENCE)

        self.runner.run(all_of_them())

    def keys(self) -> set[str]:
        return {json.loads(fields[b"data"])["task_id"] for _, fields in self.client.xrange("taskiq")}


class TaskiqPeer(RedisPeer):
    name = "taskiq"
    requires = ("taskiq>=0.11,<1", "taskiq-redis>=1,<2")
    store = Kicked
    notes = {
        "submit_singly": "the task's id is its key; no group or priority",
        "noop_jobs": "the receiver on the event loop that submits; each result is awaited",
        "alone_ms": "the result is looked for each half millisecond",
    }
