"""Batches: an outcome says what became of each item, once and for ever; what is told of a batch is true; its end comes once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from case import Case, short
from disk import BatchRow, Row, Rows
from observed import Got, Item, Opened, Over, Quiet, Refused, Sent, Told
from sent_batches import NEW

from callboard.jobs.batch_items import (
    BatchItem,
    DeduplicatedItem,
    FailedItem,
    NotStoredItem,
    OverriddenItem,
    RejectedItem,
    RequeuedItem,
    SupersededItem,
    UnknownItem,
)
from callboard.jobs.events import BatchEnded, BatchSubmitted
from callboard.jobs.identity import nth
from callboard.jobs.lifecycle import Status

NOT_THERE = (NotStoredItem, UnknownItem)


def an_outcome_is_complete(case: Case) -> Iterator[str]:
    """Every index is in exactly one place, and the jobs that it names are on disk: new ones with its fields, older ones with its key."""
    for place, entry in case.of(Got):
        sent = case.sent[entry.number]
        whole = len(entry.items) == len(sent.items) or (entry.error is not None and not sent.counted)
        indices = [item.index for item in entry.items]
        if not whole or indices != list(range(len(indices))) or sum(entry.counts.values()) != len(indices):
            yield f"{place}: {len(sent.items)} items were sent, the outcome has {entry.counts} and {indices}"
            continue
        if entry.error is None and any(isinstance(item, NOT_THERE) for item in entry.items):
            yield f"{place}: the outcome has no error, and not all is stored: {entry.counts}"
        new = [item.job_id for item in entry.items if isinstance(item, NEW)]
        if len(set(new)) != len(new):
            yield f"{place}: two items have one job: {[short(job) for job in new]}"
        if entry.seen:
            yield from (f"{place}: item {item.index} came out as {item}: {why}" for item, why in _misfits(entry, sent))


def _gave_its_key(row: Row) -> bool:
    """A successor that was superseded, and ends when its children have: the history has its key again."""
    return row.status is Status.ENDING and row.key is None


def _misfits(got: Got, sent: Sent) -> Iterator[tuple[BatchItem, str]]:
    for item, given in zip(got.items, sent.items, strict=False):
        if isinstance(item, NOT_THERE):
            continue
        if given is None or isinstance(item, FailedItem):
            if (given is not None and given.parent is None) or not isinstance(item, (FailedItem, OverriddenItem)):
                yield item, "it is bad" if given is None else "it is good"
            continue
        if isinstance(item, NEW):
            row = got.rows.get(item.job_id)
            if row is None or (row.name, row.key, row.data) != given[:3] and not _gave_its_key(row):
                yield item, f"its job on disk is {row}"
            above = None if given.parent is None else got.items[given.parent]
            if row is not None and isinstance(above, NEW) and row.parent != above.job_id and row.parent not in _of_its_key(got.rows, above.job_id):
                yield item, f"its parent is {row.parent!r}, not {short(above.job_id)}"
            if got.batch is None or not got.batch.has(item.job_id):
                yield item, f"its job is none of the batch {got.batch}"
        older = _older(item)
        if older is not None:
            row = got.rows.get(older)
            if row is None or given.key is None or (row.name, row.key) != (given.name, given.key) and not _gave_its_key(row):
                yield item, f"the older job on disk is {row}"


def _of_its_key(rows: Rows, job: bytes) -> list[bytes]:
    """Jobs one of which may have taken the place of this one."""
    old = rows[job]
    return [row.id for row in rows.values() if old.key is not None and (row.name, row.key) == (old.name, old.key) and row.id > job]


def _older(item: object) -> bytes | None:
    match item:
        case DeduplicatedItem() | RejectedItem():
            return item.job_id
        case SupersededItem():
            return item.replaced
        case RequeuedItem():
            return item.after
        case _:
            return None


def the_last_of_equal_keys_wins(case: Case) -> Iterator[str]:
    """In a chunk the last item of a key is the one that counts; those before it are overridden by it, and nobody else is."""
    for place, entry in case.of(Got):
        if entry.batch is None:
            continue
        sent = case.sent[entry.number]
        for start, count, _, _ in entry.batch.chunks:
            last: dict[tuple[str, bytes], int] = {}
            for index, item in enumerate(sent.items[start : start + count][: len(entry.items) - start], start):
                failed = item is not None and item.parent is not None and isinstance(entry.items[index], FailedItem)
                if item is not None and item.key is not None and not failed:
                    last[item.name, item.key] = index
            for index, item in enumerate(sent.items[start : start + count], start):
                if item is None or index >= len(entry.items):
                    continue
                outcome = entry.items[index]
                winner = index if item.key is None or isinstance(outcome, FailedItem) else last[item.name, item.key]
                overridden = outcome.by_index if isinstance(outcome, OverriddenItem) else index
                of_failed = isinstance(outcome, OverriddenItem) and isinstance(entry.items[overridden], FailedItem)  # which was seen too late
                if winner != overridden and not isinstance(outcome, NOT_THERE) and not of_failed:
                    yield f"{place}: item {index} of {short(entry.batch_id)} came out as {outcome}; the last one of its key is item {winner}"


def a_resend_makes_no_second_job(case: Case) -> Iterator[str]:
    """However often a batch is sent, an item has one job at most, the same in every outcome; other content under its id is refused."""
    of_item: dict[tuple[bytes, int], bytes] = {}
    contents: dict[bytes, set[tuple[Item | None, ...]]] = {}
    whose: dict[tuple[str, bytes], tuple[bytes, int]] = {}
    for place, entry in case.of(Sent, Got, Refused):
        match entry:
            case Sent():
                contents.setdefault(entry.batch_id, set()).add(entry.items)
                whose.update(((item.name, item.data), (entry.batch_id, index)) for index, item in enumerate(entry.items) if item is not None)
            case Got():
                for item in entry.items:
                    if isinstance(item, NEW) and of_item.setdefault((entry.batch_id, item.index), item.job_id) != item.job_id:
                        before = of_item[entry.batch_id, item.index]
                        yield f"{place}: item {item.index} of {short(entry.batch_id)} was {short(before)}, and is {short(item.job_id)}"
            case Refused(kind="BatchMismatch") if len(contents.get(case.sent[entry.number].batch_id, ())) < 2:
                yield f"{place}: the same batch was sent again, and refused: {entry.error}"
            case _:
                pass
    if case.snapshots:
        place, snapshot = case.snapshots[-1]
        made = Counter(whose[row.name, row.data] for row in snapshot.rows.values() if row.retry_of is None and (row.name, row.data) in whose)
        for (batch_id, index), jobs in made.items():
            if jobs > 1:
                yield f"{place}: item {index} of {short(batch_id)} has {jobs} jobs"


def facts_of_batches_are_true(case: Case) -> Iterator[str]:
    """`BatchSubmitted` and `BatchEnded` are told when what they say is on disk, the end once, and all of them are told."""
    ended: dict[bytes, int] = {}
    submitted: set[bytes] = set()
    since = Opened(0, 0, 0, {}, {})
    for place, entry in case.of(Told, Over, Opened, Quiet):
        match entry:
            case Told(_, BatchSubmitted() as fact):
                submitted.add(fact.batch_id)
                if entry.seen:
                    yield from (f"{place}: {fact} was told: {why}" for why in _untrue(fact, entry.batch))
            case Told(_, BatchEnded() as fact):
                if fact.batch_id in ended:
                    yield f"{place}: the end of {short(fact.batch_id)} was told at {ended[fact.batch_id]}, and again"
                ended[fact.batch_id] = place
                if entry.seen and (entry.batch is None or entry.batch.completed_at is None):
                    yield f"{place}: the end of {short(fact.batch_id)} was told, and on disk it is {entry.batch}"
            case Over():
                if entry.seen and (entry.batch is None or entry.batch.completed_at is None):
                    yield f"{place}: {short(entry.batch_id)} was waited for, and on disk it is {entry.batch}"
            case Opened():
                since = entry
            case Quiet():
                for batch in entry.batches.values():
                    before = since.batches.get(batch.id)
                    if batch.completed_at is not None and (before is None or before.completed_at is None) and batch.id not in ended:
                        yield f"{place}: {short(batch.id)} has ended, and nobody was told"
                    if before is None and batch.sealed and batch.id not in submitted:
                        yield f"{place}: {short(batch.id)} is on disk, and nobody was told"
            case _:
                pass


def _untrue(fact: BatchSubmitted, batch: BatchRow | None) -> Iterator[str]:
    if batch is None or batch.items < fact.count:
        yield f"on disk it is {batch}"
    elif fact.count != sum(fact.counts.values()):
        yield "its counts are of another number of items"
    elif fact.first_id and not any(first == fact.first_id for _, _, first, _ in batch.chunks):
        yield f"its chunks begin elsewhere: {batch}"
    elif fact.last_id and not any(first and nth(first, count - 1) == fact.last_id for _, count, first, _ in batch.chunks):
        yield f"its chunks end elsewhere: {batch}"


def an_end_is_counted_right(case: Case) -> Iterator[str]:
    """What is told of the ends of a batch's jobs is what they are."""
    for place, entry in case.of(Told, Over):
        if isinstance(entry, Told) and isinstance(entry.fact, BatchEnded):
            batch_id, counts = entry.fact.batch_id, entry.fact.counts
        elif isinstance(entry, Over):
            batch_id, counts = entry.batch_id, entry.states
        else:
            continue
        found = Counter(str(row.status) for row in _members(case.batches.get(batch_id), case.rows))
        if dict(counts) != dict(found):
            yield f"{place}: the jobs of {short(batch_id)} are told to have ended as {dict(counts)}, and on disk are {dict(found)}"


def _members(batch: BatchRow | None, rows: Rows) -> Iterator[Row]:
    return (row for row in rows.values() if batch is not None and batch.has(row.id))


def the_last_job_comes_at_the_end(case: Case) -> Iterator[str]:
    """The job for the end of a batch is there when the batch has ended, not before, and once."""
    lasts: dict[bytes, bytes] = {}
    for _, entry in case.of(Sent):
        if entry.last is not None:
            lasts[entry.last] = entry.batch_id
    for place, snapshot in case.snapshots if lasts else ():
        made = Counter(lasts[row.data] for row in snapshot.rows.values() if row.retry_of is None and row.data in lasts)
        for batch_id in dict.fromkeys(lasts.values()):
            batch = snapshot.batches.get(batch_id)
            due = batch is not None and batch.has_last and batch.completed_at is not None
            if made[batch_id] != due:
                yield f"{place}: {made[batch_id]} jobs were made for the end of {short(batch_id)}, which is {batch}"
