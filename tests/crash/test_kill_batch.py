"""G3: a batch whose sender is killed in the middle: parts are whole, what was acknowledged is there, and sending it again completes it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from callboard import BatchSubmission, Job, JobContext, Runtime, Submission

CHILD = Path(__file__).with_name("batch_child.py")
PART = 2_500
BATCH = bytes(range(100, 116))


@dataclass
class Action(Job, name="batch_child.action"):
    n: int
    path: str

    def run(self, ctx: JobContext) -> None: ...


def items(count: int) -> Iterator[Submission]:
    return (Submission(Action(n, f"/some/where/{n}"), key=f"a{n}", group=f"g{n % 16}", delay=1e6) for n in range(count))


def send_and_kill(library: Path, count: int, after_parts: int, more_seconds: float) -> int:
    """Kill the sender so many parts after it began, and a little later. How many items it was told are stored."""
    command = [sys.executable, str(CHILD), str(library), str(count), BATCH.hex()]
    acknowledged = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        parts = 0
        for line in child.stdout:
            if line.startswith("stored"):
                acknowledged, parts = int(line.split()[1]), parts + 1
            if parts >= after_parts:
                break
        try:
            child.wait(more_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
        for line in child.stdout:
            if line.startswith("stored") and line.endswith("\n"):  # it may have been killed in the middle of a line
                acknowledged = int(line.split()[1])
    return acknowledged


def live(library: Path) -> int:
    """What is on disk, seen without callboard in a copy; the dead owner's WAL is read too."""
    with tempfile.TemporaryDirectory() as copy:
        for file in library.glob("jobs.db*"):
            shutil.copy(file, copy)
        connection = apsw.Connection(f"{copy}/jobs.db")
        found: int = connection.execute("SELECT count(*) FROM jobs").get
        connection.close()
        return found


def kill_until_done(folder: Path, count: int, kills: int, chance: random.Random) -> None:
    library = folder / "killed.library"
    stored = 0
    for _ in range(kills):
        acknowledged = send_and_kill(library, count, chance.randint(1, max(1, count // PART // 2)), chance.uniform(0.0, 0.05))
        before, stored = stored, live(library)
        assert stored >= max(acknowledged, before) and (stored % PART == 0 or stored == count), "a part that is not whole, or is lost"
    with Runtime(workers=1) as runtime:
        opened = runtime.open_library(library)
        ids = [record.id for record in opened.jobs(batch=BATCH, limit=100).records]
        outcome = opened.submit_batch(BatchSubmission(items(count), batch_id=BATCH))
        assert outcome.counts == {"submitted": count} and outcome.complete
        assert list(outcome.submitted[:100])[: len(ids)] == ids
        assert opened.statistics().live == {"queued": count}
        record = opened.batch(BATCH).record()
        assert (record.count, record.open, record.sealed) == (count, count, True)


@pytest.mark.parametrize("seed", range(2))
def test_G3_a_batch_killed_in_the_middle_is_completed_by_sending_it_again(tmp_path: Path, seed: int) -> None:
    kill_until_done(tmp_path, 50_000, 2, random.Random(seed))


@pytest.mark.long
def test_G3_fifty_kills_of_a_batch_of_half_a_million(tmp_path: Path) -> None:
    chance = random.Random(9)
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill_until_done(folder, 500_000, 5, chance)


def test_G3_the_job_on_complete_is_there_after_a_crash_right_after_the_last_end(tmp_path: Path) -> None:
    """The process that ends the last job is killed before anybody hears of it; the next one finds the job queued, once."""
    script = (
        "import os, sys\n"
        "from dataclasses import dataclass\n"
        "from callboard import Job, Runtime, BatchSubmission\n"
        "from callboard.persistence.store import Store\n"
        "@dataclass\n"
        "class Member(Job, name='on_complete.member'):\n"
        "    n: int = 0\n"
        "    def run(self, ctx): ...\n"
        "@dataclass\n"
        "class Last(Job, name='on_complete.last'):\n"
        "    def run(self, ctx): ...\n"
        "commit = Store.commit\n"
        "def die(self, writes):\n"
        "    answers = commit(self, writes)\n"
        "    if self._aftermath.over: os._exit(9)\n"
        "    return answers\n"
        "Store.commit = die\n"
        "with Runtime(workers=1) as runtime:\n"
        "    library = runtime.open_library(sys.argv[1], runs='own')\n"
        "    outcome = library.submit_batch(BatchSubmission([Member(n) for n in range(20)], on_complete=Last()))\n"
        "    library.batch(outcome.batch_id).wait(180)\n"
    )
    path = tmp_path / "last.library"
    child = subprocess.run([sys.executable, "-c", script, str(path)], timeout=200)
    assert child.returncode == 9

    @dataclass
    class Last(Job, name="on_complete.last"):
        def run(self, ctx: JobContext) -> str:
            return "ran"

    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path)
        [record] = [*library.jobs(name="on_complete.last").records, *library.history(name="on_complete.last").records]
        assert library.job(record.id).wait(100) == "ran"
        [batch] = library.batches()
        assert batch.completed_at is not None and batch.jobs == 20 and batch.open == 0 and batch.completed_by == record.id
