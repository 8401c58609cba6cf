"""What is told: only what is true, all of it, in order, and no word of a defect."""

from __future__ import annotations

from collections.abc import Iterator

from case import Case, implied, reachable, short
from disk import Row, Rows
from observed import Closed, Died, Logged, Opened, Quiet, Told

from callboard.jobs.events import ENDS, BatchEnded, BatchSubmitted, Fact, JobQueued, JobStarted
from callboard.jobs.lifecycle import ENDED

OF_BATCHES = (BatchSubmitted, BatchEnded)


def facts_are_true(case: Case) -> Iterator[str]:
    """What a fact says is on disk when it arrives, or something that can have come of it."""
    claims: dict[bytes, int] = {}
    """Job → claims that are certainly on disk: those of the last snapshot, and those told since."""
    last: dict[bytes, Told] = {}
    for place, entry in case.of(Told, Died, Closed, Quiet):
        match entry:
            case Told(_, fact, row, seen) if not isinstance(fact, OF_BATCHES):
                if isinstance(fact, JobStarted):
                    claims[fact.job_id] = claims.get(fact.job_id, 0) + 1
                last[fact.job_id] = entry
                if seen:
                    yield from _true_of(case, place, fact, row, claims.get(fact.job_id, 0))
            case Died() | Closed() | Quiet():
                for job, told in last.items():
                    yield from _true_of(case, place, told.fact, entry.rows.get(job), claims.get(job, 0))
                if not isinstance(entry, Quiet):
                    last = {}
                    claims = {job: row.claim for job, row in entry.rows.items()}
            case _:
                pass


def _true_of(case: Case, place: int, fact: Fact, row: Row | None, claims: int) -> Iterator[str]:
    said = implied(fact)
    if row is None:
        yield f"{place}: {type(fact).__name__} of {short(fact.job_id)} was told, and the job is not on disk"
    elif row.claim < claims:
        yield f"{place}: {claims} claims of {short(fact.job_id)} were told, on disk are {row.claim}"
    elif said:
        asked = case.asked_before(fact.job_id, place)
        if not any(row.status in reachable(status, asked, row.claim > claims) for status in said):
            yield f"{place}: {type(fact).__name__} of {short(fact.job_id)} was told, and on disk it is {row.status} (claim {row.claim})"


def facts_have_no_gaps(case: Case) -> Iterator[str]:
    """The facts of an epoch are numbered from 1 without gaps, and those of one job follow each other as its life allows, and name its type."""
    epochs: dict[int, int] = {}
    known: dict[tuple[int, bytes], str] = {}
    for place, entry in case.of(Told):
        fact = entry.fact
        if fact.n != epochs.get(fact.epoch, 0) + 1:
            yield f"{place}: fact {fact.n} of epoch {fact.epoch} came behind fact {epochs.get(fact.epoch, 0)}"
        epochs[fact.epoch] = fact.n
        before, now = known.get((fact.epoch, fact.job_id), ""), type(fact).__name__
        if isinstance(fact, OF_BATCHES):
            continue
        if not fact.name:
            yield f"{place}: {now} of {short(fact.job_id)} was told without the name of its type"
        if isinstance(fact, JobStarted) and before in ("JobStarted", "JobPaused", "JobPausing", "JobCancelling", "JobQuarantined"):
            yield f"{place}: JobStarted of {short(fact.job_id)} came behind {before}"
        if isinstance(fact, JobQueued) and before:
            yield f"{place}: JobQueued of {short(fact.job_id)} came behind {before}"
        known[fact.epoch, fact.job_id] = now


def every_end_is_told(case: Case) -> Iterator[str]:
    """Of each job that ended while the library was open and somebody listened, one end was told."""
    ended_before: Rows = {}
    told: set[bytes] = set()
    for place, entry in case.of(Opened, Told, Quiet):
        match entry:
            case Opened():
                ended_before, told = {job: row for job, row in entry.rows.items() if row.status in ENDED}, set()
            case Told(_, fact) if isinstance(fact, ENDS):
                told.add(fact.job_id)
            case Quiet():
                for job, row in entry.rows.items():
                    if row.status in ENDED and job not in ended_before and job not in told:
                        yield f"{place}: {short(job)} is {row.status}, and nobody was told"
            case _:
                pass


def nothing_is_amiss(case: Case) -> Iterator[str]:
    """callboard logs no error."""
    for place, entry in case.of(Logged):
        yield f"{place}: {entry.text}"
