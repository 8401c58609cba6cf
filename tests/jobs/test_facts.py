"""What the facts of a batch, and of a job that was superseded, say."""

from __future__ import annotations

from callboard.jobs.errors import JobCancelled as JobCancelledError
from callboard.jobs.errors import Superseded
from callboard.jobs.events import ENDS, BatchEnded, BatchSubmitted, Fact, JobCancelled

FIRST, LAST, BATCH = b"1" * 16, b"9" * 16, b"b" * 16


def test_a_cancelled_job_was_superseded_by_nothing_unless_it_says_so() -> None:
    assert JobCancelled(1, 2, FIRST, "sweep").superseded_by is None
    assert JobCancelled(1, 2, FIRST, "sweep", LAST).superseded_by == LAST


def test_a_batch_is_told_by_its_range_and_its_counts_in_this_order() -> None:
    fact = BatchSubmitted(1, 2, FIRST, "", BATCH, 100_000, FIRST, LAST, {"submitted": 99_999, "failed": 1})
    assert (fact.epoch, fact.n, fact.job_id, fact.name, fact.batch_id, fact.count) == (1, 2, FIRST, "", BATCH, 100_000)
    assert (fact.first_id, fact.last_id, fact.counts) == (FIRST, LAST, {"submitted": 99_999, "failed": 1})
    ended = BatchEnded(1, 3, b"", "", BATCH, {"completed": 99_999})
    assert (ended.n, ended.batch_id, ended.counts) == (3, BATCH, {"completed": 99_999})


def test_the_facts_of_a_batch_are_facts_and_can_be_put_into_a_set_and_end_no_job() -> None:
    facts: set[Fact] = {
        BatchSubmitted(1, 2, FIRST, "", BATCH, 1, FIRST, FIRST, {"submitted": 1}),
        BatchSubmitted(1, 2, FIRST, "", BATCH, 1, FIRST, FIRST, {"submitted": 1}),
        BatchEnded(1, 3, b"", "", BATCH, {"completed": 1}),
    }
    assert len(facts) == 2
    assert not [fact for fact in facts if isinstance(fact, ENDS)]


def test_whoever_catches_a_cancelled_job_catches_a_superseded_one_and_learns_by_which() -> None:
    error = Superseded("job 1 was superseded by job 9", job_id=FIRST, by=LAST)
    assert isinstance(error, JobCancelledError)
    assert (str(error), error.job_id, error.by) == ("job 1 was superseded by job 9", FIRST, LAST)
