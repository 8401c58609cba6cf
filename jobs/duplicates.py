"""What becomes of a submission whose key is taken: one table, strategy by state of the older job. Nothing else decides it.

The older job is the one that has the (job name, key); if it already has a successor waiting behind it, the older one is the successor.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from callboard.jobs.errors import NotAllowed
from callboard.jobs.lifecycle import Status
from callboard.jobs.submission import OnDuplicate


class Standing(StrEnum):
    """How far the older job is, as far as a newer one cares."""

    QUEUED = "queued"
    DELAYED = "delayed"
    """Queued, and waits for its time."""
    WAITING = "waiting"
    """It is itself a successor."""
    PAUSED = "paused"
    PAUSING = "pausing"
    RUNNING = "running"
    CANCELLING = "cancelling"
    QUARANTINED = "quarantined"
    CHILDREN_RUNNING = "children running"
    """Running, and has children that have not ended."""


class Answer(StrEnum):
    """What the newcomer is told."""

    SUBMITTED = "submitted"
    DEDUPLICATED = "deduplicated"
    """The older one does for both."""
    SUPERSEDED = "superseded"
    """It takes the place of the older one."""
    REQUEUED = "requeued"
    """It runs once the older one has ended."""
    REJECTED = "rejected"
    """The key is taken, and that is an error."""


class NewRow(StrEnum):
    """The row of the newcomer."""

    NONE = "none"
    QUEUED = "queued"
    BEHIND = "waiting behind the older one"
    IN_PLACE = "waiting in place of the older one"
    """Behind the job that the older one waited for."""


class OldJob(StrEnum):
    """What the older job does."""

    STAYS = "stays"
    ENDS = "ends now"
    """Cancelled in the same commit; `superseded_by` is the newcomer. A successor that has children gives up its place, and ends when they have."""
    CANCELLING = "is cancelling"
    """Asked to cancel, unless it was already; if it ends as cancelled, `superseded_by` is the newcomer."""


class Children(StrEnum):
    """What the children of the older job do."""

    UNTOUCHED = "untouched"
    CANCELLED = "cancelled"
    """With it, save those that are detached."""


class Waiters(StrEnum):
    """What those get who wait on the older job's handle."""

    GO_ON = "go on waiting"
    SUPERSEDED = "superseded"
    """`Superseded`, at once."""
    RESULT_OR_SUPERSEDED = "its result, or superseded"
    """Its result if it completes before it can be stopped, its error if it fails, else `Superseded`."""


class Decision(NamedTuple):
    """One cell of the table."""

    outcome: Answer
    new: NewRow
    old: OldJob
    children: Children
    waiters: Waiters


def _older_stays(outcome: Answer, new: NewRow = NewRow.NONE) -> Decision:
    return Decision(outcome, new, OldJob.STAYS, Children.UNTOUCHED, Waiters.GO_ON)


def _older_ends(outcome: Answer, new: NewRow) -> Decision:
    return Decision(outcome, new, OldJob.ENDS, Children.CANCELLED, Waiters.SUPERSEDED)


_DEDUPLICATED = _older_stays(Answer.DEDUPLICATED)
_REQUEUED = _older_stays(Answer.REQUEUED, NewRow.BEHIND)
_REJECTED = _older_stays(Answer.REJECTED)
_REPLACED = _older_ends(Answer.SUPERSEDED, NewRow.QUEUED)
_STOPPED_FIRST = Decision(Answer.SUPERSEDED, NewRow.BEHIND, OldJob.CANCELLING, Children.CANCELLED, Waiters.RESULT_OR_SUPERSEDED)
_O, _S = OnDuplicate, Standing

DECISIONS: dict[tuple[OnDuplicate, Standing], Decision] = {
    (_O.SKIP, _S.QUEUED): _DEDUPLICATED,
    (_O.SKIP, _S.DELAYED): _DEDUPLICATED,
    (_O.SKIP, _S.WAITING): _DEDUPLICATED,
    (_O.SKIP, _S.PAUSED): _DEDUPLICATED,
    (_O.SKIP, _S.PAUSING): _DEDUPLICATED,
    (_O.SKIP, _S.RUNNING): _DEDUPLICATED,
    (_O.SKIP, _S.CANCELLING): _older_stays(Answer.SUBMITTED, NewRow.BEHIND),  # nobody wants the older one any more
    (_O.SKIP, _S.QUARANTINED): _DEDUPLICATED,
    (_O.SKIP, _S.CHILDREN_RUNNING): _DEDUPLICATED,
    (_O.SUPERSEDE, _S.QUEUED): _REPLACED,
    (_O.SUPERSEDE, _S.DELAYED): _REPLACED,
    (_O.SUPERSEDE, _S.WAITING): _older_ends(Answer.SUPERSEDED, NewRow.IN_PLACE),
    (_O.SUPERSEDE, _S.PAUSED): _REPLACED,
    (_O.SUPERSEDE, _S.PAUSING): _STOPPED_FIRST,
    (_O.SUPERSEDE, _S.RUNNING): _STOPPED_FIRST,
    (_O.SUPERSEDE, _S.CANCELLING): _STOPPED_FIRST,
    (_O.SUPERSEDE, _S.QUARANTINED): _REPLACED,
    (_O.SUPERSEDE, _S.CHILDREN_RUNNING): _STOPPED_FIRST,
    (_O.REQUEUE, _S.QUEUED): _DEDUPLICATED,  # it has not begun: it runs anyway
    (_O.REQUEUE, _S.DELAYED): _DEDUPLICATED,
    (_O.REQUEUE, _S.WAITING): _older_ends(Answer.REQUEUED, NewRow.IN_PLACE),  # many collapse to one, the newest
    (_O.REQUEUE, _S.PAUSED): _REQUEUED,
    (_O.REQUEUE, _S.PAUSING): _REQUEUED,
    (_O.REQUEUE, _S.RUNNING): _REQUEUED,
    (_O.REQUEUE, _S.CANCELLING): _REQUEUED,
    (_O.REQUEUE, _S.QUARANTINED): _REQUEUED,
    (_O.REQUEUE, _S.CHILDREN_RUNNING): _REQUEUED,
    (_O.REJECT, _S.QUEUED): _REJECTED,
    (_O.REJECT, _S.DELAYED): _REJECTED,
    (_O.REJECT, _S.WAITING): _REJECTED,
    (_O.REJECT, _S.PAUSED): _REJECTED,
    (_O.REJECT, _S.PAUSING): _REJECTED,
    (_O.REJECT, _S.RUNNING): _REJECTED,
    (_O.REJECT, _S.CANCELLING): _REJECTED,
    (_O.REJECT, _S.QUARANTINED): _REJECTED,
    (_O.REJECT, _S.CHILDREN_RUNNING): _REJECTED,
}

RAISABLE = frozenset({Standing.QUEUED, Standing.DELAYED, Standing.WAITING, Standing.PAUSED})
"""Where a priority still matters: the older one is to be claimed."""


def decide(strategy: OnDuplicate, standing: Standing) -> Decision:
    """What becomes of a newcomer, and of the older job, whose key it has."""
    return DECISIONS[strategy, standing]


def raises_priority(strategy: OnDuplicate, standing: Standing, older: int, newer: int) -> bool:
    """True if the older job takes the newcomer's priority: a SKIP that is more urgent (a lower number) while the older is unclaimed."""
    return strategy is OnDuplicate.SKIP and standing in RAISABLE and newer < older


def standing_of(status: Status, delayed: bool, is_parent: bool) -> Standing:
    """How far the older one is. `delayed`: it has a `run_at`. `is_parent`: it has children that have not ended.

    Raises `NotAllowed` for an ended job: its key is free.
    """
    if status.ended:
        raise NotAllowed(f"a job that is {status} holds no key; queue the newer one as if the older had never been")
    if status is Status.QUEUED and delayed:
        return Standing.DELAYED
    if status in (Status.AWAITING, Status.ENDING) or (is_parent and status is Status.RUNNING):
        return Standing.CHILDREN_RUNNING
    return Standing(status)
