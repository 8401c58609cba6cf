"""persist-queue: its SQLite queue with acknowledgements and unique items."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import LOOP, Peer, Settings, Store, Work, sqlite_settings


class AckQueue(Store):
    """UniqueAckQ over its JSON serializer: the one it can sort the keys of, to find duplicates."""

    def __init__(self, place: Path) -> None:
        module = import_module("persistqueue")
        serializer = import_module("persistqueue.serializers.json")
        self.queue: Any = module.UniqueAckQ(str(place / "queue"), serializer=serializer)

    def close(self) -> None:
        self.queue.close()

    def settings(self) -> Settings:
        return sqlite_settings(lambda name: self.queue._putter.execute(f"PRAGMA {name}").fetchone()[0])

    def put(self, job: Work) -> object:
        return self.queue.put({"key": job.key, **job.fields()})

    def finish(self, tickets: list[Any]) -> None:
        for _ in tickets:
            self.queue.ack(self.queue.get(block=False))

    def keys(self) -> set[str]:
        return {item["data"]["key"] for item in self.queue.queue()}


class PersistQueuePeer(Peer):
    """A queue whose items are marked done."""

    name = "persist-queue"
    requires = ("persist-queue>=1,<2",)
    claim = "fsync at each commit (SQLite's default)"
    store = AckQueue
    notes = {
        "submit_singly": "the whole item is the key; no groups or priorities",
        "noop_jobs": LOOP,
        "alone_ms": LOOP,
    }
