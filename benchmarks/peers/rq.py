"""RQ over Redis, with a worker that does not fork for each job, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from callboard.benchmarks.peers.peer import PATIENCE, Work, until
from callboard.benchmarks.peers.redis_peer import OnRedis, RedisPeer, sync_file, worker_process

POLL = 0.005
KEPT_S = 3_600


class Enqueued(OnRedis):
    """One queue. A job's id is its key."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.queue: Any = import_module("rq").Queue("bench", connection=self.client)

    def put(self, job: Work) -> object:
        return self.queue.enqueue(sync_file, job_id=job.key, result_ttl=KEPT_S, kwargs=job.fields())

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        return list(self.queue.enqueue_many([self.queue.prepare_data(sync_file, job_id=j.key, result_ttl=KEPT_S, kwargs=j.fields()) for j in jobs]))

    @contextmanager
    def working(self, alone: bool = False) -> Iterator[None]:
        with worker_process(__name__, self.address):
            yield

    def finish(self, tickets: list[Any]) -> None:
        if len(tickets) == 1:
            assert tickets[0].latest_result(timeout=int(PATIENCE)).return_value is True
            return
        ended = self.queue.finished_job_registry
        names = {ticket.id for ticket in tickets}
        until(lambda: names.issubset(ended.get_job_ids()), POLL)

    def keys(self) -> set[str]:
        return set(self.queue.job_ids)


class RqPeer(RedisPeer):
    name = "rq"
    requires = ("rq>=2,<3",)
    store = Enqueued
    notes = {
        "submit_singly": "the job's id is its key; a second one replaces the first",
        "submit_batch": "Queue.enqueue_many: one pipeline",
        "noop_jobs": "one SimpleWorker in its own process, which does not fork for each job as the default one does",
    }


def work(address: str) -> None:
    """The worker's process."""
    module: Any = import_module("rq")
    connection = import_module("redis").Redis(unix_socket_path=address)
    module.SimpleWorker(["bench"], connection=connection).work(logging_level="CRITICAL")


if __name__ == "__main__":
    work(sys.argv[1])
