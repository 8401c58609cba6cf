"""What can be asked of a library's records: what a filter takes, and how it refuses the rest."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.jobs.errors import BadArgument
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import PAGE_MOST, JobFilter

STATUSES = (
    "queued, waiting, awaiting_children, running, pausing, paused, cancelling, ending, quarantined, completed, completed_with_errors, failed,"
    " cancelled"
)


def test_a_filter_without_parts_wants_any_hundred() -> None:
    wanted = JobFilter()
    assert (wanted.statuses, wanted.limit) == (None, 100)


@pytest.mark.parametrize(
    ("status", "statuses"),
    [
        (None, None),
        (Status.PAUSED, (Status.PAUSED,)),
        ("paused", (Status.PAUSED,)),
        ((Status.PAUSED, "failed"), (Status.PAUSED, Status.FAILED)),
        ((), ()),
    ],
)
def test_one_status_or_several_are_wanted_and_their_words_will_do(status: Any, statuses: tuple[Status, ...] | None) -> None:
    wanted = JobFilter(status=status).statuses
    assert wanted == statuses
    assert all(type(each) is Status for each in wanted or ())


@pytest.mark.parametrize(
    ("part", "value", "text"),
    [
        ("limit", 0, f"limit=0 is not an integer from 1 to {PAGE_MOST}"),
        ("limit", PAGE_MOST + 1, f"limit=10001 is not an integer from 1 to {PAGE_MOST}"),
        ("limit", True, f"limit=True is not an integer from 1 to {PAGE_MOST}"),
        ("limit", "9", f"limit='9' is not an integer from 1 to {PAGE_MOST}"),
        ("status", "stopped", f"status='stopped' is not one of {STATUSES}, nor a tuple of them"),
        ("status", ("paused", None), f"status=None is not one of {STATUSES}, nor a tuple of them"),
        ("status", ["paused"], f"status=['paused'] is not one of {STATUSES}, nor a tuple of them"),
        ("name", 3, "name=3 is not UTF-8 text"),
        ("group", b"g", "group=b'g' is not UTF-8 text"),
        ("tag", "\udcff", r"tag='\udcff' is not UTF-8 text"),
        ("requested_by", ["me"], "requested_by=['me'] is not UTF-8 text"),
        ("key", "", "key='', which has 0, is not text or bytes of 1 to 512 bytes"),
        ("key", 5, "key=5 is not text or bytes of 1 to 512 bytes"),
        ("after", "0197a3c2-5b7e-7c00-8000-1f2e3d4c5b6a", "after='0197a3c2-5b7e-7c00-8000-1f2e3d4c5b6a' is not a job id (16 bytes)"),
        ("after", b"short", "after=b'short' is not a job id (16 bytes)"),
    ],
)
def test_a_part_that_could_be_true_of_no_job_is_refused_by_name_and_value(part: str, value: Any, text: str) -> None:
    with pytest.raises(BadArgument) as caught:
        JobFilter(**{part: value})
    assert str(caught.value) == text
