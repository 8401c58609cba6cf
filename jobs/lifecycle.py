"""The life of a job: every status, every event, every transition. Nothing else in callboard decides a status.

Rule 1: whatever moves a job from one status to another stands in `TRANSITIONS`; a pair that is not there is refused and changes
nothing. Rule 2: the store repeats the expected status in each UPDATE and checks the row count, so two who act at once cannot both win.

Theory. A job wants (its *intent*: run, pause, cancel) and is (its *status*). A user's command changes the intent, and the status at
once where no user code runs. While user code runs the status only says what has been asked (`pausing`, `cancelling`); what becomes of
it is decided when the code has left `run`: a job that returns has completed, whatever was asked. Cancel beats pause: nothing leads
from `cancelling` back. An ended job never changes again; `quarantined` is no end: it waits for a person.
A successor (`waiting`) gives way to the job in front of it, whatever anybody wants of it but its end.
"""

from __future__ import annotations

from enum import StrEnum

from callboard.jobs.errors import NotAllowed

MAX_CRASHES = 3
"""A job whose process died under it this often since its last checkpoint is quarantined."""

SUSPECT_CRASHES = 2
"""From this count on a job runs with no other user code in the process, so that a further crash is surely its own."""


class Status(StrEnum):
    """Where a job is in its life. The value is what the database holds."""

    QUEUED = "queued"
    """Waits for its turn, or for its time (`run_at`)."""
    WAITING = "waiting"
    """A successor: waits until the job in front of it, which has the same name and key, has ended."""
    AWAITING = "awaiting_children"
    """A parent that has left `run` to wait for its children; it is run again, from its checkpoint, when they have ended."""
    RUNNING = "running"
    """Claimed by an actor; user code runs, or is about to."""
    PAUSING = "pausing"
    """Asked to pause; user code still runs."""
    PAUSED = "paused"
    """Stopped with its state saved; goes on when resumed."""
    CANCELLING = "cancelling"
    """Asked to cancel; user code still runs."""
    ENDING = "ending"
    """A parent that will not run any more: how it ends is stored, and it has ended when its children have."""
    QUARANTINED = "quarantined"
    """Its process died under it too often, or its record is damaged; a person resumes or cancels it."""
    COMPLETED = "completed"
    """`run` returned."""
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    """Returned, and some items failed; the warnings say which."""
    FAILED = "failed"
    """`run` raised for good, or the process died under a job that is not resumable."""
    CANCELLED = "cancelled"
    """A user no longer wants it; no code of it runs."""

    @property
    def ended(self) -> bool:
        """True for the four statuses that never change again."""
        return self in ENDED

    @property
    def claimed(self) -> bool:
        """True while an actor holds the job."""
        return self in CLAIMED


ENDED = frozenset({Status.COMPLETED, Status.COMPLETED_WITH_ERRORS, Status.FAILED, Status.CANCELLED})
CLAIMED = frozenset({Status.RUNNING, Status.PAUSING, Status.CANCELLING})
LIVE = frozenset(Status) - ENDED


class Event(StrEnum):
    """What can happen to a job."""

    ADVANCE = "advance"
    """The job in front of it, or its children, have ended: it takes its turn."""
    AWAIT = "await children"
    """It leaves `run` to be run again when its children have ended."""
    HOLD = "hold"
    """It is at its end, and its children are not: it ends when they have."""
    CLAIM = "claim"
    """An actor takes it."""
    PAUSE = "pause"
    """A user (or whoever else may pause it) wants it to stand still."""
    RESUME = "resume"
    """The wish to pause is withdrawn."""
    CANCEL = "cancel"
    """A user wants it to end."""
    STOP = "stop"
    """`run` left by Interrupted, its state is saved."""
    YIELD = "yield"
    """`run` left by an Interrupted that the author raised himself: the job pauses with his reason."""
    RETURN = "return"
    """`run` returned, no item failed."""
    RETURN_WITH_ERRORS = "return with errors"
    """`run` returned, and some items failed."""
    FAIL = "fail"
    """`run` raised, and the retry policy has no attempt left."""
    RETRY = "retry"
    """`run` raised, and is to run again later."""
    RELEASE = "release"
    """Given back without having begun, or left as it was by a close that was announced; no crash is charged."""
    CRASH = "crash"
    """Its process died; the next opening finds it claimed."""
    CRASH_FOR_GOOD = "crash for good"
    """The same, of a job that is not resumable."""
    POISON = "poison"
    """It died once too often, or what is stored of it is damaged."""


_S, _E = Status, Event

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (_S.QUEUED, _E.CLAIM): _S.RUNNING,
    (_S.QUEUED, _E.PAUSE): _S.PAUSED,
    (_S.QUEUED, _E.RESUME): _S.QUEUED,
    (_S.QUEUED, _E.CANCEL): _S.CANCELLED,
    (_S.QUEUED, _E.POISON): _S.QUARANTINED,
    (_S.WAITING, _E.ADVANCE): _S.QUEUED,  # and with a pauser noted, by PAUSE from there: in the same commit
    (_S.WAITING, _E.PAUSE): _S.WAITING,  # the pauser is noted: it still gives way to the job in front
    (_S.WAITING, _E.RESUME): _S.WAITING,
    (_S.WAITING, _E.CANCEL): _S.CANCELLED,
    (_S.WAITING, _E.POISON): _S.QUARANTINED,
    (_S.AWAITING, _E.ADVANCE): _S.QUEUED,  # as above
    (_S.AWAITING, _E.PAUSE): _S.AWAITING,
    (_S.AWAITING, _E.RESUME): _S.AWAITING,
    (_S.AWAITING, _E.CANCEL): _S.CANCELLED,
    (_S.AWAITING, _E.POISON): _S.QUARANTINED,
    (_S.RUNNING, _E.AWAIT): _S.AWAITING,
    (_S.PAUSING, _E.AWAIT): _S.PAUSED,
    (_S.CANCELLING, _E.AWAIT): _S.CANCELLED,
    (_S.RUNNING, _E.PAUSE): _S.PAUSING,
    (_S.RUNNING, _E.RESUME): _S.RUNNING,
    (_S.RUNNING, _E.CANCEL): _S.CANCELLING,
    (_S.RUNNING, _E.STOP): _S.QUEUED,  # a pause that was withdrawn after the job had already left: it goes on
    (_S.RUNNING, _E.YIELD): _S.PAUSED,
    (_S.RUNNING, _E.RETURN): _S.COMPLETED,
    (_S.RUNNING, _E.RETURN_WITH_ERRORS): _S.COMPLETED_WITH_ERRORS,
    (_S.RUNNING, _E.FAIL): _S.FAILED,
    (_S.RUNNING, _E.RETRY): _S.QUEUED,
    (_S.RUNNING, _E.RELEASE): _S.QUEUED,
    (_S.RUNNING, _E.CRASH): _S.QUEUED,
    (_S.RUNNING, _E.CRASH_FOR_GOOD): _S.FAILED,
    (_S.RUNNING, _E.POISON): _S.QUARANTINED,
    (_S.PAUSING, _E.PAUSE): _S.PAUSING,
    (_S.PAUSING, _E.RESUME): _S.RUNNING,
    (_S.PAUSING, _E.CANCEL): _S.CANCELLING,
    (_S.PAUSING, _E.STOP): _S.PAUSED,
    (_S.PAUSING, _E.YIELD): _S.PAUSED,
    (_S.PAUSING, _E.RETURN): _S.COMPLETED,
    (_S.PAUSING, _E.RETURN_WITH_ERRORS): _S.COMPLETED_WITH_ERRORS,
    (_S.PAUSING, _E.FAIL): _S.FAILED,
    (_S.PAUSING, _E.RETRY): _S.PAUSED,
    (_S.PAUSING, _E.RELEASE): _S.PAUSED,
    (_S.PAUSING, _E.CRASH): _S.PAUSED,
    (_S.PAUSING, _E.CRASH_FOR_GOOD): _S.FAILED,
    (_S.PAUSING, _E.POISON): _S.QUARANTINED,
    (_S.PAUSED, _E.PAUSE): _S.PAUSED,
    (_S.PAUSED, _E.RESUME): _S.QUEUED,
    (_S.PAUSED, _E.CANCEL): _S.CANCELLED,
    (_S.CANCELLING, _E.PAUSE): _S.CANCELLING,
    (_S.CANCELLING, _E.RESUME): _S.CANCELLING,
    (_S.CANCELLING, _E.CANCEL): _S.CANCELLING,
    (_S.CANCELLING, _E.STOP): _S.CANCELLED,
    (_S.CANCELLING, _E.YIELD): _S.CANCELLED,
    (_S.CANCELLING, _E.RETURN): _S.COMPLETED,
    (_S.CANCELLING, _E.RETURN_WITH_ERRORS): _S.COMPLETED_WITH_ERRORS,
    (_S.CANCELLING, _E.FAIL): _S.FAILED,
    (_S.CANCELLING, _E.RETRY): _S.CANCELLED,
    (_S.CANCELLING, _E.RELEASE): _S.CANCELLED,
    (_S.CANCELLING, _E.CRASH): _S.CANCELLED,
    (_S.CANCELLING, _E.CRASH_FOR_GOOD): _S.CANCELLED,
    (_S.CANCELLING, _E.POISON): _S.CANCELLED,
    (_S.QUARANTINED, _E.PAUSE): _S.QUARANTINED,
    (_S.QUARANTINED, _E.RESUME): _S.QUEUED,
    (_S.QUARANTINED, _E.CANCEL): _S.CANCELLED,
    (_S.ENDING, _E.PAUSE): _S.ENDING,  # it is for the children
    (_S.ENDING, _E.RESUME): _S.ENDING,
    (_S.ENDING, _E.CANCEL): _S.CANCELLED,
    (_S.ENDING, _E.RETURN): _S.COMPLETED,  # what was stored
    (_S.ENDING, _E.RETURN_WITH_ERRORS): _S.COMPLETED_WITH_ERRORS,
    (_S.ENDING, _E.FAIL): _S.FAILED,
}
TRANSITIONS |= {(status, Event.HOLD): Status.ENDING for status in Status if status in LIVE}
"""Whatever would end a parent while its children live."""


def transition(status: Status, event: Event) -> Status:
    """The status after `event`. Raises `NotAllowed` for a pair that is not in the table."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        hint = "; `retry` makes a new job of it" if status in ENDED else ""
        raise NotAllowed(f"a job that is {status} cannot {event}{hint}") from None


def after_crash(status: Status, crashes: int, resumable: bool) -> Status:
    """What a claimed job becomes when its process has died; `crashes` counts this one too."""
    if not resumable:
        return transition(status, Event.CRASH_FOR_GOOD)
    return transition(status, Event.POISON if crashes >= MAX_CRASHES else Event.CRASH)


class Pauser(StrEnum):
    """Who keeps a job paused. It runs when nobody does; a user's resume takes `user` and `job` away."""

    USER = "user"
    JOB = "job"
    PARENT = "parent"
    DISK = "disk"


PAUSER_BITS = {Pauser.USER: 1, Pauser.JOB: 2, Pauser.PARENT: 4, Pauser.DISK: 8}
"""As stored, in one integer. Values are for ever."""

RESUMED_BY_USER = PAUSER_BITS[Pauser.USER] | PAUSER_BITS[Pauser.JOB]

GOES_DOWN = PAUSER_BITS[Pauser.USER] | PAUSER_BITS[Pauser.PARENT]
"""Whose pause of a job holds its children as well: not that of one which paused itself."""


def pausers(bits: int) -> frozenset[Pauser]:
    """The set that `bits` stands for."""
    return frozenset(who for who, bit in PAUSER_BITS.items() if bits & bit)


def diagram() -> str:
    """The table as a Mermaid state diagram, for ARCHITECTURE.md; arrows from a status to itself are left out."""
    arrows: dict[tuple[Status, Status], list[str]] = {}
    for (source, event), target in TRANSITIONS.items():
        if source is not target:
            arrows.setdefault((source, target), []).append(event)
    lines = ["stateDiagram-v2", "    [*] --> queued: submit", "    [*] --> waiting: submit behind a job of the same key"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    lines += [f"    {status} --> [*]" for status in Status if status in ENDED]
    return "\n".join(lines)
