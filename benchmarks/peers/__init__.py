"""The systems people would otherwise pick, by name. Nothing of them is imported until one is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callboard.benchmarks.peers.peer import Peer

PEERS = {
    "apsw": "callboard.benchmarks.peers.apsw_queue:ApswPeer",
    "sqlite3": "callboard.benchmarks.peers.sqlite_queue:Sqlite3Peer",
    "concurrent.futures": "callboard.benchmarks.peers.futures:FuturesPeer",
    "huey": "callboard.benchmarks.peers.huey:HueyPeer",
    "litequeue": "callboard.benchmarks.peers.litequeue:LitequeuePeer",
    "persist-queue": "callboard.benchmarks.peers.persist_queue:PersistQueuePeer",
    "diskcache": "callboard.benchmarks.peers.diskcache:DiskcachePeer",
    "dbos": "callboard.benchmarks.peers.dbos:DbosPeer",
    "apscheduler": "callboard.benchmarks.peers.apscheduler:ApschedulerPeer",
    "procrastinate": "callboard.benchmarks.peers.procrastinate:ProcrastinatePeer",
    "pgqueuer": "callboard.benchmarks.peers.pgqueuer:PgqueuerPeer",
    "rq": "callboard.benchmarks.peers.rq:RqPeer",
    "dramatiq": "callboard.benchmarks.peers.dramatiq:DramatiqPeer",
    "taskiq": "callboard.benchmarks.peers.taskiq:TaskiqPeer",
    "celery": "callboard.benchmarks.peers.celery:CeleryPeer",
}
"""Name -> "module:Class", embedded ones first, then those with a server."""

OURS = {"callboard": "callboard.benchmarks.peers.ours:CallboardPeer"}
"""callboard itself, killed as the others are. It is not among its own peers."""


def load(name: str) -> Peer:
    """The adapter called `name`, or that is "module:Class". KeyError, with the names there are, if there is none."""
    where = name if ":" in name else (PEERS | OURS).get(name)
    if where is None:
        raise KeyError(f"no peer is called {name!r}; there are {', '.join(PEERS)}")
    module, adapter = where.split(":")
    found: Peer = getattr(import_module(module), adapter)()
    return found
