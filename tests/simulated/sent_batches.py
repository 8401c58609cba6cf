"""A batch of a history, as it is sent, and sent again in a later life: the same items under the same id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from history_jobs import Quick
from observed import Item

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_items import BatchItem, RequeuedItem, SubmittedItem, SupersededItem
from callboard.jobs.job import Job
from callboard.jobs.submission import OnDuplicate, Submission
from callboard.persistence.jobdata import new_job

NEW = (SubmittedItem, SupersededItem, RequeuedItem)
"""Items of which a job was made."""


@dataclass(frozen=True)
class SentBatch:
    """What is needed to send it again."""

    batch_id: bytes
    items: tuple[Any, ...]
    """Submissions; and what is none, and fails alone."""
    on_duplicate: OnDuplicate
    last: Submission | None
    """Its `on_complete`."""
    by_message: bool
    from_generator: bool
    whole: bool

    @property
    def reads_on(self) -> bool:
        """Its items come one by one, and nobody knows how many are to come."""
        return self.from_generator and not self.by_message

    def submission(self) -> BatchSubmission:
        """A new one each time, as a generator is read once."""
        items: Any = (each for each in self.items) if self.reads_on else self.items
        return BatchSubmission(items, on_duplicate=self.on_duplicate, batch_id=self.batch_id, on_complete=self.last, whole=self.whole)


def again(batch: SentBatch, rng: Random) -> SentBatch:
    """The same batch; now and then with other content under its id, which is an error of whoever sends it."""
    if rng.random() < 0.9:
        return batch
    items = list(batch.items)
    place = rng.randrange(len(items))
    items[place] = Submission(Quick(mark=-1_000 - rng.randrange(1_000_000)))
    return replace(batch, items=tuple(items))


def item_of(given: Any) -> Item | None:
    """What is to be stored of it; None if it is no submission, or names a parent that there is not."""
    if not isinstance(given, (Submission, Job)) or getattr(given, "parent", None) is not None:
        return None
    insert = new_job(given)
    return Item(insert.name, insert.key, insert.data)


def items_of(given: Sequence[Any]) -> tuple[Item | None, ...]:
    """The same of all items of a batch. Those whose parent is another item of it may fail for that, or not: it depends on who has its key."""
    names = {each.local: place for place, each in enumerate(given) if isinstance(each, Submission) and each.local is not None}
    items: list[Item | None] = []
    for each in given:
        above = names.get(each.parent) if isinstance(each, Submission) and each.parent is not None else None
        item = item_of(each if above is None else Submission(each.job, key=each.key))
        items.append(item if item is None or above is None else item._replace(parent=above))
    return tuple(items)


def new_jobs(items: Sequence[BatchItem]) -> Iterator[bytes]:
    """The jobs that were made of them."""
    return (item.job_id for item in items if isinstance(item, NEW))
