"""Rows 1 to 24: configuration, and what may lie where a library is to be opened."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand import PATIENCE, Gate, Play, at_work, change, closed, files_in, not_opened, proved_by

from callboard import Runtime, Status
from callboard.actors.ports import ThreadPorts
from callboard.jobs.errors import ConfigError, LibraryBusy, NewerSchema, NotAccepted, NotALibrary, StoreUnavailable, UnsafeLibrary
from callboard.persistence import folder as folder_module
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.migrate import MIGRATIONS
from callboard.persistence.place import APPLICATION_ID, DATABASE, WAL


def row_01_a_number_of_workers_that_is_none() -> None:
    before = threading.active_count()
    for option, most in (("workers", "1000"), ("running_jobs", "10000")):
        for value in (0, -1, 1.5, "8", True, 1_000_000):
            with pytest.raises(ConfigError, match=f"{option}={value!r} is not a whole number from 1 to {most}"):
                Runtime(**{option: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"lanes\['net'\]=nan is not a whole number from 1 to 1000"):
        Runtime(lanes={"net": float("nan")})  # type: ignore[dict-item]
    assert threading.active_count() == before


def row_02_an_option_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match=r"Runtime has no option wrokers=8; did you mean workers\?"):
        Runtime(wrokers=8)


ROW_03 = "groups have no time window yet; the times there are (delay, run_at, a retry's waits) refuse NaN, infinity and -1 in row 44"


def row_04_a_folder_whose_parent_is_missing(top: Path) -> None:
    with Runtime(workers=1) as runtime, pytest.raises(NotALibrary, match=r"no library '.*/no/such', nor the folder '.*/no' to make it in"):
        runtime.open_library(top / "no" / "such")
    assert list(top.iterdir()) == []


def row_05_what_is_no_folder_and_no_file(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Any:
        raise AssertionError("SQLite has seen it")

    monkeypatch.setattr(folder_module, "connect", never)
    lays: dict[str, Callable[[Path], object]] = {
        "folder": Path.mkdir, "fifo": os.mkfifo, "file": Path.touch, "socket": _lay_socket, "device": _lay_device,
    }  # fmt: skip
    for kind, lay in lays.items():
        with contextlib.suppress(PermissionError):  # a device is for root
            lay(top / kind)
            if kind != "folder":
                with pytest.raises(NotALibrary, match=f"/{kind}' is not a folder; a library is a folder with a jobs.db in it"):
                    LibraryFolder.open(top / kind)
            (top / f"with {kind}").mkdir()
            if kind != "file":
                lay(top / f"with {kind}" / DATABASE)
                not_opened(top / f"with {kind}", NotALibrary, "jobs.db' is no regular file")


def _lay_socket(path: Path) -> None:
    fd = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{fd}/{path.name}")  # a socket's path ends at 107 bytes
    os.close(fd)


def _lay_device(path: Path) -> None:
    os.mknod(path, 0o020600, os.makedev(1, 3))


def row_06_a_database_without_a_byte(top: Path) -> None:
    (top / DATABASE).touch()
    with Runtime(workers=1) as runtime:
        with pytest.raises(NotALibrary, match="jobs.db' is empty: no library was ever made here"):
            runtime.open_library(top, create=False)
        assert (top / DATABASE).stat().st_size == 0
        assert runtime.open_library(top).epoch == 1


def row_07_text_file_as_database(top: Path) -> None:
    for number, content in enumerate((b"dear diary\n" * 100, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(2_000), b"x")):
        (top / str(number)).mkdir()
        (top / str(number) / DATABASE).write_bytes(content)
        not_opened(top / str(number), NotALibrary, "jobs.db' is no SQLite database; it was not changed")
        assert (top / str(number) / DATABASE).read_bytes() == content


def row_08_the_database_of_another_application(top: Path) -> None:
    for number, application_id in enumerate((0, APPLICATION_ID - 1)):
        (top / str(number)).mkdir()
        connection = sqlite3.connect(top / str(number) / DATABASE)
        connection.executescript(f"PRAGMA application_id = {application_id}; CREATE TABLE jobs (id)")
        connection.close()
        not_opened(top / str(number), NotALibrary, "is the database of another application; it was not changed")


def row_09_a_schema_of_another_version(top: Path, caplog: pytest.LogCaptureFixture) -> None:
    newest = MIGRATIONS[-1].version
    LibraryFolder.open(top / "old", migrations=MIGRATIONS[:1]).close()
    with caplog.at_level(logging.WARNING, "callboard"), Runtime(workers=1) as runtime:
        assert runtime.open_library(top / "old").epoch == 2
    assert f"its schema becomes version {newest}, from 1" in caplog.text
    LibraryFolder.open(top / "old" / f"before-schema-{newest}", migrations=MIGRATIONS[:1]).close()
    library = closed(top)
    change(library, f"PRAGMA user_version = {newest + 1}")
    not_opened(library, NewerSchema, f"version {newest + 1}.*upgrade callboard")


def row_10_killed_within_a_migration() -> None:
    proved_by("crash/test_faulty_disk.py", "test_G12_at_whatever_change_the_disk_fails_or_the_process_dies_nothing_is_lost_and_nothing_was_a_lie")
    proved_by("crash/test_power_cut.py", "test_G1_whatever_a_power_cut_leaves_has_all_that_was_acknowledged")
    proved_by("persistence/test_migrate.py", "test_killed_within_a_migration_the_library_is_old_or_new")


def row_11_a_wal_that_is_gone(top: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = closed(top)
    LibraryFolder.open(library).abandon()
    (library / WAL).unlink()
    with caplog.at_level(logging.WARNING, "callboard"):
        folder = LibraryFolder.open(library)
    assert "it was not closed, and its jobs.db-wal is gone: the last writes may be lost" in caplog.text
    folder.close()


def row_12_the_wal_of_another_database(top: Path) -> None:
    """Its schema is none of ours, or the mark of its library is not that of the database."""
    library, wal = closed(top), top / "library" / WAL
    for name, says in (("schema", r"has additions \(table 'intruder'\)"), ("library", "belongs to another library than jobs.db")):
        other = LibraryFolder.open(top / f"other {name}")
        other.writer.execute("CREATE TABLE intruder (x)" if name == "schema" else "UPDATE meta SET value = 1 WHERE key = 'clean'")
        other.abandon()
        wal.write_bytes((other.path / WAL).read_bytes())
        not_opened(library, NotALibrary, says)
    wal.unlink()
    LibraryFolder.open(library).close()


def row_13_a_library_by_two_names(top: Path) -> None:
    library = closed(top)
    (top / "link").symlink_to(library)
    with Runtime(workers=1) as runtime:
        assert runtime.open_library(top / "link").path == library and (library / "library.lock").exists()
        with pytest.raises(LibraryBusy, match="is open in this runtime already; use that one"):
            runtime.open_library(library)
    (top / "other").mkdir()
    (top / "other" / DATABASE).symlink_to(library / DATABASE)
    not_opened(top / "other", UnsafeLibrary, r"is a symbolic link: .*Link the folder instead")


def row_14_a_database_with_two_names(top: Path) -> None:
    library = closed(top)
    (top / "second name").hardlink_to(library / DATABASE)
    not_opened(library, UnsafeLibrary, r"jobs.db' has 2 names \(hard links\), each with its own lock and WAL: copy it instead")


def row_15_a_network_file_system(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = closed(top)
    for kind in ("nfs4", "cifs", "9p", "fuse.sshfs"):
        monkeypatch.setattr("callboard.persistence.place.filesystem", lambda _, kind=kind: kind)
        not_opened(library, UnsafeLibrary, rf"file system \({kind}\).*move it to a local disk, or say allow_network_fs=True")
    with Runtime(workers=1) as runtime:
        runtime.open_library(library, allow_network_fs=True)


def row_16_a_folder_that_is_read_only() -> None:
    """`callboard doctor` can look at one; the other commands need the lock file, and say so."""
    proved_by("actors/test_degraded.py", "test_a_read_only_medium_is_refused_and_can_be_examined")
    proved_by("persistence/test_folder.py", "test_another_owners_library_and_a_read_only_folder_are_refused")


def row_17_a_second_opening_in_the_process(top: Path) -> None:
    with Runtime(workers=1) as runtime, Runtime(workers=1) as another:
        library = runtime.open_library(top / "library")
        for asked in (runtime, another):
            with pytest.raises(LibraryBusy, match="use that") as caught:
                asked.open_library(top / "library")
            assert caught.value.pid == os.getpid()
        assert library.epoch == 1 and library.statistics().live == {}


SECOND = """
import sys
from callboard import Runtime
from callboard.jobs.errors import LibraryBusy
with Runtime(workers=1) as runtime:
    try:
        runtime.open_library(sys.argv[1])
    except LibraryBusy as error:
        print(error.pid, error)
"""


def row_18_a_second_process(top: Path) -> None:
    with at_work(top) as library:
        done = subprocess.run([sys.executable, "-c", SECOND, str(library.path)], capture_output=True, text=True, timeout=PATIENCE)
        pid, _, text = done.stdout.partition(" ")
        assert pid == str(os.getpid()) and f"process {os.getpid()}" in text and "has it open" in text, done.stderr
        assert "waited" not in text  # it is told at once


def row_19_a_database_that_is_removed_while_it_is_open(top: Path) -> None:
    proved_by("actors/test_degraded.py", "test_G12_what_was_accepted_before_a_rename_is_there_after_it")
    gate = Gate()
    with at_work(top, options={"running_jobs": 1}, gate=gate) as library:
        library.submit(Play("gate"))
        gate.reached()  # there is no room for another one: the library claims nothing, so that nobody notices before the row does
        (library.path / DATABASE).rename(top / "elsewhere")
        with pytest.raises(NotAccepted, match="jobs.db or its -wal was removed or replaced while it was open"):
            library.submit(Play())
        with pytest.raises(StoreUnavailable, match="takes no more writes: .*; mend the disk and open it again"):
            library.submit(Play())
        gate.open()


def row_20_a_folder_that_all_may_write_to(top: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning; there is no option that makes it an error."""
    library = closed(top)
    library.chmod(0o777)
    with caplog.at_level(logging.WARNING, "callboard"):
        LibraryFolder.open(library).close()
    assert "its folder has mode 0777, so that others may replace its files; chmod 700 it" in caplog.text


class JumpingClock(ThreadPorts):
    """A wall clock that says another day each time it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self._days = [0.0, 1.0e9, 1.8e9, 1.8e9 - 86_400, 1.8e9 + 86_400]
        self._asked = 0
        self.wall = self._jump

    def _jump(self) -> float:
        self._asked += 1
        return self._days[self._asked % len(self._days)]


def row_21_a_clock_that_jumps(top: Path) -> None:
    with at_work(top, ports=JumpingClock()) as library:
        handles = [library.submit(Play()) for _ in range(20)]
        for handle in handles:
            handle.wait(PATIENCE)
        records = [handle.record() for handle in handles]
    assert [handle.id for handle in handles] == sorted(handle.id for handle in handles)
    assert all(0 <= record.running_seconds < PATIENCE for record in records)


STOPPED = """
import sys
from dataclasses import dataclass
from callboard import Job, Runtime
@dataclass
class Slow(Job, name="bad_input.slow"):
    def run(self, ctx):
        print("runs", flush=True)
        sys.stdin.readline()
        return ctx.attempt
with Runtime(workers=1) as runtime:
    print(runtime.open_library(sys.argv[1]).submit(Slow()).wait(60), flush=True)
"""


def row_22_a_process_that_is_stopped_and_goes_on(top: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(top / "library")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None and owner.stdout is not None
        assert owner.stdout.readline() == "runs\n"
        owner.send_signal(signal.SIGSTOP)
        with pytest.raises(LibraryBusy, match=f"process {owner.pid}"):  # nobody is judged dead by the clock, however long it takes
            LibraryFolder.open(top / "library")
        owner.send_signal(signal.SIGCONT)
        owner.stdin.write("\n")
        owner.stdin.flush()
        assert owner.stdout.read() == "1\n"
    with at_work(top) as library:
        [record] = library.history().records
        assert (record.status, record.attempt, record.crashes) == (Status.COMPLETED, 1, 0)


def row_23_a_forked_child() -> None:
    proved_by(
        "persistence/test_lock.py",
        "test_a_forked_child_cannot_use_the_library_and_leaves_it_to_its_parent",
        "test_a_forked_child_may_never_open_its_parents_library_but_a_new_process_may",
    )


def row_24_pythons_own_sqlite_on_an_open_library(top: Path) -> None:
    with at_work(top) as library:
        for way in (sqlite3.connect, open):
            with pytest.raises(PermissionError, match=r"belongs to the library '.*library', which is open.*library.backup\(path\) makes a copy"):
                way(library.path / DATABASE)  # type: ignore[operator]
        library.submit(Play()).wait(PATIENCE)
    assert DATABASE in files_in(top / "library")
