"""Who runs: one at a time, alone where it must be, nobody for ever in line, no task without its job."""

from __future__ import annotations

from collections.abc import Iterator

from case import Case, short
from observed import Aside, Back, Bred, Closed, Died, Entered, Left, Opened, Quiet, Saving, TaskEntered, TaskLeft, Told

from callboard.jobs.events import ENDS, JobPaused, JobQuarantined, JobRequeued, JobStarted
from callboard.jobs.lifecycle import Status

STOPS = (*ENDS, JobPaused, JobRequeued, JobQuarantined)
"""Facts that say: no code of the job runs."""


def one_runner(case: Case) -> Iterator[str]:
    """A job runs once at a time, no more jobs run than are allowed, each is claimed on disk before, and a suspect runs alone."""
    present: dict[bytes, Entered] = {}
    aside: set[bytes] = set()
    """Those who wait for children."""
    limits = {snapshot.life: snapshot.running_jobs for _, snapshot in case.snapshots if isinstance(snapshot, Opened)}
    for place, entry in case.of(Died, Left, Saving, Aside, Back, Entered):
        match entry:
            case Died():
                present = {job: each for job, each in present.items() if each.life != entry.life}
            case Left():
                present.pop(entry.job, None)
                aside.discard(entry.job)
            case Saving() | Aside():
                if entry.job in present:
                    present[entry.job] = present[entry.job]._replace(alone=False)
                if isinstance(entry, Aside):
                    aside.add(entry.job)
            case Back():
                aside.discard(entry.job)
                if others := [short(job) for job, each in present.items() if each.life == entry.life and each.alone and job != entry.job]:
                    yield f"{place}: {short(entry.job)} goes on beside {', '.join(others)}, which should be alone"
            case Entered():
                if entry.job in present:
                    yield f"{place}: {short(entry.job)} runs twice at once"
                if entry.row is None or not entry.row.status.claimed or entry.row.claim != entry.claim:
                    yield f"{place}: {short(entry.job)} runs by claim {entry.claim}; on disk: {entry.row}"
                beside = {job: each for job, each in present.items() if each.life == entry.life and job not in aside}
                if others := [short(job) for job, each in beside.items() if entry.alone or each.alone]:
                    yield f"{place}: {short(entry.job)} runs beside {', '.join(others)}, and one of them should be alone"
                # A map saves by itself, and that ends its being alone; when, is not seen from here.
                present[entry.job] = entry._replace(alone=entry.alone and entry.exact)
                running = len(present.keys() - aside)
                if running > limits.get(entry.life, running):  # who opened it may have died before he could say so
                    yield f"{place}: {running} jobs run at once, {limits[entry.life]} may"
            case _:
                pass


def nothing_is_stuck(case: Case) -> Iterator[str]:
    """When nothing can go on, no job is running, and none that this process knows waits to run."""
    bred = {entry.job: entry.ids for _, entry in case.of(Bred)}
    for place, snapshot in case.snapshots:
        if not isinstance(snapshot, Quiet):
            continue
        for row in snapshot.rows.values():
            waits = row.status in (Status.RUNNING, Status.AWAITING, Status.ENDING)
            if waits and any(child.parent == row.id and not child.status.ended for child in snapshot.rows.values()):
                continue  # for a child that is paused, or unknown
            if waits and any(child in snapshot.rows and not snapshot.rows[child].status.ended for child in bred.get(row.id, ())):
                continue  # for a job that stands for a child, as it has its key
            if row.status.claimed or (row.status is Status.QUEUED and row.name in snapshot.known) or waits:
                yield f"{place}: {short(row.id)} ({row.name}) is stuck: {row}"


def tasks_run_within_their_job(case: Case) -> Iterator[str]:
    """No task runs before its job does, and none of a run is left when that run is told to have ended."""
    inside: dict[bytes, Entered] = {}
    running: dict[bytes, dict[int, Entered]] = {}
    """Job → item → the run that it is of."""
    claims: dict[bytes, int] = {}
    for place, entry in case.of(Died, Closed, Entered, TaskEntered, TaskLeft, Told):
        match entry:
            case Died():
                inside = {job: run for job, run in inside.items() if run.life != entry.life}
                running = {job: {} for job in running}
                claims = {job: row.claim for job, row in entry.rows.items()}
            case Closed():
                claims = {job: row.claim for job, row in entry.rows.items()}
            case Entered():
                if running.get(entry.job):
                    yield f"{place}: {short(entry.job)} runs again, and tasks of its last run are not over: {sorted(running[entry.job])}"
                inside[entry.job] = entry
            case TaskEntered():
                run = inside.get(entry.job)
                if run is None:
                    yield f"{place}: task {entry.item} of {short(entry.job)} runs while the job does not"
                else:
                    running.setdefault(entry.job, {})[entry.item] = run
            case TaskLeft():
                running.get(entry.job, {}).pop(entry.item, None)
            case Told(_, fact):
                if isinstance(fact, JobStarted):
                    claims[fact.job_id] = claims.get(fact.job_id, 0) + 1
                elif isinstance(fact, STOPS):
                    # A fact takes its time: what a later claim has begun meanwhile is none of its business.
                    left = [item for item, run in running.get(fact.job_id, {}).items() if run.claim <= claims.get(fact.job_id, 0)]
                    if left:
                        yield f"{place}: {type(fact).__name__} of {short(fact.job_id)} was told while its tasks run: {sorted(left)}"
            case _:
                pass
