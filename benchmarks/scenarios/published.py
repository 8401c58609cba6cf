"""What the peers' own authors, or others, have published, done again as they describe it: whether the adapters do a peer justice.

Counted: the figure that was published, in its own unit and setting, with the durability that it had there. Limit: an aim of half or twice the
published figure, which comes from another machine. `peers/PUBLISHED.md` says where each stands, and why some cannot be reached here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from callboard.benchmarks.ground import seconds
from callboard.benchmarks.peers import load
from callboard.benchmarks.peers.servers import missing_programs, postgres
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal, Place

TEXT = "x" * 20
OUT_OF = 0.8
"""litequeue's share of the messages that are taken."""
SYNCED_SHARE = 10
"""Huey with syncs is given a tenth of the tasks: it is slower by as much and more."""


def litequeue_put(at: Place) -> float:
    queue: Any = import_module("litequeue").LiteQueue(str(at.folder / "queue.db"))
    try:
        return 1e6 * seconds(lambda: [queue.put(TEXT) for _ in range(at.size)]) / at.size
    finally:
        queue.close()


def litequeue_in_memory(at: Place) -> float:
    queue: Any = import_module("litequeue").LiteQueue(memory=True)

    def all_of_them() -> None:
        for _ in range(at.size):
            queue.put(TEXT)
            queue.done(queue.pop().message_id)

    try:
        return 1e6 * seconds(all_of_them) / at.size
    finally:
        queue.close()


def litequeue_pops(at: Place) -> float:
    queue: Any = import_module("litequeue").LiteQueue(memory=True)
    try:
        for _ in range(at.size):
            queue.put(TEXT)
        return seconds(lambda: [queue.pop() for _ in range(int(at.size * OUT_OF))])
    finally:
        queue.close()


def huey_wal(at: Place) -> float:
    """How many times faster tasks are written and read in WAL mode without syncs than with a synced rollback journal."""
    module: Any = import_module("huey")

    def a_task(count: int, **settings: object) -> float:
        storage: Any = module.SqliteHuey(filename=str(at.folder / f"{count}.db"), **settings).storage

        def all_of_them() -> None:
            for _ in range(count):
                storage.enqueue(TEXT.encode())
            for _ in range(count):
                storage.dequeue()

        try:
            return seconds(all_of_them) / count
        finally:
            storage.close()

    synced = a_task(max(1, at.size // SYNCED_SHARE), fsync=True, journal_mode="delete")
    return synced / a_task(at.size, fsync=False, journal_mode="wal")


def dbos_step(at: Place) -> float:
    """Milliseconds a step, of one workflow after the other with a step each, over PostgreSQL."""
    dbos: Any = import_module("dbos").DBOS
    with postgres(at.folder) as address:
        dbos(config={"name": "bench", "system_database_url": address, "log_level": "CRITICAL"})

        @dbos.step(name="step")  # type: ignore[untyped-decorator]
        def step() -> bool:
            return True

        @dbos.workflow(name="workflow")  # type: ignore[untyped-decorator]
        def workflow() -> bool:
            return bool(step())

        dbos.launch()
        try:
            workflow()
            return 1e3 * seconds(lambda: [workflow() for _ in range(at.size)]) / at.size
        finally:
            dbos.destroy(destroy_registry=True)


def diskcache_get(at: Place) -> float:
    cache: Any = import_module("diskcache").Cache(str(at.folder))
    cache["key"] = TEXT
    try:
        return 1e6 * seconds(lambda: [cache["key"] for _ in range(at.size)]) / at.size
    finally:
        cache.close()


def by_adapter(peer: str, measure: str, rate: bool = False) -> Callable[[Place], float]:
    """Jobs a second, or seconds for all of them."""

    def run(at: Place) -> float:
        found: float = getattr(load(peer), measure)(at.folder, at.size)
        return found if rate else at.size / found

    return run


def missing(peer: str, programs: bool) -> str | None:
    return load(peer).missing() or (missing_programs("postgresql", "initdb", "postgres", "pg_isready") if programs else None)


def case(
    peer: str, what: str, figure: Figure, published: float, source: str, run: Callable[[Place], float], size: int,
    *, rounds: int = 3, synced: bool = False, server: bool = False,
) -> Case:  # fmt: skip
    bound = published / 2 if figure.higher_is_better else published * 2
    who = Contender(peer, run, "peer", synced, "as published", partial(missing, peer, server), lambda: load(peer).version())
    text = f"{peer}, {what}; published: {published:g} {figure.unit} ({source})"
    aim = Goal(figure.name, bound, who=peer, firm=False)
    return Case(f"{peer}: {what}", text, (figure,), (who,), full=(size,), goals=(aim,), most_repeats=rounds, warm_up=lambda size: size // 50)


MICROS, SECONDS, RATE = Figure("µs", "µs", False), Figure("seconds", "s", False), Figure("jobs/s", "jobs/s", True)
CASES = (
    case("litequeue", "put of 20 characters", MICROS, 87, "its benchmark.ipynb", litequeue_put, 5_000),
    case("litequeue", "put, pop and done in memory", MICROS, 51, "its benchmark.ipynb", litequeue_in_memory, 5_000),
    case("litequeue", "8,000 pops out of 10,000", SECONDS, 0.56, "its benchmark.ipynb", litequeue_pops, 10_000, rounds=1),
    case("huey", "WAL without syncs over synced", Figure("times faster", "times", True), 210, "its change of 2014", huey_wal, 1_000),
    case("dbos", "a step over PostgreSQL", Figure("a step", "ms", False), 22, "a third party's laptop", dbos_step, 100, synced=True, server=True),
    case("diskcache", "get", MICROS, 11.8, "its README", diskcache_get, 20_000),
    case("persist-queue", "1,000 writes", SECONDS, 1.89, "its README", by_adapter("persist-queue", "submit_singly"), 1_000, synced=True),
    case("rq", "1,000 jobs by SimpleWorker", SECONDS, 1.02, "its benchmark.md", by_adapter("rq", "noop_jobs"), 1_000),
    case("pgqueuer", "jobs by one worker", RATE, 6_400, "its documentation", by_adapter("pgqueuer", "noop_jobs", rate=True), 5_000, synced=True),
)
