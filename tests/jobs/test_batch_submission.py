"""What a batch takes and what it refuses, by field and value; and that it leaves the submissions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import Any
from uuid import uuid4

import pytest

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.errors import BadSubmission
from callboard.jobs.job import Job
from callboard.jobs.submission import OnDuplicate, Priority, Submission


@dataclass
class Haul(Job, name="test_batch_submission.haul"):
    crate: int = 0

    def run(self, ctx: Any) -> None: ...


@dataclass
class Loop(Job, name="test_batch_submission.loop"):
    crates: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.crates)

    def run(self, ctx: Any) -> None: ...


HAUL, UUID = Haul(1), uuid4()


def touchy() -> Iterator[Job]:
    raise AssertionError("somebody looked")
    yield Haul()


def test_a_bare_batch_has_no_defaults_and_skips_duplicates() -> None:
    jobs = [Haul(1), Haul(2)]
    batch = BatchSubmission(jobs)
    assert batch.submissions is jobs
    assert {each.name: getattr(batch, each.name) for each in fields(batch) if each.name != "submissions"} == {
        "default_group": None, "default_priority": None, "default_tags": None, "on_duplicate": OnDuplicate.SKIP, "requested_by": None,
        "batch_id": None, "whole": False, "on_complete": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"default_group": "g" * 200},
        {"default_priority": 0},
        {"default_priority": Priority.IDLE},
        {"default_tags": ()},
        {"default_tags": ("a", "b")},
        {"requested_by": "someone"},
        {"batch_id": UUID.bytes},
        {"whole": True},
        {"on_complete": HAUL},
        {"on_complete": Submission(HAUL, key="k")},
        *({"on_duplicate": way} for way in OnDuplicate),
    ],
)
def test_a_value_within_its_range_is_taken(fields: dict[str, Any]) -> None:
    batch = BatchSubmission((), **fields)
    assert {name: getattr(batch, name) for name in fields} == fields
    assert replace(batch) == batch


def test_a_uuid_is_kept_as_its_bytes() -> None:
    assert BatchSubmission((), batch_id=UUID).batch_id == UUID.bytes


def test_a_default_tag_counts_once_and_the_order_is_kept() -> None:
    assert BatchSubmission((), default_tags=["b", "a", "b"]).default_tags == ("b", "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", [touchy(), (), {HAUL.crate: HAUL}.values(), (each for each in "not jobs, which is seen later")])
def test_the_submissions_are_not_looked_at(jobs: Any) -> None:
    assert BatchSubmission(jobs).submissions is jobs


LABEL = "is not text of 1 to 200 characters"
PRIORITY = "is not an integer from 0 (first) to 255 (last)"
WAYS = "is not a member of OnDuplicate; there are SKIP, SUPERSEDE, REQUEUE, REJECT"
TAGS = "is not a tuple of at most 32 labels"
BATCH_ID = "is not a UUID or its 16 bytes; uuid.uuid4() makes one"
ITERABLE = "is not an iterable of jobs and submissions; give a list, or a generator"

REFUSED: list[tuple[str, Any, str]] = [
    ("submissions", HAUL, f"submissions=Haul(crate=1) {ITERABLE}"),
    ("submissions", Loop((1,)), f"submissions=Loop(crates=(1,)) {ITERABLE}"),
    ("submissions", None, f"submissions=None {ITERABLE}"),
    ("submissions", "jobs", f"submissions='jobs' {ITERABLE}"),
    ("submissions", b"jobs", f"submissions=b'jobs' {ITERABLE}"),
    ("submissions", list, f"submissions=<class 'list'> {ITERABLE}"),
    ("default_group", "", f"default_group='' {LABEL}"),
    ("default_group", 3, f"default_group=3 {LABEL}"),
    ("default_priority", 256, f"default_priority=256 {PRIORITY}"),
    ("default_priority", True, f"default_priority=True {PRIORITY}"),
    ("default_tags", "photos", f"default_tags='photos' {TAGS}"),
    ("default_tags", ("a", ""), f"default_tags[1]='' {LABEL}"),
    ("on_duplicate", None, f"on_duplicate=None {WAYS}"),
    ("on_duplicate", "skip", f"on_duplicate='skip' {WAYS}"),
    ("requested_by", "", f"requested_by='' {LABEL}"),
    ("batch_id", "", f"batch_id='' {BATCH_ID}"),
    ("batch_id", str(UUID), f"batch_id='{UUID}' {BATCH_ID}"),
    ("batch_id", b"", f"batch_id=b'' {BATCH_ID}"),
    ("batch_id", b"x" * 17, f"batch_id=b'{'x' * 17}' {BATCH_ID}"),
    ("whole", 1, "whole=1 is not True or False"),
    ("whole", None, "whole=None is not True or False"),
    ("on_complete", Haul, f"on_complete={Haul!r} is not a Submission or a Job"),
    ("on_complete", "haul", "on_complete='haul' is not a Submission or a Job"),
    ("on_complete", Submission(HAUL, parent="a"), "on_complete has parent= or local=, which name items of a batch; it is none of them"),
    ("on_complete", Submission(HAUL, local="a"), "on_complete has parent= or local=, which name items of a batch; it is none of them"),
]


@pytest.mark.parametrize(("field", "value", "text"), REFUSED, ids=[f"{field}-{index}" for index, (field, _, _) in enumerate(REFUSED)])
def test_a_value_out_of_range_is_refused_by_field_value_and_what_is_allowed(field: str, value: Any, text: str) -> None:
    with pytest.raises(BadSubmission) as caught:
        BatchSubmission(**{"submissions": (), field: value})
    assert str(caught.value) == text


def test_one_submission_is_no_batch() -> None:
    with pytest.raises(BadSubmission, match=f"^submissions=Submission.* {ITERABLE}$"):
        BatchSubmission(Submission(HAUL))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [each.name for each in fields(BatchSubmission)])
def test_a_batch_cannot_be_changed_behind_the_checks(field: str) -> None:
    batch = BatchSubmission(())
    with pytest.raises(FrozenInstanceError):
        setattr(batch, field, None)
    assert not hasattr(batch, "__dict__")
