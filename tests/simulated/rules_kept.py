"""What is on disk: what was acknowledged, what ended, what a checkpoint saved. Each rule says its promise and yields its breaches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from case import Case, implied, reachable, short
from disk import Row, Rows
from observed import (
    Acked,
    Asked,
    Closed,
    Counted,
    Delivered,
    Died,
    Entered,
    Entry,
    Got,
    ItemsDone,
    Left,
    Noted,
    Opened,
    Quiet,
    Saved,
    Saving,
    State,
    Stepped,
    TaskEntered,
    TaskLeft,
    Told,
    Waited,
)
from sent_batches import new_jobs

from callboard.jobs.events import ENDS, BatchEnded, BatchSubmitted, JobCompleted
from callboard.jobs.lifecycle import CLAIMED, ENDED, MAX_CRASHES, Status


def acknowledged_is_stored(case: Case) -> Iterator[str]:
    """An acknowledged submission, intent or checkpoint is on disk at that moment, and ever after."""
    known: dict[bytes, int] = {}
    saved: dict[bytes, int] = {}
    given: dict[int, bytes] = {}
    for place, entry in case.of(Asked, Got, Acked, Saved, Opened, Closed, Died, Quiet):
        match entry:
            case Asked(data=data) if data is not None:
                given[entry.number] = data
            case Got():
                known.update((job, place) for job in new_jobs(entry.items) if job not in known)
            case Acked():
                known.setdefault(entry.job, place)
                if not entry.seen:
                    continue
                if entry.row is None:
                    yield f"{place}: {entry.command} of {short(entry.job)} was acknowledged, and the job is not on disk"
                    continue
                asked = case.asked_before(entry.job, place)
                sent = given.get(entry.number)
                if sent is not None and entry.command == "submit" and entry.row.data != sent:
                    yield f"{place}: {short(entry.job)} was acknowledged, and its fields on disk are not those that were submitted"
                if entry.status is not None and entry.row.status not in reachable(entry.status, asked, True):
                    found = f"{entry.status}, and on disk it is {entry.row.status}"
                    yield f"{place}: {entry.command} of {short(entry.job)} was answered {found}"
            case Saved():
                saved[entry.job] = max(saved.get(entry.job, 0), entry.sequence)
            case Opened() | Closed() | Died() | Quiet():
                for job, since in known.items():
                    if job not in entry.rows:
                        yield f"{place}: {short(job)} was acknowledged at {since}, and is not on disk"
                for job, sequence in saved.items():
                    row = entry.rows.get(job)
                    if row is not None and row.sequence < sequence and row.status is not Status.COMPLETED:
                        yield f"{place}: checkpoint {sequence} of {short(job)} was acknowledged, on disk is {row.sequence}"
            case _:
                pass


def _rows(entry: Entry) -> Iterable[Row]:
    match entry:
        case Opened() | Closed() | Died() | Quiet():
            return entry.rows.values()
        case Got():
            return entry.rows.values()
        case Acked() | Told() | Entered():
            return () if entry.row is None else (entry.row,)
        case _:
            return ()


def an_end_is_final(case: Case) -> Iterator[str]:
    """A job ends once, in one status, with one result and one fact; its record never changes again and no code of it runs."""
    ends = _Ends()
    records: dict[bytes, Row] = {}
    facts: dict[bytes, int] = {}
    for place, entry in case.of(Opened, Closed, Died, Quiet, Got, Acked, Told, Entered, Waited, Stepped):
        for row in _rows(entry):
            if row.status in ENDED:
                known = records.setdefault(row.id, row)
                if known is row and row.id in ends.places:  # the very one, looked at before
                    continue
                if known != row:
                    yield f"{place}: the record of {short(row.id)} changed after its end: {records[row.id]} became {row}"
                yield from ends.again(place, row.id, frozenset((row.status,)), row.result)
            elif row.id in ends.places:
                yield f"{place}: {short(row.id)} had ended at {ends.places[row.id]}, and is {row.status}"
        match entry:
            case Told(_, fact) if not isinstance(fact, (BatchSubmitted, BatchEnded)):
                if fact.job_id in facts:
                    yield f"{place}: {short(fact.job_id)} was told to have ended at {facts[fact.job_id]}, then {type(fact).__name__}"
                if isinstance(fact, ENDS):
                    facts[fact.job_id] = place
                    yield from ends.again(place, fact.job_id, implied(fact), fact.result if isinstance(fact, JobCompleted) else None)
            case Waited():
                yield from ends.again(place, entry.job, entry.ends, entry.result)
            case Entered() | Stepped():
                if entry.job in ends.places:
                    yield f"{place}: {short(entry.job)} had ended at {ends.places[entry.job]}, and runs"
            case _:
                pass


class _Ends:
    """How each job ended, as it was first seen."""

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}
        self._ends: dict[bytes, tuple[frozenset[Status], object]] = {}

    def again(self, place: int, job: bytes, statuses: frozenset[Status], result: object) -> Iterator[str]:
        """An end is seen; `statuses`: it is one of these."""
        since = self.places.setdefault(job, place)
        before, first = self._ends.setdefault(job, (statuses, result))
        if not before & statuses:
            yield f"{place}: {short(job)} ended as {', '.join(before)} at {since}, and now as {', '.join(statuses)}"
        if first != result:
            yield f"{place}: the result of {short(job)} was {first!r:.60} at {since}, and now is {result!r:.60}"


def done_items_are_never_done_again(case: Case) -> Iterator[str]:
    """An item of a map that was saved as done is not run again, whatever happens; a retry runs what it was asked to run of it.

    Items of jobs without a map are never said to be done; of a retry of those, everything runs.
    """
    done: dict[bytes, set[int]] = {}
    failed: dict[bytes, set[int]] = {}
    mapped = {entry.job for _, entry in case.of(Counted)}
    for place, entry in case.of(ItemsDone, TaskLeft, TaskEntered):
        match entry:
            case ItemsDone():
                done.setdefault(entry.job, set()).update(entry.items)
            case TaskLeft(failed=True):
                failed.setdefault(entry.job, set()).add(entry.item)
            case TaskEntered():
                how, old = case.retries.get(entry.job, ("", b""))
                if entry.item in done.get(entry.job, ()):
                    yield f"{place}: item {entry.item} of {short(entry.job)} was done and saved, and runs again"
                elif how == "retry keep_done" and entry.item in done.get(old, set()) - failed.get(old, set()):
                    yield f"{place}: item {entry.item} of {short(entry.job)} was done and saved by {short(old)}, and runs again"
                elif how == "retry failed_only" and old in mapped and entry.item not in failed.get(old, ()):
                    yield f"{place}: item {entry.item} of {short(entry.job)} runs, which had not failed in {short(old)}"
            case _:
                pass


def a_note_is_kept(case: Case) -> Iterator[str]:
    """A task that runs again has what it last recorded, if that was acknowledged, or what it recorded after it."""
    notes: dict[tuple[bytes, int], int] = {}
    for place, entry in case.of(Noted, TaskEntered):
        match entry:
            case Noted():
                notes[entry.job, entry.item] = entry.value
            case TaskEntered() if entry.recorded < notes.get((entry.job, entry.item), 0):
                known = notes[entry.job, entry.item]
                yield f"{place}: item {entry.item} of {short(entry.job)} had recorded {known}, and is given {entry.recorded}"
            case _:
                pass


def the_ledger_fits_the_fields(case: Case) -> Iterator[str]:
    """What the ledger says of a map and what the fields say are of one checkpoint, always; a retry may begin with a ledger it was given."""
    ahead: dict[bytes, int] = {}
    for place, entry in case.of(Counted):
        given = ahead.setdefault(entry.job, entry.ledger - entry.fields if entry.job in case.retries else 0)
        if entry.ledger - entry.fields != given:
            yield f"{place}: the ledger of {short(entry.job)} has {entry.ledger} items done, the fields saved with it {entry.fields}"


def crashes_are_counted_right(case: Case) -> Iterator[str]:
    """Who died too often is set aside, and nobody else is; a close that was waited for is no crash of anybody."""
    closed: Rows | None = None
    for place, snapshot in case.snapshots:
        for row in snapshot.rows.values():
            if row.status is Status.QUARANTINED and row.crashes < MAX_CRASHES:
                yield f"{place}: {short(row.id)} is quarantined after {row.crashes} crashes"
            if row.crashes >= MAX_CRASHES and row.status in (Status.QUEUED, *CLAIMED):
                yield f"{place}: {short(row.id)} has crashed {row.crashes} times, and is {row.status}"
            before = None if closed is None or not isinstance(snapshot, Opened) else closed.get(row.id)
            if before is not None and row.crashes > before.crashes:
                yield f"{place}: {short(row.id)} was {before.status} when the library was closed, and is charged with a crash"
        closed = snapshot.rows if isinstance(snapshot, Closed) else None


def a_checkpoint_is_never_older(case: Case) -> Iterator[str]:
    """A run starts from the last acknowledged checkpoint or a later one that was asked for, whole."""
    openings = [place for place, snapshot in case.snapshots if isinstance(snapshot, Opened)]
    for job, entries in case.of_job.items():
        stored: list[State] = [(0, 0)]
        """The one that is certainly on disk, then those that may be."""
        left: tuple[int, int, State] | None = None
        highest = 0
        for place, entry in entries:
            match entry:
                case Saving():
                    stored.append(entry.state)
                case Saved():
                    stored = stored[_last(stored, entry.state) :]
                case Stepped() | Delivered():
                    highest = max(highest, entry.state[0])
                case Left():
                    left = (entry.life, place, entry.state) if entry.saves else None
                    if entry.saves:
                        stored.append(entry.state)
                case Entered():
                    if left is not None and left[0] == entry.life and not any(left[1] < at < place for at in openings):
                        stored = [left[2]]  # it was saved, or it would not run again; a close may have left the job as it was
                    fits = entry.state in stored if entry.exact else stored[0][0] <= entry.state[0] <= max(highest, stored[0][0])
                    if not fits:
                        should = f"on disk should be one of {stored}, its last step was {highest}"
                        yield f"{place}: {short(job)} starts from {entry.state}; {should}"
                    elif entry.state[1] != 3 * entry.state[0]:
                        yield f"{place}: {short(job)} starts from {entry.state}: half of one checkpoint and half of another"
                    stored, left = [entry.state], None
                case _:
                    pass


def _last(states: list[State], state: State) -> int:
    return max((place for place, each in enumerate(states) if each == state), default=0)
