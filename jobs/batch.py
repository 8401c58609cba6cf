"""Many submissions as one, and what is the same for all of them. Every field but the submissions is checked when it is made, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from callboard.jobs.errors import BadSubmission, shown
from callboard.jobs.identity import uuid_bytes
from callboard.jobs.job import Job
from callboard.jobs.submission import OnDuplicate, Submission, check_label, check_on_duplicate, check_priority, checked_tags

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True, init=False)
class BatchSubmission:
    """Jobs to queue, and how. A default applies to an item that left the field unset.

    Raises `BadSubmission` for a field that is out of its range.
    """

    submissions: Iterable[Submission | Job]
    """Not looked at before they are needed, so a generator may make them one by one. One that is bad fails alone."""
    default_group: str | None = None
    """Group of items without one."""
    default_priority: int | None = None
    """Priority of items without one; None: NORMAL."""
    default_tags: tuple[str, ...] | None = None
    """Tags of items without any; not added to those that an item has."""
    on_duplicate: OnDuplicate = OnDuplicate.SKIP
    """What to do when a key is taken, for items that do not say."""
    requested_by: str | None = None
    """Who asked, for items that do not say; any text up to 200 characters."""
    batch_id: bytes | None = None
    """16 bytes. The same batch sent again under the same id gives the same answer for what is stored, and stores the rest."""
    whole: bool = False
    """All that is good of it or nothing, in one transaction of any size; an item that is bad in itself fails alone here too, so ask
    `Library.plan` first if none may. Others wait for it: 1.5 s for 100,000 items, measured on two cores with the encoding."""
    on_complete: Submission | Job | None = None
    """A job that is queued in the commit that ends the last one of the batch. Of a batch that is sent again, that of the first time counts."""

    def __init__(
        self,
        submissions: Iterable[Submission | Job],
        *,
        default_group: str | None = None,
        default_priority: int | None = None,
        default_tags: tuple[str, ...] | None = None,
        on_duplicate: OnDuplicate = OnDuplicate.SKIP,
        requested_by: str | None = None,
        batch_id: bytes | UUID | None = None,
        whole: bool = False,
        on_complete: Submission | Job | None = None,
    ) -> None:
        if isinstance(submissions, (Job, str, bytes)) or not hasattr(type(submissions), "__iter__"):
            raise BadSubmission(f"submissions={shown(submissions)} is not an iterable of jobs and submissions; give a list, or a generator")
        if default_group is not None:
            check_label("default_group", default_group)
        if default_priority is not None:
            check_priority("default_priority", default_priority)
        if default_tags is not None:
            default_tags = checked_tags("default_tags", default_tags)
        check_on_duplicate(on_duplicate)
        if requested_by is not None:
            check_label("requested_by", requested_by)
        if not isinstance(whole, bool):
            raise BadSubmission(f"whole={shown(whole)} is not True or False")
        _check_on_complete(on_complete)
        write = object.__setattr__
        write(self, "submissions", submissions)
        write(self, "default_group", default_group)
        write(self, "default_priority", default_priority)
        write(self, "default_tags", default_tags)
        write(self, "on_duplicate", on_duplicate)
        write(self, "requested_by", requested_by)
        write(self, "batch_id", _batch_bytes(batch_id))
        write(self, "whole", whole)
        write(self, "on_complete", on_complete)


def _batch_bytes(batch_id: object) -> bytes | None:
    raw = uuid_bytes(batch_id)
    if raw is None and batch_id is not None:
        raise BadSubmission(f"batch_id={shown(batch_id)} is not a UUID or its 16 bytes; uuid.uuid4() makes one")
    return raw


def _check_on_complete(on_complete: object) -> None:
    if on_complete is not None and not isinstance(on_complete, (Submission, Job)):
        raise BadSubmission(f"on_complete={shown(on_complete)} is not a Submission or a Job")
    if isinstance(on_complete, Submission) and (on_complete.parent is not None or on_complete.local is not None):
        raise BadSubmission("on_complete has parent= or local=, which name items of a batch; it is none of them")
