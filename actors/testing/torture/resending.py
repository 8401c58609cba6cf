"""A batch whose sender is killed and sends it again under its id, while its jobs run and end: each item is there once, whatever instant it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

from callboard.actors.door import Library
from callboard.actors.runtime import Runtime
from callboard.actors.testing.draining import drain
from callboard.actors.testing.torture.child import Child, Say
from callboard.actors.testing.torture.ledger import ENDED, LIVE
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Scene, Steps
from callboard.jobs.batch import BatchSubmission
from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import Submission
from callboard.persistence.folder import LibraryFolder

ITEMS_MOST = 400
ROWS_MOST = 40
KILLS_MOST = 6
LIFE_SECONDS = 0.08
PATIENCE = 120.0
LAST = "last"
"""Who asked for the job that is queued behind the batch."""


def resend_round(folder: Path, chance: Random, tally: Tally, _until: float) -> None:
    """One batch, sent by some processes that are killed and by two that are not."""
    (folder / "running").mkdir()
    library, batch_id = folder / "batch.library", chance.randbytes(16)
    items, rows = chance.randint(1, ITEMS_MOST), chance.randint(1, ROWS_MOST)
    send = partial(_send, library, folder, batch_id, items, rows)
    stored: dict[str, str] = {}
    for _ in range(chance.randint(1, KILLS_MOST)):
        with Child(send) as child:
            child.wait_for("sends", PATIENCE)
            child.listen(LIFE_SECONDS * chance.random())
        tally.tried("G3", "kills of a sender")
        stored = _look(library, stored, items, rows, tally)
        _failed(child, tally)
    for _ in range(2):
        with Child(send) as child:
            child.listen(PATIENCE)
        _failed(child, tally)
        tally.tried("G3", "batches sent again to their end")
        stored = _look(library, stored, items, rows, tally)
        if [line["ids"] for line in child.told("ids")] != [[stored.get(f"n{number}") for number in range(items)]]:
            tally.breach("G3", "sent again, the batch does not answer with the ids of the jobs that are stored")
        if LAST not in stored:
            tally.breach("G3", "the batch has ended, and the job behind it was not queued")


def _failed(child: Child, tally: Tally) -> None:
    for line in child.told("failed"):
        tally.breach("G3", f"the sender raised {line['failed']}")


def _send(path: Path, folder: Path, batch_id: bytes, items: int, rows: int, say: Say) -> None:
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path, services=Scene(folder, say), control=False, batch_rows=rows)
        say(sends=items)
        outcome = _sent(library, batch_id, items)
        drain(library, PATIENCE)
        for record in library.jobs(status=Status.QUARANTINED).records:
            library.resume(record.id)  # it happened to run at three of the kills
        drain(library, PATIENCE)
        say(ids=outcome)


def _sent(library: Library, batch_id: bytes, items: int) -> list[str]:
    jobs = [Submission(Steps(number, 0), requested_by=f"n{number}") for number in range(items)]  # no keys: only the batch knows what is stored
    last = Submission(Steps(items, 0), requested_by=LAST)
    outcome = library.submit_batch(BatchSubmission(jobs, batch_id=batch_id, on_complete=last))
    return [job_id.hex() for job_id in outcome.submitted]


def _look(path: Path, before: dict[str, str], items: int, rows: int, tally: Tally) -> dict[str, str]:
    """Who asked → id, of all that is stored."""
    if not path.exists():
        return {}
    folder = LibraryFolder.open(path, stays=False)
    try:
        reader = folder.reader()
        found = [(str(values[4]), values[0].hex()) for sql in (LIVE, ENDED) for values in reader.execute(sql)]
    finally:
        folder.abandon()
    stored = dict(found)
    tally.tried("G3", "items looked at", len(found))
    if len(stored) != len(found):
        tally.breach("G3", f"{len(found) - len(stored)} items are stored twice")
    if any(stored.get(name) != job_id for name, job_id in before.items()):
        tally.breach("G3", "items that were stored are gone, or have other ids")
    count = sum(name != LAST for name in stored)
    if count != items and count % rows:
        tally.breach("G3", f"{count} of {items} items are stored, in parts of {rows}")
    return stored
