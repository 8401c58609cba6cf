"""Every field of a Submission: what it takes, and how it refuses the rest, naming the field, the value and the way out."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from callboard.jobs.errors import BadSubmission, UsageError
from callboard.jobs.job import Job
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.submission import OnDuplicate, Priority, Submission, key_bytes


@dataclass
class Sweep(Job, name="test_submission.sweep"):
    room: str = "hall"

    def run(self, ctx: Any) -> None: ...


class Shy:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def endless() -> Iterator[str]:
    while True:
        yield "tag"


def test_a_bare_submission_leaves_every_field_unset() -> None:
    submission = Submission(Sweep())
    assert (submission.key, submission.group, submission.delay, submission.run_at) == (None, None, None, None)
    assert (submission.priority, submission.retry, submission.tags) == (None, None, None)
    assert (submission.on_duplicate, submission.requested_by) == (None, None)
    assert (submission.parent, submission.local) == (None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "k"},
        {"key": b"\x00"},
        {"key": "x" * 512},
        {"key": "ä" * 256},
        {"group": "g" * 200},
        {"priority": 0},
        {"priority": 255},
        {"priority": Priority.IDLE},
        {"priority": Priority.NORMAL},
        {"group": "grüße"},
        {"key": "\u00e9" * 256},
        {"tags": ()},
        {"tags": ("grüße",)},
        *({"on_duplicate": way} for way in OnDuplicate),
        {"parent": "a", "local": "b"},
        {"delay": None, "run_at": None, "priority": None, "tags": None, "on_duplicate": None},
        {"delay": 0},
        {"delay": 365 * 24 * 3600},
        {"run_at": 0.0},
        {"run_at": datetime(2099, 1, 1).timestamp()},
        {"retry": RetryPolicy(3)},
        {"tags": tuple("abcdefghijklmnopqrstuvwxyz012345")},
        {"requested_by": "someone"},
    ],
)
def test_a_value_within_its_range_is_taken(fields: dict[str, Any]) -> None:
    submission = Submission(Sweep(), **fields)
    assert {name: getattr(submission, name) for name in fields} == fields


def test_a_tag_counts_once_and_the_order_is_kept() -> None:
    assert Submission(Sweep(), tags=["b", "a", "b"]).tags == ("b", "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [each.name for each in fields(Submission)])
def test_a_submission_cannot_be_changed_behind_the_checks(field: str) -> None:
    submission = Submission(Sweep())
    before = getattr(submission, field)
    with pytest.raises(FrozenInstanceError):
        setattr(submission, field, 1000)
    with pytest.raises(FrozenInstanceError):
        delattr(submission, field)
    assert getattr(submission, field) is before
    assert not hasattr(submission, "__dict__")


JOB = Sweep()
FULL: dict[str, Any] = {
    "job": JOB, "key": "k", "group": "g", "priority": 3, "delay": 1.5, "retry": RetryPolicy(3), "tags": ("a", "b"),
    "on_duplicate": OnDuplicate.REQUEUE, "requested_by": "me", "parent": "p", "local": "l",
}  # fmt: skip


def test_every_field_has_the_argument_of_its_name_also_by_position() -> None:
    assert {each.name: getattr(Submission(**FULL), each.name) for each in fields(Submission)} == {**FULL, "run_at": None}
    values = [{**FULL, "run_at": None}[each.name] for each in fields(Submission)]
    assert Submission(*values) == Submission(**FULL)


@pytest.mark.parametrize(("field", "value"), [*FULL.items(), ("run_at", 2.5)])
def test_submissions_are_equal_if_every_field_is(field: str, value: Any) -> None:
    bare: dict[str, Any] = {"job": Sweep("bare")}
    changed = Submission(**{**bare, field: value})
    assert changed == Submission(**{**bare, field: value})
    assert changed != Submission(**bare)


def test_a_submission_shows_its_fields() -> None:
    assert repr(Submission(JOB, key="k", local="l")) == (
        "Submission(job=Sweep(room='hall'), key='k', group=None, priority=None, delay=None, run_at=None, retry=None, tags=None,"
        " on_duplicate=None, requested_by=None, parent=None, local='l')"
    )


def test_a_copy_has_the_same_fields_and_a_changed_one_is_checked() -> None:
    submission = Submission(**FULL)
    assert copy.copy(submission) == replace(submission) == copy.deepcopy(submission) == pickle.loads(pickle.dumps(submission)) == submission
    assert replace(submission, key=b"z").key == b"z"
    assert copy.copy(submission).job is JOB
    with pytest.raises(BadSubmission, match="^priority=256 is not an integer"):
        replace(submission, priority=256)


YEAR = 365 * 24 * 3600
LABEL = "is not text of 1 to 200 characters"
KEY = "is not text or bytes of 1 to 512 bytes"
PRIORITY = "is not an integer from 0 (first) to 255 (last)"
DELAY = "is not a number of seconds from 0 to 31536000"
RUN_AT = "is not a number of seconds since the epoch, as datetime.timestamp() gives, from 0 to 253402300800"
WAYS = "is not a member of OnDuplicate; there are SKIP, SUPERSEDE, REQUEUE, REJECT"
TAGS = "is not a tuple of at most 32 labels"

REFUSED: list[tuple[str, Any, str]] = [
    ("key", "", f"key='', which has 0, {KEY}"),
    ("key", b"", f"key=b'', which has 0, {KEY}"),
    ("key", 7, f"key=7 {KEY}"),
    ("key", bytearray(b"k"), f"key=bytearray(b'k') {KEY}"),
    ("key", "ä" * 257, f"key='{'ä' * 118}…, which has 514, {KEY}"),
    ("key", "a\udcff", r"key='a\udcff' has a lone surrogate; give the key as bytes"),
    ("group", "", f"group='' {LABEL}"),
    ("group", 3, f"group=3 {LABEL}"),
    ("group", "g" * 201, f"group='{'g' * 118}… {LABEL}"),
    ("group", "\ud800", r"group='\ud800' has a lone surrogate; labels are UTF-8 text"),
    ("requested_by", "", f"requested_by='' {LABEL}"),
    ("requested_by", b"me", f"requested_by=b'me' {LABEL}"),
    ("priority", -1, f"priority=-1 {PRIORITY}"),
    ("priority", 256, f"priority=256 {PRIORITY}"),
    ("priority", 1.0, f"priority=1.0 {PRIORITY}"),
    ("priority", True, f"priority=True {PRIORITY}"),
    ("priority", "high", f"priority='high' {PRIORITY}"),
    ("priority", 10**5000, f"priority=<int whose repr() raised ValueError> {PRIORITY}"),
    ("delay", -0.001, f"delay=-0.001 {DELAY}"),
    ("delay", YEAR + 1, f"delay=31536001 {DELAY}"),
    ("delay", math.nan, f"delay=nan {DELAY}"),
    ("delay", math.inf, f"delay=inf {DELAY}"),
    ("delay", True, f"delay=True {DELAY}"),
    ("delay", timedelta(seconds=5), f"delay=datetime.timedelta(seconds=5) {DELAY}"),
    ("run_at", -1, f"run_at=-1 {RUN_AT}"),
    ("run_at", 1_700_000_000_000, f"run_at=1700000000000 {RUN_AT}"),
    ("run_at", datetime(2030, 1, 1), f"run_at=datetime.datetime(2030, 1, 1, 0, 0) {RUN_AT}"),
    ("retry", 3, "retry=3 is not a RetryPolicy"),
    ("retry", RetryPolicy, "retry=<class 'callboard.jobs.retry.RetryPolicy'> is not a RetryPolicy"),
    ("on_duplicate", "skip", f"on_duplicate='skip' {WAYS}"),
    ("on_duplicate", 1, f"on_duplicate=1 {WAYS}"),
    ("parent", "", f"parent='' {LABEL}"),
    ("parent", 0, f"parent=0 {LABEL}"),
    ("local", "n" * 201, f"local='{'n' * 118}… {LABEL}"),
    ("local", "\ud800", r"local='\ud800' has a lone surrogate; labels are UTF-8 text"),
    ("tags", "photos", f"tags='photos' {TAGS}"),
    ("tags", b"photos", f"tags=b'photos' {TAGS}"),
    ("tags", 3, f"tags=3 {TAGS}"),
    ("tags", {"a": 1}, f"tags={{'a': 1}} {TAGS}"),
    ("tags", ("t",) * 33, f"tags={str(('t',) * 33)[:119]}… {TAGS}"),
    ("tags", ("a", ""), f"tags[1]='' {LABEL}"),
    ("tags", (None,), f"tags[0]=None {LABEL}"),
    ("tags", ("a", "b", "\udc80"), r"tags[2]='\udc80' has a lone surrogate; labels are UTF-8 text"),
    ("tags", ([],), f"tags[0]=[] {LABEL}"),
    ("group", Shy(), f"group=<Shy whose repr() raised RuntimeError> {LABEL}"),
]


@pytest.mark.parametrize(("field", "value", "text"), REFUSED, ids=[f"{field}-{index}" for index, (field, _, _) in enumerate(REFUSED)])
def test_a_value_out_of_range_is_refused_by_field_value_and_what_is_allowed(field: str, value: Any, text: str) -> None:
    with pytest.raises(BadSubmission) as caught:
        Submission(Sweep(), **{field: value})
    assert str(caught.value) == text


def test_an_iterator_is_no_tuple_of_tags_and_is_not_read() -> None:
    with pytest.raises(BadSubmission, match=r"^tags=<generator object endless at 0x\w+> is not a tuple of at most 32 labels$"):
        Submission(Sweep(), tags=endless())  # type: ignore[arg-type]


@pytest.mark.parametrize("job", [None, "resize", {"room": "hall"}, Sweep, object()])
def test_only_an_instance_of_a_job_can_be_submitted(job: Any) -> None:
    with pytest.raises(BadSubmission) as caught:
        Submission(job)
    assert str(caught.value) == f"job={job!r} is not a Job; submit an instance of a Job subclass"


def test_delay_and_run_at_exclude_each_other() -> None:
    with pytest.raises(BadSubmission, match=r"^delay=1 and run_at=2: give one of the two$"):
        Submission(Sweep(), delay=1, run_at=2)


def test_whoever_catches_usage_errors_or_value_errors_catches_these() -> None:
    assert issubclass(BadSubmission, UsageError)
    assert issubclass(BadSubmission, ValueError)


def test_text_and_the_same_bytes_are_one_key() -> None:
    assert key_bytes("grüße") == key_bytes("grüße".encode())


def test_keys_are_compared_byte_by_byte_so_look_alikes_differ() -> None:
    assert key_bytes("\u00e9") != key_bytes("e\u0301")


def test_every_named_priority_lies_between_first_and_last_and_they_are_in_order() -> None:
    assert list(Priority) == sorted(Priority)
    assert (min(Priority), max(Priority)) == (0, 255)
