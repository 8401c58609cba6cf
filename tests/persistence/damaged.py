"""A library with rows of every kind, and how to damage it: for tests that look at what is left."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import Bench, save

from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.submission import OnDuplicate
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.codec import encode_map, encode_value
from callboard.persistence.place import DATABASE
from callboard.persistence.writes import End

PAGE = 4_096
HEAD = ("head", "", 0, encode_head(None, 0))


class Jobs(NamedTuple):
    """Ids of some jobs that are in it."""

    queued: bytes
    running: bytes
    paused: bytes
    successor: bytes
    failed: bytes
    completed: bytes


def payload(n: int, size: int = 0) -> bytes:
    return encode_map({"n": n, "pad": "p" * size})


def make(tmp_path: Path, extra: int = 0) -> tuple[Path, Jobs]:
    """A library that was closed; `extra`: so many more jobs, half of them ended, with payloads of every size."""
    with Bench(tmp_path) as bench:
        for n in range(extra):
            added = bench.add(data=payload(n, n * 37 % 2_500), tags=("extra", f"tag {n % 7}"), requested_by="who")
            if n % 2:
                claimed = bench.claim(only=(added,))[0]
                bench.do(save(claimed, 1, HEAD, ("field", "n", 0, encode_value(n))))
                bench.do(End(added, claimed.claim, Event.FAIL, error="it failed"))
        queued = bench.add(data=payload(1), tags=("one",))
        running = bench.start(data=payload(2))
        bench.do(save(running, 1, HEAD, ("field", "n", 0, encode_value(5)), ("done", "map", 0, b"\x01"), warnings=((1, "item", "odd"),)))
        paused = bench.in_status(Status.PAUSED, data=payload(3), key=b"k").job_id
        successor = bench.add(data=payload(4), key=b"k", on_duplicate=OnDuplicate.REQUEUE)
        failed, completed = bench.start(data=payload(5)), bench.start(data=payload(6))
        bench.do(save(failed, 1, HEAD))
        bench.do(End(failed.job_id, failed.claim, Event.FAIL, error="it failed"))
        bench.do(End(completed.job_id, completed.claim, Event.RETURN, result=encode_value("done")))
        bench.con.execute("INSERT INTO batches (id, created_at, sealed, count, members, open, counts) VALUES (?, 1, 1, 1, 1, 1, '{}')", (b"b" * 16,))
        bench.con.execute("INSERT INTO batch_chunks VALUES (?, 0, 1, ?, ?, 1, x'00', NULL)", (b"b" * 16, queued, queued))
        bench.reopen(clean=True)
        bench.do(save(bench.claim(only=(running.job_id,))[0], 2, HEAD))
        assert bench.folder is not None
        bench.folder.close()
    return tmp_path / "library", Jobs(queued, running.job_id, paused, successor, failed.job_id, completed.job_id)


def change(library: Path, *statements: str, bindings: tuple[Any, ...] = ()) -> None:
    """Change the closed library as somebody with SQLite's shell could, whatever its schema says."""
    with contextlib.closing(sqlite3.connect(library / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute("PRAGMA writable_schema = 1")
        for statement in statements:
            connection.execute(statement, bindings if "?" in statement else ())


def everything_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What an onlooker must not change."""
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    before = everything_in(folder)
    yield
    assert everything_in(folder) == before


def again(library: Path, to: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(library, to))
