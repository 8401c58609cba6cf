"""What the peers on Redis share: the server, what it says of its durability, and a worker in a process of its own where they need one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from callboard.benchmarks.peers.peer import Peer, Settings, Store
from callboard.benchmarks.peers.servers import missing_programs, redis, served, started_as

WORKERS = 2


def sync_file(path: str, size: int, etag: str) -> bool:
    """The job, by a name that a worker can import."""
    return True


class OnRedis(Store):
    """A client of the server at `address`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client: Any = import_module("redis").Redis(unix_socket_path=address)

    def settings(self) -> Settings:
        said = {name: self.client.config_get(name)[name] for name in ("appendonly", "appendfsync")}
        return Settings(", ".join(f"{name}={value}" for name, value in said.items()), list(said.values()) == ["yes", "always"])

    def close(self) -> None:
        self.client.close()


class RedisPeer(Peer):
    """A peer whose jobs are in Redis."""

    claim = "no fsync at return (appendonly yes, appendfsync everysec, the documented default)"

    def missing(self) -> str | None:
        return super().missing() or missing_programs("redis-server", "redis-server", "redis-cli")

    def served(self, place: Path) -> AbstractContextManager[str]:
        return redis(place)


@contextmanager
def worker_process(module: str, address: str) -> Iterator[None]:
    """`python -m module address`, until the end of the block."""
    command = [*started_as(None, signal.SIGKILL), sys.executable, "-m", module, address]
    with served(command, signal.SIGTERM):
        yield
