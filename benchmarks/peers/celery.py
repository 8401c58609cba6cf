"""Celery over Redis, with its worker in processes of its own."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from callboard.benchmarks.peers.peer import PATIENCE, Work
from callboard.benchmarks.peers.redis_peer import WORKERS, OnRedis, RedisPeer, sync_file, worker_process

POLL = 0.001
"""Seconds between two looks whether a result was announced; its own default is 0.5."""
OPTIONS = ("worker", "--concurrency", str(WORKERS), "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "CRITICAL")


def made(address: str) -> tuple[Any, Any]:
    """The application and its task; results are kept."""
    url = f"redis+socket://{address}"
    app: Any = import_module("celery").Celery("bench", broker=url, backend=url)
    app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True, worker_enable_remote_control=False)
    return app, app.task(name="sync_file")(sync_file)


class Applied(OnRedis):
    """One task."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        logging.getLogger("celery").setLevel(logging.CRITICAL)
        self.app, self.task = made(address)

    def close(self) -> None:
        self.app.close()
        super().close()

    def put(self, job: Work) -> object:
        ticket: object = self.task.apply_async(kwargs=job.fields(), task_id=job.key)
        return ticket

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        with worker_process(__name__, self.address):
            yield

    def finish(self, tickets: list[Any]) -> None:
        if len(tickets) == 1:
            assert tickets[0].get(timeout=PATIENCE, interval=POLL) is True
            return
        results = import_module("celery.result").ResultSet(tickets, app=self.app)
        assert all(value is True for value in results.join_native(timeout=PATIENCE, interval=POLL))

    def keys(self) -> set[str]:
        return {json.loads(message)["headers"]["id"] for message in self.client.lrange("celery", 0, -1)}


class CeleryPeer(RedisPeer):
    name = "celery"
    requires = ("celery[redis]>=5.4,<6",)
    store = Applied
    notes = {
        "submit_singly": "the task's id is its key, and a second one runs too; no group",
        "noop_jobs": f"a worker with {WORKERS} processes",
    }


if __name__ == "__main__":
    made(sys.argv[1])[0].worker_main(OPTIONS)
