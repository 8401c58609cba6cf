"""What users want of a job: pause, resume, cancel. Committed before it is acknowledged, so it survives everything."""

from __future__ import annotations

import apsw

from callboard.jobs.errors import NoSuchJob, NotAllowed
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import PAUSER_BITS, SUSPECT_CRASHES, Event, Pauser, Status, transition
from callboard.persistence.children import HELD_AT_END, Families, hold_unclaimed, with_live_children
from callboard.persistence.ending import finish
from callboard.persistence.writes import IntentSet, SetIntent

FIND = "SELECT CAST(name AS BLOB), status, pausers, resumable, alone, intent FROM jobs WHERE id = ?"
ENDED = "SELECT status FROM job_history WHERE id = ?"
SET = """
UPDATE jobs SET status = ?2, intent = ?3, pausers = ?4, queued_at = iif(?2 = 'queued' AND status <> 'queued', ?5, queued_at),
  waiting_ms = waiting_ms + iif(?2 <> 'queued' AND status = 'queued' AND run_at IS NULL, max(0, ?5 - queued_at), 0),
  crashes = iif(?6, ?7, crashes), alone = iif(?6, 1, alone), kept_back = iif(?6, 0, kept_back)
WHERE id = ?1 AND status = ?8"""


WANTED = "SELECT intent FROM jobs WHERE id = ?"
_EVENTS = {"pause": Event.PAUSE, "cancel": Event.CANCEL}


def wanted_of(con: apsw.Connection, job_id: bytes) -> Event | None:
    """What the job is asked for; None: to run."""
    return _EVENTS.get(con.execute(WANTED, (job_id,)).get)


def set_intent(con: apsw.Connection, write: SetIntent, now_ms: int, families: Families) -> IntentSet | Exception:
    """Carry out one command; the answer says what the status was and is. It goes down to the job's children."""
    found = con.execute(FIND, (write.job_id,)).get
    if found is None:
        return _refusal(con, write)
    raw_name, status, bits, resumable, alone, intent = found
    name, before = raw_name.decode("utf-8", "backslashreplace"), Status(status)
    if write.event is Event.PAUSE and before is Status.RUNNING and not resumable:
        return NotAllowed(f"job {id_text(write.job_id)} ({name}) is running and not resumable: it cannot be paused, only cancelled")
    if beaten_by_cancel(before, intent, write.event):
        return IntentSet(name, before, before)
    after, pausers = decide_intent(before, write.event, write.pauser, bits)
    is_parent = families.children and bool(with_live_children(con, [write.job_id]))
    if is_parent and after.ended:
        hold_unclaimed(con, [write.job_id], after, now_ms)
        families.held_unclaimed(1)
        return IntentSet(name, before, HELD_AT_END)
    if after.ended:
        finish(con, [write.job_id], after, now_ms)
        return IntentSet(name, before, after)
    freed = before is Status.QUARANTINED and after is not before
    if (after, pausers) != (before, bits):
        intent = "cancel" if after is Status.CANCELLING else "pause" if pausers else "run"
        con.execute(SET, (write.job_id, after, intent, pausers, now_ms, int(freed), SUSPECT_CRASHES, before))
        if con.changes() != 1:
            raise AssertionError("the row that was read in this transaction is gone")
    if is_parent:
        families.tell_children([write.job_id], told_to_children(after, pausers))
    return IntentSet(name, before, after, after is Status.QUEUED and bool(alone or freed))


def beaten_by_cancel(before: Status, intent: str, event: Event) -> bool:
    """Whether the command comes too late: the job is cancelled, as soon as its children have ended."""
    return before is Status.ENDING and intent == "cancel" and event is not Event.CANCEL


def told_to_children(after: Status, pausers: int) -> Event:
    """What a command to a parent means to its children. One that paused itself does not hold them."""
    if after is Status.CANCELLING:
        return Event.CANCEL
    return Event.PAUSE if pausers & ~PAUSER_BITS[Pauser.JOB] else Event.RESUME


def decide_intent(before: Status, event: Event, pauser: int, bits: int) -> tuple[Status, int]:
    """The status after the command, and who keeps the job paused then."""
    after = transition(before, event)
    if before is Status.CANCELLING:
        return after, bits  # cancel beats pause, and nothing leads back
    if event is Event.PAUSE:
        bits |= pauser
    elif event is Event.RESUME:
        bits &= ~pauser
        if before is Status.QUARANTINED and not pauser & PAUSER_BITS[Pauser.USER]:
            return before, bits  # only a person lets it out
        if bits:
            after = transition(after, Event.PAUSE)  # as far as he is concerned it goes on; the others still want it paused
    return after, bits


def _refusal(con: apsw.Connection, write: SetIntent) -> Exception:
    ended = con.execute(ENDED, (write.job_id,)).get
    if ended is None:
        return NoSuchJob(f"no job {id_text(write.job_id)} in this library")
    way_out = "; `retry` makes a new job of it" if write.event is Event.RESUME else ""
    return NotAllowed(f"job {id_text(write.job_id)} is {ended}: it has ended and cannot be {_PAST[write.event]}{way_out}")


_PAST = {Event.PAUSE: "paused", Event.RESUME: "resumed", Event.CANCEL: "cancelled"}
