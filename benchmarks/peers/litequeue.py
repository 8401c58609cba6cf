"""litequeue: a table of messages, taken and marked done."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import LOOP, Peer, Settings, Store, Work, sqlite_settings


class Messages(Store):
    """One queue, one connection."""

    def __init__(self, place: Path) -> None:
        self.queue: Any = import_module("litequeue").LiteQueue(str(place / "queue.db"))

    def close(self) -> None:
        self.queue.conn.close()

    def settings(self) -> Settings:
        return sqlite_settings(lambda name: self.queue.conn.execute(f"PRAGMA {name}").fetchone()[0])

    def put(self, job: Work) -> object:
        return self.queue.put(json.dumps([job.key, job.fields()])).message_id

    def put_batch(self, jobs: Iterable[Work]) -> list[object]:
        with self.queue.transaction(mode="IMMEDIATE"):
            return [self.put(job) for job in jobs]

    def finish(self, tickets: list[Any]) -> None:
        for _ in tickets:
            message = self.queue.pop()
            json.loads(message.data)
            self.queue.done(message.message_id)

    def keys(self) -> set[str]:
        return {json.loads(data)[0] for (data,) in self.queue.conn.execute(f"SELECT data FROM {self.queue.table}")}


class LitequeuePeer(Peer):
    name = "litequeue"
    requires = ("litequeue>=0.9,<1",)
    claim = "no fsync at a commit; it sets synchronous=NORMAL itself"
    store = Messages
    notes = {
        "submit_singly": "no unique keys, groups or priorities",
        "submit_batch": "one transaction",
        "noop_jobs": LOOP + "; each take sorts all that wait, so this falls with the depth",
        "alone_ms": LOOP,
    }
