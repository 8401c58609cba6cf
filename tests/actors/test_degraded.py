"""G12: a library whose disk fails it says so to everyone, acknowledges nothing more, and takes no other library with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pykka
import pytest

from callboard import Job, JobContext, Library, Runtime, Status, Submission
from callboard.actors import store
from callboard.jobs.errors import DiskFull, LibraryBusy, NotAccepted, StoreUnavailable
from callboard.jobs.events import LibraryDegraded
from callboard.persistence.folder import LibraryFolder

SECONDS = 100.0


@dataclass
class Simple(Job, name="test_degraded.simple"):
    n: int

    def run(self, ctx: JobContext) -> int:
        return self.n


class Listener(pykka.ThreadingActor):
    """Its `degraded` is set when it hears of it."""

    def __init__(self, degraded: pykka.Future[str]) -> None:
        super().__init__()
        self._degraded = degraded

    def on_receive(self, message: object) -> None:
        if isinstance(message, LibraryDegraded):
            self._degraded.set(message.error)


@contextmanager
def two(tmp_path: Path) -> Iterator[tuple[Library, Library, pykka.Future[str]]]:
    """A library that will fail, another one, and what a listener of the first hears of it."""
    with Runtime(workers=1) as runtime:
        degraded: pykka.Future[str] = pykka.ThreadingFuture()
        listener = Listener.start(degraded)
        library = runtime.open_library(tmp_path / "failing", control=False)
        library.subscribe(listener)
        try:
            yield library, runtime.open_library(tmp_path / "other", control=False), degraded
        finally:
            listener.stop()


def removed(library: Path) -> None:
    (library / "jobs.db").unlink()


def renamed(library: Path) -> None:
    library.rename(library.with_name("elsewhere"))


def replaced(library: Path) -> None:
    subprocess.run(["cp", library / "jobs.db", library / "copy"], check=True)  # from here it would end the owner's locks
    (library / "copy").rename(library / "jobs.db")


def replaced_by_nonsense(library: Path) -> None:
    (library / "copy").write_bytes(bytes(4_096))
    (library / "copy").rename(library / "jobs.db")


@pytest.mark.parametrize("vanish", [removed, renamed, replaced, replaced_by_nonsense])
def test_G12_a_database_that_is_gone_is_noticed_at_the_next_commit(tmp_path: Path, vanish: Callable[[Path], None]) -> None:
    with two(tmp_path) as (library, other, degraded):
        assert library.submit(Simple(1)).wait(SECONDS) == 1
        vanish(tmp_path / "failing")
        with pytest.raises((NotAccepted, StoreUnavailable), match="removed or replaced|takes no more writes"):  # who else writes may notice first
            library.submit(Simple(2))
        assert "takes no more writes" in degraded.get(timeout=SECONDS)
        with pytest.raises(StoreUnavailable, match="takes no more writes"):
            library.submit(Simple(3))
        assert "takes no more writes" in library.statistics().degraded
        assert library.statistics().live == {}
        with pytest.raises(StoreUnavailable, match="takes no more writes"):  # never out of the file that is there now
            library.jobs()
        assert other.submit(Simple(4)).wait(SECONDS) == 4 and other.statistics().degraded == ""


def test_G12_what_was_accepted_before_a_rename_is_there_after_it(tmp_path: Path) -> None:
    with two(tmp_path) as (library, _, degraded):
        ids = [library.submit(Submission(Simple(n), delay=1e6)).id for n in range(20)]
        renamed(tmp_path / "failing")
        with pytest.raises(NotAccepted):
            library.submit(Submission(Simple(99), delay=1e6))
        degraded.get(timeout=SECONDS)
    with Runtime(workers=1) as runtime:
        again = runtime.open_library(tmp_path / "elsewhere")
        assert [record.id for record in again.jobs(limit=100).records] == ids


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_G12_a_wal_that_is_gone_is_noticed_at_the_next_commit_and_what_it_held_is_saved(tmp_path: Path, replaced: bool) -> None:
    wal = tmp_path / "failing" / "jobs.db-wal"
    with two(tmp_path) as (library, _, degraded):
        ids = [library.submit(Submission(Simple(n), delay=1e6)).id for n in range(20)]
        wal.unlink()
        if replaced:
            wal.write_bytes(b"not a WAL" * 1_000)
        with pytest.raises((NotAccepted, StoreUnavailable), match="removed or replaced|takes no more writes"):
            library.submit(Submission(Simple(99), delay=1e6))
        degraded.get(timeout=SECONDS)
    with Runtime(workers=1) as runtime:
        again = runtime.open_library(tmp_path / "failing")
        assert [record.id for record in again.jobs(limit=100).records] == ids


OWNER = """
import sys
from callboard import Runtime
with Runtime(workers=1) as runtime:
    library = runtime.open_library(sys.argv[1])
    print("open", flush=True)
    for line in sys.stdin:
        print(library.statistics().live, flush=True)
"""


def test_a_stopped_owner_keeps_its_library_and_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "l")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None and owner.stdout is not None and owner.stdout.readline() == "open\n"
        owner.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, owner.pid, os.WSTOPPED | os.WNOWAIT)
        with Runtime(workers=1) as runtime:
            with pytest.raises(LibraryBusy) as refused:
                runtime.open_library(tmp_path / "l")
            assert refused.value.pid == owner.pid
            # Nor does a copied lock file let anyone in: the lock is on the file, not in it.
            shutil.copy(tmp_path / "l/library.lock", tmp_path / "copy.lock")
            with pytest.raises(LibraryBusy):
                runtime.open_library(tmp_path / "l")
        owner.send_signal(signal.SIGCONT)
        print("?", file=owner.stdin, flush=True)
        assert owner.stdout.readline() == "{}\n"
        owner.stdin.close()


READ_ONLY = """
import subprocess, sys
from pathlib import Path
from callboard import Runtime
from callboard.jobs.errors import CallboardError
from callboard.persistence.examination import examine
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
with Runtime(workers=1) as runtime:
    runtime.open_library(folder / "l").close()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        runtime.open_library(folder / "l")
    except CallboardError as error:
        print(type(error).__name__, error)
print(list(examine(folder / "l")))
"""


def test_a_read_only_medium_is_refused_and_can_be_examined(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace")
    done = subprocess.run(["unshare", "-rm", sys.executable, "-c", READ_ONLY, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    refused, found = done.stdout.splitlines()
    assert refused.startswith("UnsafeLibrary") and "read-only" in refused and found == "[]"


@dataclass
class Large(Job, name="test_degraded.large"):
    blob: bytes = b""

    def run(self, ctx: JobContext) -> str:
        self.blob = self.blob or bytes(200_000)
        ctx.checkpoint()
        return "went on" if ctx.resumed else "fitted"


def test_G13_a_checkpoint_that_does_not_fit_pauses_its_job_until_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_room, room = LibraryFolder.find_room, threading.Event()
    monkeypatch.setattr(store, "ROOM_SECONDS", 0.05)
    with two(tmp_path) as (library, other, _):
        assert library.submit(Simple(0)).wait(SECONDS) == 0  # by then it has looked for those of another life
        monkeypatch.setattr(LibraryFolder, "find_room", lambda folder: room.is_set() and find_room(folder))  # the disk itself has room
        writer = library._folder.writer
        writer.pragma("max_page_count", writer.pragma("page_count") + 8)  # no reserve helps here
        handle = library.submit(Large())
        while not library.statistics().disk_full:
            assert not handle.status.ended
        assert other.submit(Simple(1)).wait(SECONDS) == 1
        writer.pragma("max_page_count", 1_000_000)
        room.set()
        assert handle.wait(SECONDS) == "went on"
        assert not library.statistics().disk_full


@dataclass
class Slow(Job, name="test_degraded.slow"):
    """Is slow to see that it is to pause."""

    inside: ClassVar[threading.Event]
    go_on: ClassVar[threading.Event]

    def run(self, ctx: JobContext) -> str:
        self.inside.set()
        assert self.go_on.wait(SECONDS)
        ctx.check_interrupt()
        return "went on" if ctx.resumed else "never paused"


def test_G13_a_job_that_pauses_for_the_disk_when_there_has_been_room_for_long_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROOM_SECONDS", 0.05)
    Slow.inside, Slow.go_on = threading.Event(), threading.Event()
    with two(tmp_path) as (library, _, _):
        handle = library.submit(Slow())
        assert Slow.inside.wait(SECONDS)
        writer = library._folder.writer
        writer.pragma("max_page_count", writer.pragma("page_count") + 8)
        with pytest.raises(DiskFull):
            library.submit(Large(bytes(200_000)))
        writer.pragma("max_page_count", 1_000_000)
        while library.statistics().disk_full:
            assert handle.status is Status.RUNNING
        Slow.go_on.set()
        assert handle.wait(SECONDS) == "went on"
