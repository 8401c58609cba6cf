"""What users want of a job: a pause, a resume and a cancel are kept, whatever happens."""

from __future__ import annotations

import math
from collections.abc import Iterator

from case import Case, Command, short
from observed import Entered, Left, Quiet, Stepped

from callboard.jobs.lifecycle import ENDED, PAUSER_BITS, Pauser, Status

BY_USER = PAUSER_BITS[Pauser.USER]


def paused_stays_paused(case: Case) -> Iterator[str]:
    """After an acknowledged pause no step begins and nothing starts it again, over restarts too, until somebody resumes it."""
    for job in case.commands:
        resumes = case.of_kind(job, "resume")
        for pause in case.of_kind(job, "pause"):
            kept = pause.status in (Status.PAUSED, Status.PAUSING, Status.WAITING, Status.AWAITING)
            if not kept or any(each.touches(pause.asked, pause.ended) for each in resumes):
                continue
            until = min((each.asked for each in resumes if each.asked > pause.ended), default=math.inf)
            yield from _stands_still(case, pause, until, begun=pause.status is Status.PAUSING)
            for place, snapshot in case.snapshots:
                row = snapshot.rows.get(job) if pause.ended < place < until else None
                if row is None or row.status in (*ENDED, Status.CANCELLING, Status.QUARANTINED):
                    continue
                stands = row.status in (Status.PAUSED, Status.WAITING, Status.AWAITING, Status.ENDING) and row.pausers & BY_USER
                if not (stands or (row.status is Status.PAUSING and not case.opened_since(pause.life, place))):
                    yield f"{place}: {short(job)} was paused at {pause.ended}, nobody resumed it, and it is {row}"


def cancel_wins(case: Case) -> Iterator[str]:
    """After an acknowledged cancel no step begins, and the job ends: nothing leads back, neither a pause nor a resume nor a restart."""
    for job in case.commands:
        for cancel in case.of_kind(job, "cancel"):
            if cancel.status is None:
                continue
            yield from _stands_still(case, cancel, math.inf, begun=cancel.status is Status.CANCELLING)
            for place, snapshot in case.snapshots:
                row = snapshot.rows.get(job) if place > cancel.ended else None
                if row is None or row.status in ENDED or (row.status is Status.ENDING and not isinstance(snapshot, Quiet)):
                    continue
                if row.status is not Status.CANCELLING or isinstance(snapshot, Quiet) or case.opened_since(cancel.life, place):
                    yield f"{place}: {short(job)} was cancelled at {cancel.ended}, and is {row.status}"


def _stands_still(case: Case, command: Command, until: float, *, begun: bool) -> Iterator[str]:
    """`begun`: it may have been claimed, and enters `run` only to leave at its first look."""
    for place, entry in case.of_job.get(command.job, ()):
        if not command.ended < place < until:
            continue
        if isinstance(entry, Left):
            begun = False
        elif isinstance(entry, Stepped):
            if command.ended < entry.since:
                yield f"{place}: {command.kind} of {short(command.job)} was acknowledged at {command.ended}, and a step begins"
        elif isinstance(entry, Entered):
            if not begun or entry.life != command.life:
                yield f"{place}: {command.kind} of {short(command.job)} was acknowledged at {command.ended}, and it runs again"
            begun = False


def a_resume_is_kept(case: Case) -> Iterator[str]:
    """After an acknowledged resume no user keeps the job paused, over restarts too, until somebody pauses it."""
    for job in case.commands:
        pauses = case.of_kind(job, "pause")
        for resume in case.of_kind(job, "resume"):
            kept = resume.status in (Status.QUEUED, Status.RUNNING, Status.WAITING)
            if not kept or any(each.touches(resume.asked, resume.ended) for each in pauses):
                continue
            until = min((each.asked for each in pauses if each.asked > resume.ended), default=math.inf)
            for place, snapshot in case.snapshots:
                row = snapshot.rows.get(job) if resume.ended < place < until else None
                if row is not None and (row.pausers & BY_USER or (row.status is Status.PAUSING and row.parent is None)):
                    yield f"{place}: {short(job)} was resumed at {resume.ended}, nobody paused it, and it is {row}"
