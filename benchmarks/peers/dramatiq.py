"""Dramatiq over Redis, with its worker threads in this process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from callboard.benchmarks.peers.peer import PATIENCE, Work
from callboard.benchmarks.peers.redis_peer import WORKERS, OnRedis, RedisPeer, sync_file


class Sent(OnRedis):
    """One actor, whose results are kept."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        logging.getLogger("dramatiq").setLevel(logging.CRITICAL)
        self.module: Any = import_module("dramatiq")
        self.broker: Any = import_module("dramatiq.brokers.redis").RedisBroker(client=self.client)
        results = import_module("dramatiq.results")
        self.backend: Any = import_module("dramatiq.results.backends.redis").RedisBackend(client=self.client)
        self.broker.add_middleware(results.Results(backend=self.backend, store_results=True))
        self.actor: Any = self.module.actor(sync_file, broker=self.broker)

    def put(self, job: Work) -> object:
        return self.actor.send_with_options(kwargs=job.fields(), key=job.key)

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        worker = self.module.Worker(self.broker, worker_threads=WORKERS)
        worker.start()
        try:
            yield
        finally:
            worker.stop()

    def finish(self, tickets: list[Any]) -> None:
        for ticket in tickets:
            assert ticket.get_result(backend=self.backend, block=True, timeout=int(PATIENCE * 1_000)) is True

    def keys(self) -> set[str]:
        return {json.loads(message)["options"]["key"] for message in self.client.hvals("dramatiq:default.msgs")}


class DramatiqPeer(RedisPeer):
    name = "dramatiq"
    requires = ("dramatiq[redis]>=2,<3",)
    store = Sent
    notes = {
        "submit_singly": "no unique keys",
        "noop_jobs": f"{WORKERS} worker threads; each result is awaited",
    }
