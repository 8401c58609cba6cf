"""What is done to a library while its disk fails or its process dies: one class a story, each with `prepare`, `live` and `afterwards`.

A story tells all that callboard acknowledged (`acked`), refused (`refused`), or left open (`unknown`), and in `afterwards`, without any fault,
what is found (`found`) and how it goes on. What it tells is judged by `verdict.py`. Runs in the forked child of `io_child.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from story_jobs import Fails, Pictures, Steps, Warns

from callboard import BatchSubmission, Runtime, Submission
from callboard.actors import batching
from callboard.actors.door import Library
from callboard.actors.machine import Ports
from callboard.jobs.errors import (
    CallboardError,
    JobCancelled,
    JobFailed,
    LibraryClosed,
    NoAnswer,
    NotAccepted,
    NotALibrary,
    OutcomeUnknown,
    StoreUnavailable,
)
from callboard.jobs.files import copy as copy_module
from callboard.jobs.files import file_system
from callboard.jobs.files.copy import CopyFiles
from callboard.persistence import wal
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.jobdata import decode_result
from callboard.persistence.migrate import MIGRATIONS
from callboard.persistence.recovery import recover

LONG_AWAY = 1e6
"""Seconds: jobs that nobody is to run."""

PATIENCE = 60.0
"""Seconds: an end that cannot be stored is tried again for ever."""

ROOM_PAGES = 32
"""Of the WAL: small enough for a checkpoint or two in a story."""

BATCH = bytes(range(100, 116))

Tell = Callable[..., None]


class Story:
    """A library in `folder`, and what becomes of it."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        self.folder, self.path, self.tell = folder, folder / "it.library", tell
        wal.ROOM_PAGES, wal.PAGES_BEFORE_CHECKPOINT = ROOM_PAGES, ROOM_PAGES - 8

    patience = PATIENCE

    def prepare(self, ports: Ports | None) -> None:
        """The folder as the story finds it: by default a library with one job in it."""
        with self.runtime(ports) as runtime:
            self.submit(runtime.open_library(self.path), 100)

    def live(self, ports: Ports | None) -> None:
        """The story. Faults come in here."""
        with self.runtime(ports) as runtime:
            library = self.open(runtime)
            if library is not None:
                self.act(library)

    def act(self, library: Library) -> None:
        """What is done in the open library."""
        raise NotImplementedError

    def afterwards(self, ports: Ports | None) -> None:
        """With a sound disk: what is stored, and how it goes on to its end."""
        self.look()
        self.patience = 10 * PATIENCE
        with self.runtime(ports) as runtime:
            self.finish(runtime.open_library(self.path, services=self.tell, control=False))

    def finish(self, library: Library) -> None:
        """Let go on what can."""
        for record in library.jobs().records:
            if record.run_at is None and record.status in ("queued", "running"):
                self.wait(library, record.id, record.requested_by)

    # --- steps of stories -------------------------------------------------------------------------------------------

    def runtime(self, ports: Ports | None) -> Runtime:
        return Runtime(workers=2, running_jobs=2, ports=ports)

    def open(self, runtime: Runtime) -> Library | None:
        try:
            library = runtime.open_library(self.path, services=self.tell, running_jobs=2, control=False, batch_rows=3)
        except StoreUnavailable as error:
            self.tell(not_opened=str(error))
            return None
        self.tell(opened=library.epoch)
        return library

    def attempt(self, what: str, number: int, call: Callable[[], bytes | None]) -> bool:
        """Tell how it was answered, under a name and a number. True if it was acknowledged."""
        try:
            token = call()
        except OutcomeUnknown as error:
            self.tell(unknown=what, number=number, token=error.token.hex())
        except (NoAnswer, LibraryClosed) as error:
            self.tell(unknown=what, number=number, token="", why=repr(error))
        except (NotAccepted, StoreUnavailable) as error:
            self.tell(refused=what, number=number, why=repr(error))
        else:
            self.tell(acked=what, number=number, id=token.hex() if token else "")
            return True
        return False

    def submit(self, library: Library, number: int, job: Any = None, **how: Any) -> bytes | None:
        """The id of the job, if it was acknowledged."""
        ids: list[bytes] = []

        def call() -> bytes:
            how.setdefault("delay", LONG_AWAY)
            ids.append(library.submit(Submission(job or Steps(number), requested_by=f"n{number}", **how)).id)
            return ids[0]

        self.attempt("submit", number, call)
        return ids[0] if ids else None

    def wait(self, library: Library, job: bytes, name: str | None) -> None:
        end, result = "", None
        try:
            result = library.job(job).wait(self.patience)
            end = str(library.record(job).status)
        except JobFailed:
            end = "failed"
        except JobCancelled:
            end = "cancelled"
        except CallboardError as error:
            self.tell(no_end=name, why=repr(error))
            return
        self.tell(ended=name, end=end, result=result)

    def look(self) -> None:
        """Tell all jobs there are, after a recovery, and whether the database is whole."""
        try:
            folder = LibraryFolder.open(self.path, create=False, recover=lambda con, _epoch, clean: recover(con, 1_800_000_000_000, clean) and None)
        except NotALibrary:
            if (self.path / "jobs.db").exists():
                raise
            self.tell(nothing=True)
            return
        try:
            self.tell(integrity=folder.writer.execute("PRAGMA integrity_check").get)
            for job, name, status, claim in folder.writer.execute("SELECT id, requested_by, status, claim FROM jobs"):
                self.tell(found=name, id=job.hex(), status=status, claim=claim)
            ended = "SELECT id, requested_by, status, claim, result FROM job_history"
            for job, name, status, claim, result in folder.writer.execute(ended):
                self.tell(found=name, id=job.hex(), status=status, claim=claim, result=decode_result(result))
        finally:
            folder.abandon()


class Making(Story):
    """A library is made where there was none."""

    def prepare(self, ports: Ports | None) -> None:
        pass

    def act(self, library: Library) -> None:
        self.submit(library, 0)


class Submitting(Story):
    """Jobs, one after another; some of them steered."""

    def act(self, library: Library) -> None:
        for number in range(5):
            job = self.submit(library, number)
            if job is None:
                continue
            if number in (1, 2):
                self.attempt("pause", number, lambda job=job: library.pause(job) and None)  # type: ignore[misc]
            if number == 2:
                self.attempt("resume", number, lambda job=job: library.resume(job) and None)  # type: ignore[misc]
            if number == 3:
                self.attempt("cancel", number, lambda job=job: library.cancel(job) and None)  # type: ignore[misc]


class Batch(Story):
    """Nine items in parts of three."""

    def act(self, library: Library) -> None:
        add = batching.Account.add
        story = self

        def telling(self: batching.Account, chunk: Any, stored: Any) -> None:
            add(self, chunk, stored)
            if not isinstance(stored, Exception):
                story.tell(acked="part", number=self.end, id="")

        batching.Account.add = telling  # type: ignore[method-assign]
        try:
            outcome = library.submit_batch(self.batch())
        except CallboardError as error:
            self.tell(batch=0, why=repr(error))
        else:
            self.tell(batch=outcome.counts.get("submitted", 0), why=repr(outcome.error), whole=outcome.complete)
        finally:
            batching.Account.add = add  # type: ignore[method-assign]

    def batch(self) -> BatchSubmission:
        items = [Submission(Steps(number), requested_by=f"n{number}", delay=LONG_AWAY) for number in range(9)]
        return BatchSubmission(items, batch_id=BATCH, on_complete=Steps(99))

    def finish(self, library: Library) -> None:
        before = {record.requested_by: record.id for record in library.jobs(batch=BATCH).records}
        outcome = library.submit_batch(self.batch())
        after = {record.requested_by: record.id for record in library.jobs(batch=BATCH).records}
        self.tell(again=outcome.complete, same=before.items() <= after.items(), count=len(after))


class Checkpointing(Story):
    """A job that saves its state at each step, beside another one."""

    def act(self, library: Library) -> None:
        jobs = [(number, self.submit(library, number, Steps(number, 4), delay=None)) for number in range(2)]
        for number, job in jobs:
            if job is not None:
                self.wait(library, job, f"n{number}")


class Claiming(Story):
    """Jobs of an earlier life are claimed, and left in the middle as the library is closed."""

    def prepare(self, ports: Ports | None) -> None:
        with self.runtime(ports) as runtime:
            library = runtime.open_library(self.path)
            for number in range(4):
                self.submit(library, number, Steps(number, 3, nap=20.0), delay=1.0)

    def act(self, library: Library) -> None:
        library.ports.sleep(35.0)

    def finish(self, library: Library) -> None:
        for record in library.jobs().records:
            self.wait(library, record.id, record.requested_by)


class Ending(Story):
    """Jobs that end in every way, and are waited for."""

    def act(self, library: Library) -> None:
        kinds = [Steps(0, 0), Fails(1), Warns(2), Steps(3, 1), Pictures(4, 5)]
        jobs = [(number, self.submit(library, number, job, delay=None)) for number, job in enumerate(kinds)]
        for number, job in jobs:
            if job is not None:
                self.wait(library, job, f"n{number}")


class Migrating(Story):
    """A library of schema version 1 is opened."""

    def prepare(self, ports: Ports | None) -> None:
        with self.runtime(ports) as runtime:
            library = runtime.open_library(self.folder / "new.library")
            for number in range(5):
                self.submit(library, number)
        new = LibraryFolder.open(self.folder / "new.library")
        old = LibraryFolder.open(self.path, migrations=MIGRATIONS[:1])
        columns = ", ".join(str(name) for _, name, *_ in old.writer.execute("PRAGMA table_info(jobs)").fetchall())
        for row in new.writer.execute(f"SELECT {columns} FROM jobs").fetchall():
            old.writer.execute(f"INSERT INTO jobs ({columns}) VALUES ({', '.join('?' * len(row))})", row)
        old.close()
        new.close()
        shutil.rmtree(self.folder / "new.library")

    def act(self, library: Library) -> None:
        self.submit(library, 5)

    def afterwards(self, ports: Ports | None) -> None:
        super().afterwards(ports)
        kept = LibraryFolder.open(self.path / "before-schema-2", create=False, migrations=MIGRATIONS[:1])
        self.tell(kept=kept.writer.execute("SELECT count(*) FROM jobs").get, kept_integrity=kept.writer.execute("PRAGMA integrity_check").get)
        kept.close()


class BackingUp(Story):
    """A new backup, and one in the place of an older one."""

    def prepare(self, ports: Ports | None) -> None:
        with self.runtime(ports) as runtime:
            library = runtime.open_library(self.path)
            self.submit(library, 100)
            library.backup(self.folder / "old.backup")
            self.submit(library, 101)

    def act(self, library: Library) -> None:
        self.attempt("backup", 2, lambda: library.backup(self.folder / "new.backup") and None)
        self.submit(library, 102)
        self.attempt("replace", 3, lambda: library.backup(self.folder / "old.backup", replace=True) and None)

    def afterwards(self, ports: Ports | None) -> None:
        for name in ("new.backup", "old.backup", ".old.backup.replaced"):
            if (self.folder / name / "jobs.db").exists():
                self.tell(backup=name, **self._in(self.folder / name))
        super().afterwards(ports)

    def _in(self, path: Path) -> dict[str, Any]:
        folder = LibraryFolder.open(path, create=False)
        try:
            whole = folder.writer.execute("PRAGMA integrity_check").get
            return {"jobs": folder.writer.execute("SELECT count(*) FROM jobs").get, "integrity": whole}
        finally:
            folder.close()

    def finish(self, library: Library) -> None:
        for name in ("new.backup", "old.backup"):
            library.backup(self.folder / name, replace=True)
            self.tell(made_again=name, **self._in(self.folder / name))


class Copying(Story):
    """A small tree is copied over an older, partial copy; files up to 5,000 bytes share their syncs."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        super().__init__(folder, tell)
        copy_module.SMALL_BYTES = copy_module.MIDDLING_BYTES = 5_000
        options = copy_module.CopyOptions
        copy_module.CopyOptions = lambda **how: options(piece_bytes=4_096, sync_bytes=8_192, **how)  # type: ignore[assignment,misc]
        file_system._SYNCED_AT_ONCE = self.synced_at_once()
        self.source, self.target = folder / "source", folder / "copy" / "source"

    def synced_at_once(self) -> frozenset[str]:
        return frozenset(("ext4", "xfs", "tmpfs"))

    def prepare(self, ports: Ports | None) -> None:
        for number, (name, size) in enumerate(
            {"a": 17, "d/b": 3_000, "d/e/c": 0, "d/e/big": 20_000, "d/x": 700, "old": 5_100, "d/young": 40}.items()
        ):
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes((number * 31 + at) % 251 for at in range(size)))
            os.utime(path, ns=(1_700_000_000_000_000_000 + number, 1_600_000_000_123_456_789 + number))
        (self.source / "d" / "link").symlink_to("e/big")
        (self.source / "d" / "x").chmod(0o640)
        (self.source / "empty").mkdir()
        (self.target / "d").mkdir(parents=True)
        (self.target / "old").write_bytes(b"what it was before" * 10)
        (self.target / "d" / "young").write_bytes(b"old")
        with self.runtime(ports) as runtime:
            runtime.open_library(self.path)

    def act(self, library: Library) -> None:
        job = self.submit(library, 0, CopyFiles((self.source,), self.target.parent), delay=None)
        if job is not None:
            self.wait(library, job, "n0")

    def finish(self, library: Library) -> None:
        for record in library.jobs().records:
            if record.status == "paused":
                library.resume(record.id)
            self.wait(library, record.id, record.requested_by)


class CopyingAlone(Copying):
    """The same where each file and folder must be synced by itself."""

    def synced_at_once(self) -> frozenset[str]:
        return frozenset()


STORIES: dict[str, type[Story]] = {
    "making": Making,
    "submit": Submitting,
    "batch": Batch,
    "checkpoint": Checkpointing,
    "claim": Claiming,
    "end": Ending,
    "migration": Migrating,
    "backup": BackingUp,
    "copy": Copying,
    "copy alone": CopyingAlone,
}
