"""Fail-stop: what was acknowledged is on disk, what was not accepted is not, and in doubt the store says so and takes nothing more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from bench import NOBODY, Bench, save

from callboard.jobs.errors import Busy, DiskFull, NoSuchJob, NotAccepted, OutcomeUnknown, StoreUnavailable
from callboard.jobs.lifecycle import PAUSER_BITS, Event, Pauser, Status
from callboard.jobs.submission import OnDuplicate, Submitted
from callboard.persistence import connection as connection_module
from callboard.persistence import place as place_module
from callboard.persistence import reserve
from callboard.persistence import store as store_module
from callboard.persistence import wal as wal_module
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.connection import WRITER, set_up
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.place import DATABASE, WAL
from callboard.persistence.store import DAMAGED_MOST
from callboard.persistence.writes import (
    Claim,
    Claimed,
    Due,
    End,
    Excuse,
    Fenced,
    Insert,
    InsertAgain,
    IntentSet,
    Leave,
    MakeDue,
    SaveCheckpoint,
    SetIntent,
    SetUnresponsive,
    Write,
    WriteProgress,
)

HEAD = ("head", "", 0, encode_head(None, 0))
BAD = Insert("bad", 1, b"", priority=999)
"""SQLite refuses it, whatever stands beside it."""


# --- a database that fails on command ---------------------------------------------------------------------------------


class Faults:
    """What the disk does. Counts the changes that are asked of it, and fails from `first` on, `times` times."""

    def __init__(self) -> None:
        self.count = 0
        self.first = -1
        self.times = 0
        self.error: type[apsw.Error] = apsw.IOError
        self.only = ""

    def meet(self, operation: str) -> None:
        if self.only not in operation:
            return
        self.count += 1
        if self.first <= self.count - 1 < self.first + self.times:
            raise self.error(f"planted: {operation}")

    def fail(self, error: type[apsw.Error], only: str = "", *, after: int = 0, times: int = 10**9) -> None:
        self.error, self.only, self.first, self.times, self.count = error, only, after, times, 0

    def heal(self) -> None:
        self.times = 0


class FaultyFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], faults: Faults) -> None:
        self.kind = "wal" if (name.filename() if isinstance(name, apsw.URIFilename) else name).endswith("-wal") else "db"
        self.faults = faults
        super().__init__("unix-excl", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self.faults.meet(f"write {self.kind}")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self.faults.meet(f"sync {self.kind}")
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:
        self.faults.meet(f"truncate {self.kind}")
        super().xTruncate(newsize)


class FaultyDisk(apsw.VFS):
    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        super().__init__("faulty", "unix-excl")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return FaultyFile(name, flags, self.faults)


FAULTS = Faults()
DISK = FaultyDisk(FAULTS)


class Liar(apsw.Connection):
    """Its COMMIT says that it failed: after it was carried out, or without."""

    def execute(self, statements: str, bindings: Any = None, **more: Any) -> apsw.Cursor:
        lie = self.place.lie
        if lie == "rollback fails" and statements == "ROLLBACK":
            raise apsw.IOError("planted: ROLLBACK")
        if lie in ("stored", "not stored") and statements == "COMMIT":
            self.place.lie = ""
            if lie == "stored":
                super().execute("COMMIT")
            raise apsw.IOError("planted: COMMIT")
        if lie and lie in statements:
            self.place.lie = ""
            raise self.place.error
        return super().execute(statements, bindings, **more)

    place: FailingPlace


class FailingPlace:
    """A place of the store whose connection fails on command. Closing is left to the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lie = ""
        self.error: Exception = apsw.IOError("planted")
        self.reopened = self.reserves_freed = 0
        self.room = False
        self.cannot_reopen: Exception | None = None
        self.readers: list[apsw.Connection] = []
        self.writer = self._connect()

    def _connect(self) -> apsw.Connection:
        con = Liar(str(self.path / DATABASE), flags=apsw.SQLITE_OPEN_READWRITE, vfs="faulty")
        con.place = self
        con.cache_stats()
        con.pragma("journal_mode", "wal")
        set_up(con, tuple(setting for setting in WRITER if setting.__name__ != "kept_statements"))
        return con

    def reopen(self) -> None:
        self.reopened += 1
        self.close()
        if self.cannot_reopen is not None:
            raise self.cannot_reopen
        self.writer = self._connect()

    def in_place(self) -> bool:
        return True

    def rescue(self) -> None: ...

    def free_reserve(self) -> None:
        self.reserves_freed += 1

    def find_room(self) -> bool:
        return self.room

    def close(self) -> None:
        for con in (*self.readers, self.writer):
            con.close(force=True)


@contextmanager
def failing(tmp_path: Path) -> Iterator[tuple[Bench, FailingPlace]]:
    """A library, and how to make it fail. Nothing fails any more when it is left."""
    FAULTS.heal()
    if not (tmp_path / "library").exists():
        tmp_path.mkdir(exist_ok=True)
        LibraryFolder.open(tmp_path / "library").close()
    place = FailingPlace(tmp_path / "library")
    bench = Bench(tmp_path, place=place)
    try:
        yield bench, place
    finally:
        FAULTS.heal()
        place.cannot_reopen = None
        place.close()


# --- one bad write among good ones ------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [(0,), (6,), (12,), (0, 12), (5, 6), tuple(range(13))], ids=str)
def test_a_bad_write_is_refused_alone_wherever_it_stands(tmp_path: Path, places: tuple[int, ...]) -> None:
    with Bench(tmp_path) as bench:
        ended, left, saved, waiting = bench.start(), bench.start(), bench.start(), bench.add(name="waiting")
        good: list[Write] = [
            Insert("work", 1, b"1", key=b"k"), End(ended.job_id, ended.claim, Event.RETURN), Insert("work", 1, b"2", key=b"k"),
            Leave(left.job_id, left.claim, Event.YIELD), save(saved, 1, HEAD), SetIntent(waiting, Event.PAUSE), Claim(9), Insert("work", 1, b"3"),
            MakeDue(), Insert("work", 1, b"4", tags=("t",)), SetIntent(NOBODY, Event.CANCEL), Insert("work", 1, b"5"), Insert("work", 1, b"6"),
        ]  # fmt: skip
        writes = list(good)
        for place in reversed(places):
            writes.insert(place, BAD)
        answers = bench.commit(*writes)
        refused = [answer for write, answer in zip(writes, answers, strict=True) if write is BAD]
        kept = [answer for write, answer in zip(writes, answers, strict=True) if write is not BAD]
        assert len(refused) == len(places) and all(isinstance(answer, NotAccepted) and "CHECK" in str(answer) for answer in refused)
        assert kept[1:2] + kept[3:5] == [Status.COMPLETED, Status.PAUSED, None]
        assert isinstance(kept[5], IntentSet) and isinstance(kept[8], Due) and isinstance(kept[10], NoSuchJob)
        submitted = [answer for answer in kept if isinstance(answer, Submitted)]
        assert [answer.duplicate for answer in submitted] == [False, True, False, False, False, False]
        # Each good one once, in order of arrival, and claimed in the same group, since claims come last.
        assert [data for (data,) in bench.rows("SELECT data FROM jobs WHERE length(data) = 1 ORDER BY id")] == [b"1", b"3", b"4", b"5", b"6"]
        assert [one.data for one in kept[6]] == [b"1", b"3", b"4", b"5", b"6"]
        assert bench.store.failure is None


def test_a_bad_write_costs_few_more_commits_in_a_large_group(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        writes = [Insert("work", 1, b"") for _ in range(1_000)]
        writes[700] = BAD
        with bench.traced() as statements:
            answers = bench.commit(*writes)
        assert sum(isinstance(answer, NotAccepted) for answer in answers) == 1
        assert sum(statement.sql == "COMMIT" for statement in statements) <= 11
        assert bench.rows("SELECT count(*) FROM jobs") == [(999,)]


@pytest.mark.parametrize(
    "error", [ValueError("odd"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), apsw.SQLError("odd"), MemoryError(), KeyError(5)]
)
def test_whatever_goes_wrong_before_the_commit_the_store_goes_on(tmp_path: Path, error: Exception) -> None:
    with failing(tmp_path) as (bench, place):
        place.lie, place.error = "INSERT INTO jobs", error
        [answer] = bench.commit(Insert("work", 1, b"lost"))
        assert isinstance(answer, NotAccepted)
        bench.add(data=b"kept")
        assert bench.rows("SELECT data FROM jobs") == [(b"kept",)]
        assert place.reopened == 0


def test_what_is_remembered_of_a_group_that_was_rolled_back_does_no_harm(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.claim()
        assert isinstance(bench.commit(Insert("new kind", 1, b"", priority=999))[0], NotAccepted)
        waiting = bench.start(name="other")
        answers = bench.commit(Leave(waiting.job_id, waiting.claim, Event.STOP), Insert("third kind", 1, b""), BAD)
        assert [type(answer).__name__ for answer in answers] == ["Status", "Submitted", "NotAccepted"]
        assert {one.name for one in bench.claim()} == {"other", "third kind"}


def test_a_successor_whose_turn_was_rolled_back_still_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench(tmp_path) as bench:
        front = bench.start(key=b"key")
        behind = bench.add(key=b"key", on_duplicate=OnDuplicate.REQUEUE)
        end = End(front.job_id, front.claim, Event.RETURN)
        with monkeypatch.context() as patch:
            patch.setattr(bench.store, "_evidence", goes_wrong)
            assert isinstance(bench.commit(end)[0], NotAccepted)
        assert bench.status(behind) == Status.WAITING
        bench.do(end)
        assert [each.job_id for each in bench.claim()] == [behind]


def test_what_was_not_stored_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench(tmp_path) as bench:
        bench.store = store_module.Store(bench.place, now_ms=lambda: bench.now, random_bytes=bytes, knows=lambda *_: True, max_queued=3)
        bench.add()
        with monkeypatch.context() as patch:
            patch.setattr(bench.store, "_evidence", goes_wrong)
            assert all(isinstance(bench.commit(Insert("work", 1, b""))[0], NotAccepted) for _ in range(2))
        bench.add()
        bench.add()
        assert isinstance(bench.commit(Insert("work", 1, b""))[0], Busy)


def goes_wrong(*_: object) -> object:
    """In place of the last that is done before a COMMIT."""
    raise ValueError("something went wrong")


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_G13_a_disk_that_is_full_takes_nothing_new_until_there_is_room(tmp_path: Path) -> None:
    with failing(tmp_path) as (bench, place):
        bench.add(data=b"before")
        bench.con.pragma("max_page_count", bench.con.pragma("page_count") + 2)
        answers = bench.commit(Insert("work", 1, bytes(100_000)), Insert("work", 1, b"small"), Claim(5))
        assert [type(answer) for answer in answers] == [DiskFull, DiskFull, tuple] and bench.store.full
        assert "Make room" in str(answers[0]) and bench.rows("SELECT data FROM jobs") == [(b"before",)]
        assert bench.store.find_room() is None
        assert [type(answer) for answer in bench.commit(Insert("work", 1, b"small"), Claim(5))] == [DiskFull, tuple]
        bench.con.pragma("max_page_count", 1_000_000)
        place.room = True
        assert bench.store.find_room() == [] and not bench.store.full
        bench.add(data=bytes(100_000))
        assert place.reopened == 0 and place.reserves_freed == 1 and bench.store.failure is None


@pytest.mark.parametrize("only", ["write wal", "write"])
def test_G13_a_disk_that_is_full_at_the_commit_refuses_all_and_the_store_goes_on(tmp_path: Path, only: str) -> None:
    with failing(tmp_path) as (bench, place):
        bench.add(data=b"before")
        FAULTS.fail(apsw.FullError, only)
        for _ in range(2):
            answers = bench.commit(*(Insert("work", 1, b"lost") for _ in range(20)))
            assert all(isinstance(answer, DiskFull) for answer in answers)
        FAULTS.heal()
        assert bench.rows("SELECT data FROM jobs") == [(b"before",)]
        place.room = True
        assert bench.store.find_room() == []
        bench.add(data=b"after")
        assert bench.store.failure is None


def test_G13_while_the_disk_is_full_what_runs_can_pause_and_end_and_nothing_starts(tmp_path: Path) -> None:
    with failing(tmp_path) as (bench, place):
        ends, pauses, waits = bench.start(), bench.start(), bench.add()
        FAULTS.fail(apsw.FullError, "write", times=1)  # then the reserve is given up
        disk = PAUSER_BITS[Pauser.DISK]
        answers = bench.commit(
            End(ends.job_id, ends.claim, Event.RETURN), Insert("work", 1, b""),
            Leave(pauses.job_id, pauses.claim, Event.YIELD, "the disk is full", pauser=disk), Claim(5), SetIntent(waits, Event.PAUSE, 1),
        )  # fmt: skip
        assert [type(answer).__name__ for answer in answers] == ["Status", "DiskFull", "Status", "tuple", "IntentSet"]
        assert answers[3] == () and place.reserves_freed == 1 and bench.store.full
        assert bench.store.paused_for_disk() == [pauses.job_id]
        assert bench.store.find_room() is None
        place.room = True
        assert bench.store.find_room() == [pauses.job_id]
        assert bench.do(SetIntent(pauses.job_id, Event.RESUME, disk)).after is Status.QUEUED
        assert bench.store.paused_for_disk() == []


def test_G13_a_users_pause_is_not_lifted_by_room(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        disk, user = PAUSER_BITS[Pauser.DISK], PAUSER_BITS[Pauser.USER]
        claimed = bench.start()
        bench.do(SetIntent(claimed.job_id, Event.PAUSE, user))
        bench.do(Leave(claimed.job_id, claimed.claim, Event.YIELD, "the disk is full", pauser=disk))
        assert bench.store.find_room() == [claimed.job_id]
        assert bench.do(SetIntent(claimed.job_id, Event.RESUME, disk)).after is Status.PAUSED
        assert bench.do(SetIntent(claimed.job_id, Event.RESUME, user)).after is Status.QUEUED


def test_G13_the_reserve_is_there_or_is_not_there_and_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench(tmp_path) as bench:
        folder, file = bench.folder, bench.path / reserve.RESERVE
        assert folder is not None and not file.exists() and folder.find_room()
        folder.keep_reserve()
        assert file.stat().st_blocks * 512 >= reserve.BYTES and file.stat().st_mode & 0o777 == 0o600
        folder.free_reserve()
        folder.free_reserve()
        assert not file.exists()
        monkeypatch.setattr(reserve, "BYTES", 1 << 60)
        assert not folder.find_room() and not file.exists()
        monkeypatch.undo()
        assert folder.find_room() and file.exists()


# --- a COMMIT that says that it failed --------------------------------------------------------------------------------


def everything(bench: Bench) -> dict[str, Callable[[], list[Write]]]:
    """Groups of every kind, made when they are asked for."""

    def running(**more: Any) -> Claimed:
        return bench.start(**more)

    def ends(claimed: Claimed) -> End:
        return End(claimed.job_id, claimed.claim, Event.RETURN, drop_checkpoint=True)

    def checkpoint_and_end() -> list[Write]:
        claimed = running()
        return [save(claimed, 1, HEAD), ends(claimed)]

    def two_checkpoints() -> list[Write]:
        claimed = running()
        return [save(claimed, 1, HEAD, ("field", "a", 0, b"1")), save(claimed, 2, HEAD, ("field", "a", 0, b"2"))]

    def a_claim() -> list[Write]:
        bench.add()
        return [Claim(5)]

    def due() -> list[Write]:
        bench.add(run_at_ms=bench.now + 5)
        bench.now += 10
        return [MakeDue()]

    def stale_end_of_an_ended_job() -> list[Write]:
        claimed, other = running(), running()
        bench.do(ends(claimed))
        return [ends(claimed), Leave(other.job_id, other.claim, Event.STOP)]

    def leave(event: Event) -> Callable[[], list[Write]]:
        return lambda: [Leave((claimed := running()).job_id, claimed.claim, event)]

    return {
        "insert": lambda: [Insert("work", 1, b"")],
        "retry": lambda: [InsertAgain(bench.in_status(Status.FAILED).job_id, "none")],
        "claim": a_claim,
        "insert and claim": lambda: [Insert("work", 1, b""), Claim(1)],
        "checkpoint": lambda: [save(running(), 1, HEAD)],
        "two checkpoints": two_checkpoints,
        "checkpoint and end": checkpoint_and_end,
        "end": lambda: [ends(running())],
        "stale end": stale_end_of_an_ended_job,
        "stop": leave(Event.STOP),
        "release": leave(Event.RELEASE),
        "pause": lambda: [SetIntent(bench.add(), Event.PAUSE)],
        "cancel": lambda: [SetIntent(bench.add(), Event.CANCEL)],
        "progress": lambda: [WriteProgress((claimed := running()).job_id, claimed.claim, b"\x05")],
        "unresponsive": lambda: [SetUnresponsive((claimed := running()).job_id, claimed.claim, 5)],
        "excuse": lambda: [Excuse((running().job_id,))],
        "due": due,
        "refusals": lambda: [SetIntent(NOBODY, Event.PAUSE), Insert("work", 1, b"")],
    }


GROUPS = ("insert", "retry", "claim", "insert and claim", "checkpoint", "two checkpoints", "checkpoint and end", "end", "stale end", "stop",
          "release", "pause", "cancel", "progress", "unresponsive", "excuse", "due", "refusals")  # fmt: skip


def test_a_group_that_is_stored_though_its_commit_failed_is_acknowledged(tmp_path: Path) -> None:
    with failing(tmp_path) as (bench, place):
        made = everything(bench)
        assert tuple(made) == GROUPS
        for name in GROUPS:
            writes, before, reopened = made[name](), bench.contents(), place.reopened
            place.lie = "stored"
            answers = bench.store.commit(writes)
            assert place.reopened == reopened + 1, name
            assert not any(isinstance(answer, (NotAccepted, OutcomeUnknown)) for answer in answers), name
            assert bench.contents() != before, name
            # What stood in the WAL is in the database, and the WAL has begun anew, with a mark.
            assert 0 < os.path.getsize(place.path / WAL) < 3 * 4200, name
        assert bench.store.failure is None


def test_a_group_that_is_not_stored_is_not_accepted(tmp_path: Path) -> None:
    with failing(tmp_path) as (bench, place):
        made = everything(bench)
        for name in GROUPS:
            writes, before = made[name](), bench.contents()
            place.lie = "not stored"
            answers = bench.store.commit(writes)
            assert all(isinstance(answer, (NotAccepted, NoSuchJob, Fenced)) for answer in answers), name
            assert any(isinstance(answer, NotAccepted) for answer in answers), name
            assert bench.contents() == before, name
            again = bench.store.commit(writes)  # sending it again is safe
            assert not any(isinstance(answer, NotAccepted) for answer in again), name
            assert bench.contents() != before, name


def test_a_group_that_wrote_nothing_is_answered_whatever_became_of_its_commit(tmp_path: Path) -> None:
    with failing(tmp_path) as (bench, place):
        standing = bench.add(key=b"k")
        bench.claim()
        for lie in ("stored", "not stored"):
            place.lie = lie
            answers = bench.commit(Insert("work", 1, b"", key=b"k"), Claim(1), SetIntent(NOBODY, Event.PAUSE))
            assert answers[:2] == [Submitted(standing, True, None, "work"), ()] and isinstance(answers[2], NoSuchJob)


def test_a_library_that_cannot_be_opened_again_says_that_the_outcome_is_unknown_and_stops(tmp_path: Path) -> None:
    for stored in (True, False):
        with failing(tmp_path / str(stored)) as (bench, place):
            place.lie = "stored" if stored else "not stored"
            place.cannot_reopen = StoreUnavailable("the disk is gone")
            unknown, unknown_too, refused = bench.commit(Insert("work", 1, b""), MakeDue(), SetIntent(NOBODY, Event.CANCEL))
            assert isinstance(unknown, OutcomeUnknown) and isinstance(unknown_too, OutcomeUnknown) and isinstance(refused, NoSuchJob)
            assert len(unknown.token) == 16 and unknown_too.token == b""
            later = bench.commit(Insert("work", 1, b""), Claim(1))
            assert all(isinstance(answer, StoreUnavailable) and "the disk is gone" in str(answer) for answer in later)
            assert later[0] is not later[1]
            assert bench.store.failure is not None
            bench.store.tidy()
            with LibraryFolder.open(place.path).writer as con:
                assert bool(con.execute("SELECT 1 FROM jobs WHERE id = ?", (unknown.token,)).get) == stored


def test_a_library_that_breaks_before_the_commit_and_cannot_be_opened_again_has_not_accepted(tmp_path: Path) -> None:
    with failing(tmp_path) as (bench, place):
        place.lie, place.error, place.cannot_reopen = "INSERT INTO jobs", apsw.IOError("planted"), StoreUnavailable("the disk is gone")
        [answer] = bench.commit(Insert("work", 1, b""))
        assert isinstance(answer, NotAccepted)
        assert isinstance(bench.commit(Insert("work", 1, b""))[0], StoreUnavailable)


@pytest.mark.parametrize("error", [apsw.IOError, apsw.CorruptError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.NotADBError])
def test_a_broken_connection_is_not_used_again(tmp_path: Path, error: type[apsw.Error]) -> None:
    with failing(tmp_path) as (bench, place):
        before = bench.con
        place.lie, place.error = "INSERT INTO jobs", error("planted")
        answers = bench.commit(Insert("work", 1, b""), Insert("work", 1, b""))
        assert all(isinstance(answer, NotAccepted) for answer in answers)
        assert place.reopened == 1 and bench.con is not before
        bench.add()


def test_G12_a_library_that_goes_on_meeting_a_damaged_page_says_so_instead_of_opening_it_anew_for_ever(tmp_path: Path) -> None:
    def ends(times: int) -> None:
        for _ in range(times):
            place.lie, place.error = "job_history", apsw.CorruptError("planted")
            assert isinstance(bench.commit(End(claimed.job_id, claimed.claim, Event.RETURN))[0], NotAccepted)

    with failing(tmp_path) as (bench, place):
        claimed = bench.start()
        ends(DAMAGED_MOST)
        bench.add()  # what does not need the page goes on, and the count begins anew
        ends(DAMAGED_MOST)
        assert bench.store.failure is None and place.reopened == 2 * DAMAGED_MOST
        ends(1)
        assert "takes no more writes: CorruptError" in str(bench.store.failure) and "callboard salvage" in str(bench.store.failure)
        assert isinstance(bench.commit(Insert("work", 1, b""))[0], StoreUnavailable) and place.reopened == 2 * DAMAGED_MOST


def test_a_connection_that_cannot_even_roll_back_is_not_used_again(tmp_path: Path) -> None:
    with failing(tmp_path) as (bench, place):
        place.lie = "rollback fails"
        answers = bench.commit(Insert("work", 1, b"lost"), BAD)
        place.lie = ""
        assert all(isinstance(answer, NotAccepted) for answer in answers)
        assert place.reopened == 1
        bench.add(data=b"kept")
        assert bench.rows("SELECT data FROM jobs") == [(b"kept",)]


def test_a_reader_that_stays_keeps_a_doubtful_group_from_being_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncating the WAL waits for whoever reads; if he does not leave, the doubt remains, and is said."""
    monkeypatch.setattr(store_module, "READERS_LEAVE_MS", 20)
    with failing(tmp_path) as (bench, place):
        bench.add()
        connect = place._connect

        def with_reader() -> apsw.Connection:
            writer, reader = connect(), connect()
            place.readers.append(reader)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM jobs").fetchall()
            return writer

        monkeypatch.setattr(place, "_connect", with_reader)
        place.lie = "stored"
        [answer] = bench.commit(Insert("work", 1, b""))
        assert isinstance(answer, OutcomeUnknown)
        assert bench.store.failure is not None and "BusyError" in bench.store.failure


# --- the WAL ----------------------------------------------------------------------------------------------------------


def move_the_wal_after(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_module, "PAGES_BEFORE_CHECKPOINT", pages)
    monkeypatch.setattr(wal_module, "SMALL_COMMIT_PAGES", 0)


def test_the_wal_is_moved_into_the_database_when_it_has_grown_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing(tmp_path) as (bench, _):
        FAULTS.fail(apsw.IOError, "db", times=0)
        bench.add()
        bench.store.tidy()
        assert FAULTS.count == 0
        move_the_wal_after(1, monkeypatch)
        bench.add()
        bench.store.tidy()
        assert FAULTS.count > 0
        after = FAULTS.count
        bench.store.tidy()
        assert FAULTS.count == after


def test_a_wal_that_cannot_be_moved_touches_no_acknowledgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_the_wal_after(1, monkeypatch)
    with failing(tmp_path) as (bench, _):
        for error in (apsw.IOError, apsw.FullError):
            FAULTS.fail(error, "db")
            for _ in range(3):
                bench.add()
                bench.store.tidy()
            FAULTS.heal()
        bench.store.tidy()
        assert bench.rows("SELECT count(*) FROM jobs") == [(6,)]


def test_after_a_failed_move_of_the_wal_its_handles_are_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move_the_wal_after(1, monkeypatch)
    with failing(tmp_path) as (bench, place):
        bench.add()
        FAULTS.fail(apsw.IOError, "sync", times=1)
        bench.store.tidy()
        assert place.reopened == 1 and bench.store.failure is None
        bench.add()
        bench.store.tidy()
        assert place.reopened == 1
        assert bench.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_an_opening_syncs_the_name_of_the_wal_and_fails_if_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LibraryFolder.open(tmp_path / "library").close()
    synced: list[bool] = []

    def sync_folder(folder: Path) -> None:
        synced.append((folder / WAL).exists())
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(place_module, "sync_folder", sync_folder)
        with pytest.raises(StoreUnavailable, match="cannot be synced: Input/output error"):
            LibraryFolder.open(tmp_path / "library")
    assert synced == [True]
    LibraryFolder.open(tmp_path / "library").close()


def test_after_a_failed_sync_the_wal_is_written_and_synced_again_before_the_database_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could find new pages in the database, and before them a WAL that ends too early."""
    with failing(tmp_path) as (bench, place):
        bench.add()
        told: list[str] = []
        meet = FAULTS.meet
        monkeypatch.setattr(FAULTS, "meet", lambda operation: told.append(operation) or meet(operation))
        FAULTS.fail(apsw.IOError, "sync wal", times=1)
        bench.add()
        assert place.reopened == 1
        since = told[told.index("sync wal") + 1 :]
        before = since[: since.index("write db")]
        assert "write wal" in before and before[before.index("write wal") :].count("sync wal") >= 1
        assert bench.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_an_opening_whose_checkpoint_fails_goes_on_with_new_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LibraryFolder.open(tmp_path / "library").close()
    connects: list[object] = []
    connect = LibraryFolder._connect
    monkeypatch.setattr(LibraryFolder, "_connect", lambda folder: connects.append(folder) or connect(folder))
    monkeypatch.setattr(connection_module, "VFS", "faulty")
    FAULTS.fail(apsw.IOError, "sync db", times=1)
    folder = LibraryFolder.open(tmp_path / "library")
    assert len(connects) == 2 and folder.epoch == 2
    FAULTS.heal()
    folder.close()


# --- every operation of the disk --------------------------------------------------------------------------------------


def live(bench: Bench) -> list[tuple[Write, Any]]:
    """A short life, written as if all went well: what does not fit any more is fenced or refused."""
    told: list[tuple[Write, Any]] = []

    def commit(*writes: Write) -> list[Any]:
        answers = bench.commit(*writes)
        told.extend(zip(writes, answers, strict=True))
        bench.store.tidy()
        return answers

    first = commit(Insert("work", 1, b"1", key=b"1"), Insert("work", 1, bytes(9_000), key=b"2"), Claim(2))
    claimed = first[2] if isinstance(first[2], tuple) else ()
    commit(*(SaveCheckpoint(one.job_id, one.claim, 1, (HEAD, ("field", "a", 0, b"x"))) for one in claimed), Insert("work", 1, b"3", key=b"3"))
    for index, one in enumerate(claimed):
        commit(End(one.job_id, one.claim, Event.RETURN) if index else Leave(one.job_id, one.claim, Event.YIELD, pauser=2))
    return told


def effect(con: apsw.Connection, write: Write, answer: Any) -> bool | None:
    """Whether the write is in the database; None if this one cannot be told."""
    def found(sql: str, *values: Any) -> bool:
        return con.execute(sql, values).get is not None

    match write:
        case Insert():
            return found("SELECT 1 FROM jobs WHERE key = ?1 UNION SELECT 1 FROM job_history WHERE key = ?1", write.key)
        case SaveCheckpoint():
            return found("SELECT 1 FROM job_checkpoints WHERE job_id = ? AND kind = 'head' AND sequence = 1", write.job_id)
        case End():
            return found("SELECT 1 FROM job_history WHERE id = ?", write.job_id)
        case Leave():
            return found("SELECT 1 FROM jobs WHERE id = ? AND status = 'paused'", write.job_id)
        case Claim() if isinstance(answer, tuple) and answer:
            return found("SELECT 1 FROM jobs WHERE id = ?1 AND claim = 1 UNION SELECT 1 FROM job_history WHERE id = ?1", answer[0].job_id)
    return None


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
def test_at_whatever_operation_the_disk_fails_the_answers_are_true(
    tmp_path: Path, error: type[apsw.Error], monkeypatch: pytest.MonkeyPatch
) -> None:
    move_the_wal_after(4, monkeypatch)
    monkeypatch.setattr(store_module.log, "disabled", True)
    with failing(tmp_path / "new") as (_, place):
        template = shutil.copytree(place.path.parent, tmp_path / "template")
    with failing(tmp_path / "all well") as (bench, _):
        FAULTS.fail(error, times=0)
        live(bench)
        operations = FAULTS.count
    assert operations > 20
    seen: set[str] = set()
    # Once, so that the answer is found out afterwards; for good; or twice, so that finding out fails too. Full disks are much alike.
    for after in range(0, operations, 1 if error is apsw.IOError else 3):
        for times in (1, 10**9) if after % 2 else (1, 2):
            shutil.copytree(template, tmp_path / f"{after} {times}")
            with failing(tmp_path / f"{after} {times}") as (bench, place):
                FAULTS.fail(error, after=after, times=times)
                told = live(bench)
                FAULTS.heal()
                place.close()
                con = apsw.Connection(str(place.path / DATABASE))
                for write, answer in told:
                    seen.add(type(answer).__name__)
                    check_answer(write, answer, effect(con, write, answer), bench.store.failure)
                assert con.execute("PRAGMA integrity_check").get == "ok"
                con.close()
    assert {"NotAccepted" if error is apsw.IOError else "DiskFull", "Submitted"} <= seen
    assert error is apsw.FullError or "OutcomeUnknown" in seen


def check_answer(write: Write, answer: Any, there: bool | None, failure: str | None) -> None:
    if isinstance(answer, OutcomeUnknown):
        assert failure is not None
    elif isinstance(answer, (NotAccepted, StoreUnavailable)):
        assert there is not True, (write, answer)
    elif not isinstance(answer, Fenced):
        assert there is not False, (write, answer)
