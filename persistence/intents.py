"""What users want of a job: pause, resume, cancel. Committed before it is acknowledged, so it survives everything."""

from __future__ import annotations

import apsw

from callboard.jobs.errors import NoSuchJob, NotAllowed
from callboard.jobs.identity import id_text
from callboard.jobs.lifecycle import SUSPECT_CRASHES, Event, Status, pausers, transition
from callboard.persistence.ending import finish
from callboard.persistence.writes import IntentSet, SetIntent

FIND = "SELECT name, status, pausers, resumable FROM jobs WHERE id = ?"
ENDED = "SELECT status FROM job_history WHERE id = ?"
SET = """
UPDATE jobs SET status = ?2, intent = ?3, pausers = ?4, queued_at = CASE WHEN ?2 = 'queued' AND status <> 'queued' THEN ?5 ELSE queued_at END,
  crashes = CASE WHEN ?6 THEN ?7 ELSE crashes END, alone = CASE WHEN ?6 THEN 1 ELSE alone END
WHERE id = ?1 AND status = ?8"""


def set_intent(con: apsw.Connection, write: SetIntent, now_ms: int) -> IntentSet | Exception:
    """Carry out one command; the answer says what the status was and is."""
    found = con.execute(FIND, (write.job_id,)).get
    if found is None:
        return _refusal(con, write)
    name, status, bits, resumable = found
    before = Status(status)
    if write.event is Event.PAUSE and before is Status.RUNNING and not resumable:
        return NotAllowed(f"job {id_text(write.job_id)} ({name}) is running and not resumable: it cannot be paused, only cancelled")
    after = transition(before, write.event)
    if write.event is Event.PAUSE:
        bits |= write.pauser
    elif write.event is Event.RESUME and before is not Status.CANCELLING:
        bits &= ~write.pauser
        if bits and after is not before:  # others keep it paused: the resume is noted, the status stays
            after = before
    if after.ended:
        finish(con, write.job_id, after, now_ms)
        return IntentSet(name, before, after)
    freed = before is Status.QUARANTINED and after is Status.QUEUED
    intent = "cancel" if after is Status.CANCELLING else "pause" if bits else "run"
    con.execute(SET, (write.job_id, str(after), intent, bits, now_ms, int(freed), SUSPECT_CRASHES, str(before)))
    if con.changes() != 1:
        raise AssertionError("the row that was read in this transaction is gone")
    return IntentSet(name, before, after, freed)


def _refusal(con: apsw.Connection, write: SetIntent) -> Exception:
    ended = con.execute(ENDED, (write.job_id,)).get
    if ended is None:
        return NoSuchJob(f"no job {id_text(write.job_id)} in this library")
    way_out = "; `retry` makes a new job of it" if write.event is Event.RESUME else ""
    return NotAllowed(f"job {id_text(write.job_id)} is {ended}: it has ended and cannot be {_PAST[write.event]}{way_out}")


_PAST = {Event.PAUSE: "paused", Event.RESUME: "resumed", Event.CANCEL: "cancelled"}


def held_by(bits: int) -> str:
    """Who keeps a job paused, for people."""
    return ", ".join(sorted(pausers(bits)))
