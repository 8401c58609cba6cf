"""What must be true of every history, on threads and simulated ones alike: functions from what was observed to what was broken.

Each says its rule in its docstring and yields one line for each breach. A rule that is not written here is not tested.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from callboard.actors.testing.observed import (
    Acked,
    Asked,
    Closed,
    Counted,
    Delivered,
    Died,
    Entered,
    Entry,
    ItemsDone,
    Left,
    Logged,
    Opened,
    Quiet,
    Refused,
    Row,
    Rows,
    Saved,
    Saving,
    State,
    Stepped,
    TaskEntered,
    TaskLeft,
    Told,
    Waited,
)  # fmt: skip
from callboard.jobs.events import (
    ENDS,
    Fact,
    JobCancelled,
    JobCancelling,
    JobCompleted,
    JobFailed,
    JobPaused,
    JobPausing,
    JobQuarantined,
    JobQueued,
    JobRequeued,
    JobResumed,
    JobStarted,
)  # fmt: skip
from callboard.jobs.lifecycle import CLAIMED, ENDED, MAX_CRASHES, PAUSER_BITS, TRANSITIONS, Event, Pauser, Status

Snapshot = Opened | Closed | Died | Quiet
STOPS = (*ENDS, JobPaused, JobRequeued, JobQuarantined)
"""Facts that say: no code of the job runs."""
BY_USER = PAUSER_BITS[Pauser.USER]


@dataclass(frozen=True, slots=True)
class Command:
    """A command and what came of it. Places are indexes in the log."""

    kind: str
    job: bytes
    life: int
    asked: int
    ended: float
    """Its answer; the end of its life where there was none: until then it may have been carried out."""
    status: Status | None
    """What it was answered with; None: nothing, or an error."""

    def touches(self, start: float, end: float) -> bool:
        """Whether it may have been carried out between two places."""
        return self.asked <= end and self.ended >= start


class Case:
    """A log, sorted by what the rules ask for."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)
        self.of_job: dict[bytes, list[tuple[int, Entry]]] = {}
        self.snapshots: list[tuple[int, Snapshot]] = []
        self.commands: dict[bytes, list[Command]] = {}
        self.deaths: dict[int, int] = {}
        self.retries: dict[bytes, tuple[str, bytes]] = {}
        """Job → how it was made of another one, as far as that was acknowledged, and which."""
        asked: dict[int, tuple[int, Asked]] = {}
        for place, entry in enumerate(self.entries):
            match entry:
                case Opened() | Closed() | Quiet():
                    self.snapshots.append((place, entry))
                    self._note_retries(entry.rows)
                case Died():
                    self._note_retries(entry.rows)
                    self.snapshots.append((place, entry))
                    self.deaths[entry.life] = place
                case Asked():
                    asked[entry.number] = (place, entry)
                case Acked():
                    self._answered(asked.pop(entry.number), place, entry.job, entry.status)
                    if entry.row is not None and entry.row.retry_of is not None and entry.command.startswith("retry"):
                        self.retries[entry.job] = (entry.command, entry.row.retry_of)
                case Refused() if not entry.unknown:
                    asked.pop(entry.number)
                case Told():
                    self.of_job.setdefault(entry.fact.job_id, []).append((place, entry))
                case Entered() | Stepped() | Delivered() | Saving() | Saved() | Left() | TaskEntered() | TaskLeft() | ItemsDone() | Waited():
                    self.of_job.setdefault(entry.job, []).append((place, entry))
                case _:
                    pass
        for question in asked.values():
            self._answered(question, self.deaths.get(question[1].life, math.inf), question[1].job, None)

    def _note_retries(self, rows: Rows) -> None:
        for row in rows.values():
            if row.retry_of is not None:
                self.retries.setdefault(row.id, ("retry", row.retry_of))

    def _answered(self, question: tuple[int, Asked], end: float, job: bytes, status: Status | None) -> None:
        place, entry = question
        self.commands.setdefault(job, []).append(Command(entry.command, job, entry.life, place, end, status))

    def of_kind(self, job: bytes, kind: str) -> list[Command]:
        return [command for command in self.commands.get(job, ()) if command.kind == kind]

    def asked_before(self, job: bytes, place: float) -> frozenset[str]:
        """What was asked of a job up to a place."""
        return frozenset(command.kind for command in self.commands.get(job, ()) if command.asked <= place)


def short(job: bytes) -> str:
    """A job, for people: the end of its id, which differs."""
    return job.hex()[-8:]


# --- what is on disk --------------------------------------------------------------------------------------------------


def acknowledged_is_stored(case: Case) -> Iterator[str]:
    """An acknowledged submission, intent or checkpoint is on disk at that moment, and ever after."""
    known: dict[bytes, int] = {}
    saved: dict[bytes, int] = {}
    for place, entry in enumerate(case.entries):
        match entry:
            case Acked():
                known.setdefault(entry.job, place)
                if not entry.seen:
                    continue
                if entry.row is None:
                    yield f"{place}: {entry.command} of {short(entry.job)} was acknowledged, and the job is not on disk"
                elif entry.status is not None and entry.row.status not in reachable(entry.status, case.asked_before(entry.job, place), True):
                    yield f"{place}: {entry.command} of {short(entry.job)} was answered {entry.status}, and on disk it is {entry.row.status}"
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
        case Acked() | Told() | Entered():
            return () if entry.row is None else (entry.row,)
        case _:
            return ()


def an_end_is_final(case: Case) -> Iterator[str]:
    """A job ends once, in one status, with one result and one fact; its record never changes again and no code of it runs."""
    ends: dict[bytes, tuple[frozenset[Status], int]] = {}
    results: dict[bytes, object] = {}
    records: dict[bytes, Row] = {}
    facts: dict[bytes, int] = {}
    for place, entry in enumerate(case.entries):
        for row in _rows(entry):
            if row.status in ENDED:
                if records.setdefault(row.id, row) != row:
                    yield f"{place}: the record of {short(row.id)} changed after its end: {records[row.id]} became {row}"
                yield from _same_end(ends, results, place, row.id, frozenset((row.status,)), row.result)
            elif row.id in ends:
                yield f"{place}: {short(row.id)} had ended at {ends[row.id][1]}, and is {row.status}"
        match entry:
            case Told(_, fact):
                if fact.job_id in facts:
                    yield f"{place}: {short(fact.job_id)} was told to have ended at {facts[fact.job_id]}, then {type(fact).__name__}"
                if isinstance(fact, ENDS):
                    facts[fact.job_id] = place
                    result = fact.result if isinstance(fact, JobCompleted) else None
                    yield from _same_end(ends, results, place, fact.job_id, _implied(fact), result)
            case Waited():
                yield from _same_end(ends, results, place, entry.job, entry.ends, entry.result)
            case Entered() | Stepped():
                if entry.job in ends:
                    yield f"{place}: {short(entry.job)} had ended at {ends[entry.job][1]}, and runs"
            case _:
                pass


def _same_end(
    ends: dict[bytes, tuple[frozenset[Status], int]], results: dict[bytes, object], place: int, job: bytes, now: frozenset[Status], result: object
) -> Iterator[str]:  # fmt: skip
    before, since = ends.setdefault(job, (now, place))
    if not before & now:
        yield f"{place}: {short(job)} ended as {', '.join(before)} at {since}, and now as {', '.join(now)}"
    if results.setdefault(job, result) != result:
        yield f"{place}: the result of {short(job)} was {results[job]!r:.60}, and now is {result!r:.60}"


def one_live_job_per_key(case: Case) -> Iterator[str]:
    """Of the jobs of one name and key, each has ended before the next one was queued."""
    for place, snapshot in case.snapshots:
        last: dict[tuple[str, bytes], Row] = {}
        for row in snapshot.rows.values():
            if row.key is None:
                continue
            before = last.get((row.name, row.key))
            if before is not None and (before.ended_at is None or before.ended_at > row.created_at):
                yield f"{place}: {short(before.id)} and {short(row.id)} of one key were live at once"
            last[row.name, row.key] = row


# --- who runs ---------------------------------------------------------------------------------------------------------


def one_runner(case: Case) -> Iterator[str]:
    """A job runs once at a time, no more jobs run than are allowed, each is claimed on disk before, and a suspect runs alone."""
    present: dict[bytes, Entered] = {}
    limits: dict[int, int] = {}
    for place, entry in enumerate(case.entries):
        match entry:
            case Opened():
                limits[entry.life] = entry.running_jobs
            case Died():
                present = {job: each for job, each in present.items() if each.life != entry.life}
            case Left():
                present.pop(entry.job, None)
            case Saving():
                if entry.job in present:
                    present[entry.job] = present[entry.job]._replace(alone=False)
            case Entered():
                if entry.job in present:
                    yield f"{place}: {short(entry.job)} runs twice at once"
                if entry.row is None or not entry.row.status.claimed or entry.row.claim != entry.claim:
                    yield f"{place}: {short(entry.job)} runs by claim {entry.claim}; on disk: {entry.row}"
                others = [short(job) for job, each in present.items() if each.life == entry.life and (entry.alone or each.alone)]
                if others:
                    yield f"{place}: {short(entry.job)} runs beside {', '.join(others)}, and one of them should be alone"
                present[entry.job] = entry
                if len(present) > limits[entry.life]:
                    yield f"{place}: {len(present)} jobs run at once, {limits[entry.life]} may"
            case _:
                pass


def nothing_is_stuck(case: Case) -> Iterator[str]:
    """When nothing can go on, no job is running, and none that this process knows waits to run."""
    for place, snapshot in case.snapshots:
        if not isinstance(snapshot, Quiet):
            continue
        for row in snapshot.rows.values():
            if row.status.claimed or (row.status is Status.QUEUED and row.name in snapshot.known):
                yield f"{place}: {short(row.id)} ({row.name}) is stuck: {row}"


def tasks_run_within_their_job(case: Case) -> Iterator[str]:
    """No task runs before its job does, and none of a run is left when that run is told to have ended."""
    inside: dict[bytes, Entered] = {}
    running: dict[bytes, dict[int, Entered]] = {}
    """Job → item → the run that it is of."""
    claims: dict[bytes, int] = {}
    for place, entry in enumerate(case.entries):
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


def done_items_are_never_done_again(case: Case) -> Iterator[str]:
    """An item of a map that was saved as done is not run again, whatever happens; a retry runs what it was asked to run of it.

    Items of jobs without a map are never said to be done; of a retry of those, everything runs.
    """
    done: dict[bytes, set[int]] = {}
    failed: dict[bytes, set[int]] = {}
    mapped = {entry.job for entry in case.entries if isinstance(entry, Counted)}
    for place, entry in enumerate(case.entries):
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


def the_ledger_fits_the_fields(case: Case) -> Iterator[str]:
    """What the ledger says and what the fields say of a map are of one checkpoint, always; a retry may begin with a ledger that it was given."""
    ahead: dict[bytes, int] = {}
    for place, entry in enumerate(case.entries):
        if not isinstance(entry, Counted):
            continue
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


# --- where a job goes on ----------------------------------------------------------------------------------------------


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
                        yield f"{place}: {short(job)} starts from {entry.state}; on disk should be one of {stored}, its last step was {highest}"
                    elif entry.state[1] != 3 * entry.state[0]:
                        yield f"{place}: {short(job)} starts from {entry.state}: half of one checkpoint and half of another"
                    stored, left = [entry.state], None
                case _:
                    pass


def _last(states: list[State], state: State) -> int:
    return max((place for place, each in enumerate(states) if each == state), default=0)


# --- what users want --------------------------------------------------------------------------------------------------


def paused_stays_paused(case: Case) -> Iterator[str]:
    """After an acknowledged pause no step begins and nothing starts it again, over restarts too, until somebody resumes it."""
    for job in case.commands:
        resumes = case.of_kind(job, "resume")
        for pause in case.of_kind(job, "pause"):
            if pause.status not in (Status.PAUSED, Status.PAUSING) or any(each.touches(pause.asked, pause.ended) for each in resumes):
                continue
            until = min((each.asked for each in resumes if each.asked > pause.ended), default=math.inf)
            yield from _stands_still(case, pause, until, begun=pause.status is Status.PAUSING)
            for place, snapshot in case.snapshots:
                row = snapshot.rows.get(job) if pause.ended < place < until else None
                if row is None or row.status in (*ENDED, Status.CANCELLING, Status.QUARANTINED):
                    continue
                if not (row.status is Status.PAUSED and row.pausers & BY_USER) and not (row.status is Status.PAUSING and snapshot.life == pause.life):
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
                if row is None or row.status in ENDED:
                    continue
                if row.status is not Status.CANCELLING or isinstance(snapshot, Quiet) or snapshot.life != cancel.life:
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
            if resume.status not in (Status.QUEUED, Status.RUNNING) or any(each.touches(resume.asked, resume.ended) for each in pauses):
                continue
            until = min((each.asked for each in pauses if each.asked > resume.ended), default=math.inf)
            for place, snapshot in case.snapshots:
                row = snapshot.rows.get(job) if resume.ended < place < until else None
                if row is not None and (row.pausers & BY_USER or row.status is Status.PAUSING):
                    yield f"{place}: {short(job)} was resumed at {resume.ended}, nobody paused it, and it is {row}"


# --- what is told -----------------------------------------------------------------------------------------------------


def facts_are_true(case: Case) -> Iterator[str]:
    """What a fact says is on disk when it arrives, or something that can have come of it."""
    claims: dict[bytes, int] = {}
    """Job → claims that are certainly on disk: those of the last snapshot, and those told since."""
    last: dict[bytes, Told] = {}
    for place, entry in enumerate(case.entries):
        match entry:
            case Told(_, fact, row, seen):
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
    implied = _implied(fact)
    if row is None:
        yield f"{place}: {type(fact).__name__} of {short(fact.job_id)} was told, and the job is not on disk"
    elif row.claim < claims:
        yield f"{place}: {claims} claims of {short(fact.job_id)} were told, on disk are {row.claim}"
    elif implied:
        asked = case.asked_before(fact.job_id, place)
        if not any(row.status in reachable(status, asked, row.claim > claims) for status in implied):
            yield f"{place}: {type(fact).__name__} of {short(fact.job_id)} was told, and on disk it is {row.status} (claim {row.claim})"


def facts_have_no_gaps(case: Case) -> Iterator[str]:
    """The facts of an epoch are numbered from 1 without gaps, and those of one job follow each other as its life allows."""
    epochs: dict[int, int] = {}
    known: dict[tuple[int, bytes], str] = {}
    for place, entry in enumerate(case.entries):
        if not isinstance(entry, Told):
            continue
        fact = entry.fact
        if fact.n != epochs.get(fact.epoch, 0) + 1:
            yield f"{place}: fact {fact.n} of epoch {fact.epoch} came behind fact {epochs.get(fact.epoch, 0)}"
        epochs[fact.epoch] = fact.n
        before, now = known.get((fact.epoch, fact.job_id), ""), type(fact).__name__
        if isinstance(fact, JobStarted) and before in ("JobStarted", "JobPaused", "JobPausing", "JobCancelling", "JobQuarantined"):
            yield f"{place}: JobStarted of {short(fact.job_id)} came behind {before}"
        if isinstance(fact, JobQueued) and before:
            yield f"{place}: JobQueued of {short(fact.job_id)} came behind {before}"
        known[fact.epoch, fact.job_id] = now


def every_end_is_told(case: Case) -> Iterator[str]:
    """Of each job that ended while the library was open and somebody listened, one end was told."""
    ended_before: Rows = {}
    told: set[bytes] = set()
    for place, entry in enumerate(case.entries):
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
    for place, entry in enumerate(case.entries):
        if isinstance(entry, Logged):
            yield f"{place}: {entry.text}"


# --- the table of lives, as far as it can be known from outside -------------------------------------------------------

_OF_COMMANDS = {Event.PAUSE: "pause", Event.RESUME: "resume", Event.CANCEL: "cancel"}
_NEVER_IN_A_LIFE = (Event.CRASH, Event.CRASH_FOR_GOOD)

_IMPLIED: dict[type[Fact], frozenset[Status]] = {
    JobQueued: frozenset((Status.QUEUED,)),
    JobStarted: frozenset((Status.RUNNING,)),
    JobPausing: frozenset((Status.PAUSING,)),
    JobPaused: frozenset((Status.PAUSED,)),
    JobResumed: frozenset((Status.QUEUED, Status.RUNNING)),
    JobCancelling: frozenset((Status.CANCELLING,)),
    JobRequeued: frozenset((Status.QUEUED,)),
    JobFailed: frozenset((Status.FAILED,)),
    JobCancelled: frozenset((Status.CANCELLED,)),
    JobQuarantined: frozenset((Status.QUARANTINED,)),
}


def _implied(fact: Fact) -> frozenset[Status]:
    """The statuses of which a fact says one; empty: it says none."""
    if isinstance(fact, JobCompleted):
        return frozenset((Status.COMPLETED_WITH_ERRORS if fact.errors else Status.COMPLETED,))
    return _IMPLIED.get(type(fact), frozenset())


@functools.lru_cache(maxsize=4_096)
def reachable(status: Status, asked: frozenset[str], claims: bool) -> frozenset[Status]:
    """What a job can be within one life of the process after it was `status`: by commands that were `asked`, and by claims if there were."""
    found = {status}
    waiting = [status]
    while waiting:
        before = waiting.pop()
        for (source, event), target in TRANSITIONS.items():
            if source is not before or target in found or event in _NEVER_IN_A_LIFE:
                continue
            if _OF_COMMANDS.get(event, "") not in ("", *asked) or (event is Event.CLAIM and not claims):
                continue
            found.add(target)
            waiting.append(target)
    return frozenset(found)


Invariant = Callable[[Case], Iterator[str]]

INVARIANTS: tuple[Invariant, ...] = (
    acknowledged_is_stored, an_end_is_final, one_live_job_per_key, one_runner, nothing_is_stuck, tasks_run_within_their_job,
    done_items_are_never_done_again, the_ledger_fits_the_fields, crashes_are_counted_right, a_checkpoint_is_never_older, paused_stays_paused, cancel_wins, a_resume_is_kept, facts_are_true,
    facts_have_no_gaps, every_end_is_told, nothing_is_amiss,
)  # fmt: skip


def breaches(entries: Sequence[Entry]) -> list[str]:
    """Every breach of every invariant: "the rule: what was seen". Empty: all is well."""
    case = Case(entries)
    return [f"{invariant.__name__}: {breach}" for invariant in INVARIANTS for breach in invariant(case)]
