"""One process owns a library at a time, shown with real processes; they wait for each other on pipes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from callboard.jobs.errors import LibraryBusy, LibraryClosed, StoreUnavailable, UnsafeLibrary
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.lock import LOCK_FILE, PATIENCE, STEP, WIDTH, acquire, forked, lock_holders, read_holder

RACES, RACERS = 20, 8

PRELUDE = r"""
import os, sys
from pathlib import Path
from callboard.jobs.errors import LibraryBusy, LibraryClosed
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.lock import acquire, read_holder
path = Path(sys.argv[1])
def say(*words): os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece, also beside a forked child's
def heard(): return sys.stdin.readline().strip()
"""


class Child:
    """A Python process that runs `code` with `path` and says lines to us."""

    def __init__(self, code: str, path: Path, fds: tuple[int, ...] = ()) -> None:
        command = [sys.executable, "-c", PRELUDE + code, str(path), *map(str, fds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=fds)
        self.pid = self.process.pid

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


Start = Callable[..., Child]


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[Child] = []

    def start(code: str, path: Path, fds: tuple[int, ...] = ()) -> Child:
        children.append(Child(code, path, fds))
        return children[-1]

    yield start
    for child in children:
        child.close()


OWNER = """
folder = LibraryFolder.open(path)
say("open")
heard()
folder.close()
say("closed")
heard()
"""


def test_of_eight_that_race_one_wins_and_the_others_are_told_its_pid(tmp_path: Path, start: Start) -> None:
    code = """
for fd in map(int, sys.argv[2:]):
    say("ready")
    os.read(fd, 1)  # ends for all racers at once, when the writing end is closed
    try:
        folder = LibraryFolder.open(path)
    except LibraryBusy as error:
        say("busy", error.pid)
        heard()
    else:
        say("won", os.getpid())
        heard()
        folder.close()
        say("closed")
"""
    pipes = [os.pipe() for _ in range(RACES)]
    racers = [start(code, tmp_path / "library", tuple(read for read, _ in pipes)) for _ in range(RACERS)]
    for read, _ in pipes:
        os.close(read)
    for _, write in pipes:
        assert [racer.said() for racer in racers] == ["ready"] * RACERS
        os.close(write)
        said = [racer.said().split() for racer in racers]
        winners = [racer for racer, (word, _) in zip(racers, said, strict=True) if word == "won"]
        assert len(winners) == 1
        assert {int(pid) for _, pid in said} == {winners[0].pid}
        winners[0].tell()
        assert winners[0].said() == "closed"
        for racer in racers:
            if racer is not winners[0]:
                racer.tell()


def test_a_killed_owner_frees_the_library_at_once(tmp_path: Path, start: Start) -> None:
    owner = start(OWNER, tmp_path / "library")
    assert owner.said() == "open"
    with pytest.raises(LibraryBusy) as busy:
        LibraryFolder.open(tmp_path / "library")
    assert busy.value.pid == owner.pid
    owner.kill()
    folder = LibraryFolder.open(tmp_path / "library")
    assert (folder.epoch, folder.was_clean) == (2, False)
    folder.close()


def test_one_that_stays_is_not_waited_for(tmp_path: Path, start: Start) -> None:
    owner = start(OWNER, tmp_path / "library")
    assert owner.said() == "open"
    waits: list[float] = []
    with pytest.raises(LibraryBusy, match=f"process {owner.pid} .*has it open"):
        LibraryFolder.open(tmp_path / "library", wait=waits.append)
    assert waits == []


def test_one_that_passes_is_waited_for(tmp_path: Path, start: Start) -> None:
    command = start("lock = acquire(path, stays=False)\nsay('locked')\nheard()\nlock.release()\nsay('released')\nheard()\n", tmp_path)
    assert command.said() == "locked"
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            command.tell()
            assert command.said() == "released"

    acquire(tmp_path, stays=True, wait=wait).release()
    assert waits == [STEP] * 3


def test_patience_with_one_that_passes_has_an_end(tmp_path: Path, start: Start) -> None:
    command = start("lock = acquire(path, stays=False)\nsay('locked')\nheard()\n", tmp_path)
    assert command.said() == "locked"
    waits: list[float] = []
    with pytest.raises(LibraryBusy) as busy:
        acquire(tmp_path, stays=True, wait=waits.append)
    assert busy.value.pid == command.pid
    assert sum(waits) == pytest.approx(PATIENCE, abs=STEP)
    clock = iter((100.0, 100.5, 100.0 + PATIENCE))
    with pytest.raises(LibraryBusy):
        acquire(tmp_path, stays=True, wait=waits.append, now=clock.__next__)
    assert next(clock, None) is None


def test_without_a_way_to_wait_nobody_is_waited_for(tmp_path: Path, start: Start) -> None:
    command = start("lock = acquire(path, stays=False)\nsay('locked')\nheard()\n", tmp_path)
    assert command.said() == "locked"
    with pytest.raises(LibraryBusy):
        acquire(tmp_path, stays=True)


def test_a_second_opening_in_one_process_is_refused_with_its_own_pid(tmp_path: Path) -> None:
    folder = LibraryFolder.open(tmp_path / "library", stays=False)
    (tmp_path / "other name").symlink_to(tmp_path / "library")
    waits: list[float] = []
    for name in ("library", "other name"):
        with pytest.raises(LibraryBusy, match="this process") as busy:
            LibraryFolder.open(tmp_path / name, wait=waits.append)
        assert busy.value.pid == os.getpid()
    assert waits == []
    folder.writer.execute("INSERT INTO meta VALUES ('x', 1)")
    folder.close()


def test_a_torn_lock_file_is_no_obstacle(tmp_path: Path) -> None:
    for content in (b"", b"callboard 12", b"callboard 1 stays 0\n", os.urandom(200), b"callboard 99999999 stays 7\n"):
        (tmp_path / LOCK_FILE).write_bytes(content)
        assert read_holder(tmp_path) == (None, None)
        lock = acquire(tmp_path, stays=True)
        assert read_holder(tmp_path) == (os.getpid(), True)
        lock.release()


def test_a_holder_that_says_nothing_is_named_by_the_kernel(tmp_path: Path, start: Start) -> None:
    code = "import fcntl\nfile = open(path / 'library.lock', 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\nsay('locked')\nheard()\n"
    silent = start(code, tmp_path)
    assert silent.said() == "locked"
    with pytest.raises(LibraryBusy) as busy:
        acquire(tmp_path, stays=True)
    assert busy.value.pid == silent.pid


def test_the_lock_file_says_who_holds_it_and_how_long(tmp_path: Path) -> None:
    for stays in (True, False):
        lock = acquire(tmp_path, stays=stays)
        assert read_holder(tmp_path) == (os.getpid(), stays)
        status = (tmp_path / LOCK_FILE).stat()
        assert (status.st_mode & 0o777, status.st_size) == (0o600, WIDTH)
        lock.release()
        assert read_holder(tmp_path) == (None, None)


def test_a_lock_file_that_is_a_link_or_no_file_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lock = tmp_path / LOCK_FILE
    lays: tuple[Callable[[], None], ...] = (lambda: lock.symlink_to(victim), lambda: lock.hardlink_to(victim), lambda: os.mkfifo(lock))
    for lay in lays:
        lay()
        with pytest.raises(UnsafeLibrary):
            acquire(tmp_path, stays=True)
        lock.unlink()
    assert victim.read_text() == "precious"


def test_a_disk_that_does_not_let_the_lock_file_be_made_is_no_unsafe_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StoreUnavailable, match="No space left on device; mend that"):
        acquire(tmp_path, stays=True)


def test_a_lock_file_replaced_while_it_is_being_locked_is_locked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock
    replaced = 0

    def slow(fd: int, operation: int) -> None:
        nonlocal replaced
        if replaced < 2:
            replaced += 1
            (tmp_path / LOCK_FILE).unlink()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    lock = acquire(tmp_path, stays=True)
    assert (replaced, lock.in_place()) == (2, True)
    lock.release()


def test_behind_a_lock_file_that_was_removed_stands_sqlites_own_lock(tmp_path: Path, start: Start) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    assert folder.still_there()
    (folder.path / LOCK_FILE).unlink()
    assert not folder.still_there()
    intruder = start("try:\n    LibraryFolder.open(path)\nexcept LibraryBusy as error:\n    say(error.pid, error)\n", folder.path)
    said = intruder.said()
    assert said.startswith(f"{os.getpid()} process {os.getpid()} ") and "with SQLite" in said
    folder.close()


def test_a_released_lock_refuses_its_use_and_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lock = acquire(tmp_path, stays=True)
    lock.check_owner()
    lock.release()
    lock.release()
    assert not lock.held
    with pytest.raises(LibraryClosed):
        lock.check_owner()


def test_the_descriptor_is_not_inherited_by_programs(tmp_path: Path) -> None:
    lock = acquire(tmp_path, stays=True)
    fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    ours = [int(fd) for fd in fds if os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / LOCK_FILE)]
    assert len(ours) == 1
    assert fcntl.fcntl(ours[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    lock.release()


# --- forks --------------------------------------------------------------------------------------------------------------


def test_a_forked_child_cannot_use_the_library_and_leaves_it_to_its_parent(tmp_path: Path, start: Start) -> None:
    parent = start(
        """
folder = LibraryFolder.open(path)
reader = folder.reader()
folder.writer.execute("INSERT INTO meta VALUES ('before', 1)")
pid = os.fork()
if pid == 0:
    for use in (folder.check_owner, folder.lock.check_owner, folder.reader, folder.reopen):
        try:
            use()
        except LibraryClosed as error:
            assert "forked child" in str(error)
        else:
            os._exit(1)
    folder.close()
    folder.abandon()
    folder.lock.release()
    del folder, reader
    sys.exit(0)  # by the front door: apsw closes what connections it knows
say("child", os.waitpid(pid, 0)[1])
heard()
folder.writer.execute("INSERT INTO meta VALUES ('after', 2)")
assert folder.reader().execute("SELECT count(*) FROM meta WHERE key IN ('before', 'after')").fetchall() == [(2,)]
assert folder.still_there()
say("written")
heard()
""",
        tmp_path / "library",
    )
    assert parent.said() == "child 0"
    with pytest.raises(LibraryBusy) as busy:
        LibraryFolder.open(tmp_path / "library")
    assert busy.value.pid == parent.pid
    parent.tell()
    assert parent.said() == "written"
    parent.kill()
    folder = LibraryFolder.open(tmp_path / "library")
    assert folder.writer.execute("SELECT value FROM meta WHERE key IN ('before', 'after') ORDER BY key").fetchall() == [(2,), (1,)]
    folder.close()


def test_a_forked_child_that_lives_on_does_not_keep_a_dead_parents_library(tmp_path: Path, start: Start) -> None:
    parent = start(
        """
folder = LibraryFolder.open(path)
pid = os.fork()
if pid == 0:
    say("alive")
    heard()  # lives until the test is over
    os._exit(0)
say("forked")
os.waitpid(pid, 0)
""",
        tmp_path / "library",
    )
    assert {parent.said(), parent.said()} == {"alive", "forked"}
    with pytest.raises(LibraryBusy):
        LibraryFolder.open(tmp_path / "library")
    parent.kill()
    LibraryFolder.open(tmp_path / "library").close()


def test_a_forked_child_may_never_open_its_parents_library_but_a_new_process_may(tmp_path: Path, start: Start) -> None:
    """SQLite in the child's memory takes itself for the owner: it would write without a lock, by an index of the WAL that is stale."""
    parent = start(
        """
folder = LibraryFolder.open(path)
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    for word in ("while it is open", "closed"):
        try:
            LibraryFolder.open(path)
        except LibraryClosed as error:
            assert "forked child" in str(error)
        else:
            os._exit(1)
        os.write(write, b"x")
        heard()
    other = LibraryFolder.open(path.with_name("other"))  # one that was not open: nothing of it was inherited
    other.close()
    os._exit(0)
os.read(read, 1)
folder.close()
say("closed")
say(os.waitpid(pid, 0)[1])
""",
        tmp_path / "library",
    )
    assert parent.said() == "closed"
    LibraryFolder.open(tmp_path / "library").close()
    parent.tell()
    parent.tell()
    assert parent.said() == "0"


def test_forked_tells_a_child_from_its_parent(tmp_path: Path) -> None:
    lock = acquire(tmp_path, stays=True)
    assert not forked(lock)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if forked(lock) and not lock.held else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert lock.held
    lock.release()


# --- others that use SQLite directly ------------------------------------------------------------------------------------


def test_a_foreign_process_that_only_reads_is_named(tmp_path: Path, start: Start) -> None:
    LibraryFolder.open(tmp_path / "library").close()
    foreign = start(
        """
import sqlite3
connection = sqlite3.connect(path / "jobs.db")
say(connection.execute("SELECT count(*) FROM meta").fetchone()[0])
heard()
connection.close()
say("closed")
heard()
""",
        tmp_path / "library",
    )
    assert int(foreign.said()) >= 2
    with pytest.raises(LibraryBusy, match=rf"process {foreign.pid} \(python.*\) reads or writes '.*jobs.db' with SQLite") as busy:
        LibraryFolder.open(tmp_path / "library")
    assert busy.value.pid == foreign.pid
    assert foreign.pid in lock_holders(tmp_path / "library" / "jobs.db", "POSIX")
    foreign.tell()
    assert foreign.said() == "closed"
    LibraryFolder.open(tmp_path / "library").close()


FOREIGN = """
import sqlite3
connection = sqlite3.connect(f"file:{path}/jobs.db?mode=ro", uri=True, timeout=0)
try:
    connection.execute("SELECT count(*) FROM meta").fetchone()
    say("read it")
except sqlite3.OperationalError as error:
    say(error)
"""


def test_an_owner_keeps_foreign_sqlite_out(tmp_path: Path, start: Start) -> None:
    folder = LibraryFolder.open(tmp_path / "library")
    assert start(FOREIGN, folder.path).said() == "database is locked"
    folder.close()
    assert start(FOREIGN, folder.path).said() == "read it"
