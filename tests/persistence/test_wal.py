"""The WAL has room before it is needed, stays within it while commits are small, and is read back as if there were none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import Bench

from callboard.persistence import wal
from callboard.persistence.place import WAL
from callboard.persistence.writes import Insert

ROOM = wal.ROOM_PAGES * wal.FRAME_BYTES


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench


def wal_bytes(bench: Bench) -> int:
    return (bench.path / WAL).stat().st_size


def test_after_a_small_commit_the_wal_has_room_for_the_next_ones(bench: Bench) -> None:
    bench.add()
    assert wal_bytes(bench) < ROOM
    bench.store.tidy()
    room = wal_bytes(bench)
    assert ROOM <= room < ROOM + 4096


def test_small_commits_stay_within_the_room_for_ever(bench: Bench) -> None:
    bench.add()
    bench.store.tidy()
    room = wal_bytes(bench)
    for _ in range(600):
        bench.add()
        bench.store.tidy()
        assert wal_bytes(bench) == room
    assert bench.rows("SELECT count(*) FROM jobs") == [(601,)]


def test_a_large_commit_makes_no_room_and_moves_nothing(bench: Bench) -> None:
    bench.store.tidy()
    bench.commit(*(Insert("work", 1, bytes(4_000)) for _ in range(300)))
    after = wal_bytes(bench)
    assert after > ROOM
    bench.store.tidy()
    assert wal_bytes(bench) == after
    assert bench.con.wal_checkpoint()[0] > 300  # all of it was still there to be moved


def test_what_was_committed_into_the_room_is_found_after_a_crash(bench: Bench) -> None:
    for _ in range(wal.ROOM_PAGES):  # so often that it has begun anew over frames of before
        bench.add()
        bench.store.tidy()
    bench.reopen()
    assert bench.rows("SELECT count(*) FROM jobs") == [(wal.ROOM_PAGES,)]
    assert bench.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_reader_that_stays_lets_the_wal_grow_and_it_is_moved_once_a_room(bench: Bench) -> None:
    assert bench.folder is not None
    reader = bench.folder.reader()
    reading = reader.execute("SELECT * FROM meta")
    next(reading)
    for _ in range(2 * wal.ROOM_PAGES):
        bench.add()
        bench.store.tidy()
    assert wal_bytes(bench) > ROOM
    list(reading)
    for _ in range(wal.ROOM_PAGES):
        bench.add()
        bench.store.tidy()
    grown = wal_bytes(bench)
    for _ in range(2 * wal.ROOM_PAGES):
        bench.add()
        bench.store.tidy()
    assert wal_bytes(bench) == grown


def test_a_library_that_is_closed_leaves_no_room_behind(tmp_path: Path) -> None:
    with Bench(tmp_path / "here") as bench:
        bench.add()
        bench.store.tidy()
        assert bench.folder is not None
        bench.folder.close()
        assert not (bench.path / WAL).exists()
