"""Random `kill -9`: a process that submits, batches, checkpoints, spawns, pauses and cancels is killed at any moment, also while it opens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from callboard.actors.door import Library
from callboard.actors.runtime import Runtime
from callboard.actors.testing.draining import drain
from callboard.actors.testing.torture.child import Child, Say
from callboard.actors.testing.torture.ledger import Ledger
from callboard.actors.testing.torture.tally import Tally
from callboard.actors.testing.torture.work import Family, Scene, Steps
from callboard.jobs.errors import NotAllowed
from callboard.jobs.events import Fact, FactsLost, JobCancelled, JobCompleted, JobFailed
from callboard.jobs.identity import id_text
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import JobRecord
from callboard.jobs.submission import Submission

LIVES_MOST = 20
OPERATIONS_MOST = 60
LIFE_SECONDS = 0.25
EARLY_SECONDS = 0.03
LAST_SECONDS = 120.0
NUMBERS_A_LIFE = 1_000
FACTS_MOST = 65_536


def kill_round(folder: Path, chance: Random, tally: Tally, until: float) -> None:
    """One library, some lives that are killed, and a last one that is not. `until`: no new life after this reading of the monotonic clock."""
    library = folder / "kills.library"
    (folder / "running").mkdir()
    ledger = Ledger(library, tally)
    for life in range(1, 1 + chance.randint(3, LIVES_MOST)):
        known = sorted(ledger.known)
        script = Random(chance.getrandbits(64))
        with Child(partial(_live, library, folder, life, known, script)) as child:
            early, share = life > 1 and chance.random() < 0.2, chance.random()
            if not early:
                child.wait_for("opened", LAST_SECONDS)
            child.listen(EARLY_SECONDS * share if early else LIFE_SECONDS * max(share, 0.5 if life == 1 else 0.0))
        tally.tried("G1", "kills")
        ledger.hear(child.lines, child.exit)
        if library.exists() and child.lines:
            ledger.check()
        if time.monotonic() >= until:
            break
    _last_life(library, folder, ledger, tally)


def _last_life(library: Path, folder: Path, ledger: Ledger, tally: Tally) -> None:
    """All that is paused is resumed, and everything is run to its end."""
    with Child(lambda say: _finish(library, Scene(folder, say))) as child:
        ended = child.listen(LAST_SECONDS)
    ledger.hear(child.lines, child.exit)
    if ended:
        ledger.check_quiet()
    else:
        tally.breach("G4", f"after the kills the jobs did not come to their ends within {LAST_SECONDS:g} s")


def _finish(path: Path, scene: Scene) -> None:
    with Runtime(workers=2) as runtime:
        library = runtime.open_library(path, services=scene, control=False)
        drain(library, LAST_SECONDS)
        for status in (Status.PAUSED, Status.QUARANTINED):
            while records := library.jobs(status=status).records:
                for record in records:
                    _resume(library, record, scene.say)
                drain(library, LAST_SECONDS)
        facts = library.facts_since(library.epoch, 0, FACTS_MOST)
        in_order = [fact.n for fact in facts if isinstance(fact, Fact)] == list(range(1, len(facts) + 1))
        scene.say(facts=len(facts), in_order=in_order and _followed(facts))


def _followed(facts: tuple[Fact | FactsLost, ...]) -> bool:
    """Nothing is told of a job behind its end, which is told once."""
    ended: set[bytes] = set()
    for fact in facts:
        if isinstance(fact, Fact) and fact.job_id in ended:
            return False
        if isinstance(fact, (JobCompleted, JobFailed, JobCancelled)):
            ended.add(fact.job_id)
    return True


def _resume(library: Library, record: JobRecord, say: Say) -> None:
    if record.requested_by is not None and record.parent is None:
        say(asks="resume", number=int(record.requested_by[1:]))
    with contextlib.suppress(NotAllowed):  # the end of another job may have moved it
        library.resume(record.id)


# --- the life of a process ----------------------------------------------------------------------------------------------------


def _live(path: Path, folder: Path, life: int, known: list[str], chance: Random, say: Say) -> None:
    scene = Scene(folder, say)
    runtime = Runtime(workers=2)
    began = time.monotonic()
    library = runtime.open_library(path, services=scene, running_jobs=chance.randint(1, 6), control=False)
    scene.say(opened=library.epoch, seconds=time.monotonic() - began)
    user = _User(library, scene.say, life * NUMBERS_A_LIFE, [bytes.fromhex(text) for text in known], chance)
    for _ in range(OPERATIONS_MOST):
        user.act()
    time.sleep(LAST_SECONDS)  # whoever made us kills us


class _User:
    """Somebody who does this and that."""

    def __init__(self, library: Library, say: Say, first: int, known: list[bytes], chance: Random) -> None:
        self._library, self._say, self._next, self._known, self._chance = library, say, first, known, chance

    def act(self) -> None:
        draw = self._chance.random()
        if draw < 0.5:
            self._submit()
        elif draw < 0.6:
            self._submit_family()
        elif draw < 0.7:
            self._send_batch()
        elif self._known:
            self._steer(self._chance.choice(("pause", "pause", "resume", "cancel")))

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _submit(self) -> None:
        number, steps = self._number(), self._chance.randint(0, 6)
        key = f"k{self._chance.randint(1, 5)}" if self._chance.random() < 0.3 else None
        self._send(number, steps, Steps(number, steps), key)

    def _submit_family(self) -> None:
        number, children = self._number(), self._chance.randint(0, 8)
        self._send(number, children * (children - 1) // 2, Family(number, children), None)

    def _send(self, number: int, result: int, job: Job, key: str | None) -> None:
        self._say(submits=number, result=result)
        handle = self._library.submit(Submission(job, key=key, requested_by=f"n{number}"))
        self._say(acked="submit", number=number, id=handle.id.hex())
        self._known.append(handle.id)

    def _send_batch(self) -> None:
        number, items = self._number(), self._chance.randint(1, 40)
        self._say(sends=number, items=items)
        jobs = [Submission(Steps(0 - number * 100 - item, 1), key=f"batch-{number}:{item}") for item in range(items)]
        outcome = self._library.submit_batch(jobs)
        if outcome.error is None:
            self._say(acked="batch", number=number)

    def _steer(self, verb: str) -> None:
        job_id = self._chance.choice(self._known)
        record = self._library.record(job_id)
        if record.requested_by is None:
            return
        number = int(record.requested_by[1:])
        command: Callable[[bytes], Status] = {"pause": self._library.pause, "resume": self._library.resume, "cancel": self._library.cancel}[verb]
        self._say(asks=verb, number=number, id=id_text(job_id))
        try:
            status = command(job_id)
        except NotAllowed:
            return
        self._say(acked=verb, number=number, status=str(status))
