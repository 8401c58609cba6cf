"""Keys: one job at a time has a key, one more may wait for it, and whoever takes a place has it only when it is free."""

from __future__ import annotations

from collections.abc import Iterator

from case import Case, short
from disk import Row
from observed import ClockSet, Died, Entered, Left, Told, Torn, Waited

from callboard.jobs.events import JobCancelled
from callboard.jobs.lifecycle import Status


def one_live_job_per_key(case: Case) -> Iterator[str]:
    """Of one name and key at most one job is live and one more waits for it; none is claimed before those before it have ended (as
    far as times tell)."""
    ordered = not case.of(ClockSet)
    for place, snapshot in case.snapshots:
        holders: dict[tuple[str, bytes, bool], Row] = {}
        claimed: dict[tuple[str, bytes], Row] = {}
        for row in snapshot.rows.values():
            if row.key is None:
                continue
            if not row.status.ended:
                other = holders.setdefault((row.name, row.key, row.status is Status.WAITING), row)
                if other is not row:
                    yield f"{place}: {short(other.id)} and {short(row.id)} of one key are {other.status} and {row.status} at once"
            if row.started_at is not None and ordered:
                before = claimed.get((row.name, row.key))
                if before is not None and (before.ended_at is None or before.ended_at > row.started_at):
                    yield f"{place}: {short(row.id)} was claimed before {short(before.id)} of its key had ended"
                claimed[row.name, row.key] = row


def a_key_runs_once_at_a_time(case: Case) -> Iterator[str]:
    """No job of a key enters `run` before the one before it has left: one that takes its place, or waits for it, least of all."""
    inside: dict[tuple[str, bytes], Entered] = {}
    for place, entry in case.of(Entered, Left, Died):
        match entry:
            case Entered() if entry.row is not None and entry.row.key is not None:
                key = entry.row.name, entry.row.key
                if key in inside and inside[key].job != entry.job:
                    yield f"{place}: {short(entry.job)} runs while {short(inside[key].job)} of its key has not left"
                inside[key] = entry
            case Left():
                inside = {key: each for key, each in inside.items() if each.job != entry.job}
            case Died():
                inside = {key: each for key, each in inside.items() if each.life != entry.life}
            case _:
                pass


def who_was_replaced_knows_by_whom(case: Case) -> Iterator[str]:
    """One that is superseded ends as cancelled and names the newer job of its key; facts and waiters are told the same, or its own end."""
    for place, snapshot in case.snapshots:
        for row in snapshot.rows.values():
            if row.superseded_by is None:
                continue
            by = snapshot.rows.get(row.superseded_by)
            if row.status not in (Status.CANCELLED, Status.CANCELLING, Status.ENDING):
                yield f"{place}: {short(row.id)} is {row.status}, and superseded"
            gave_its_key = any(each is not None and each.status is Status.ENDING and each.key is None for each in (row, by))
            # …as a successor does that has children; the history has it again.
            if by is None or by.name != row.name or (by.key != row.key and not gave_its_key) or by.id <= row.id:
                yield f"{place}: {short(row.id)} was superseded by {row.superseded_by.hex()}, which is {by}"
    for place, entry in case.of(Waited, Told):
        match entry:
            case Waited() if Status.CANCELLED in entry.ends:
                job, by_whom, what = entry.job, entry.by, "a waiter"
            case Told(_, JobCancelled() as fact):
                job, by_whom, what = fact.job_id, fact.superseded_by, "JobCancelled"
            case _:
                continue
        last = case.rows.get(job)
        if last is not None and last.status.ended and last.superseded_by != by_whom:
            yield f"{place}: {what} of {short(job)} names {by_whom!r}, and on disk is {last.superseded_by!r}"


def every_commit_is_whole(case: Case) -> Iterator[str]:
    """What a commit leaves does not contradict itself: keys and those who wait for them, batches and their chunks. See `commits.py`."""
    for place, entry in case.of(Torn):
        yield f"{place}: {entry.text}"
