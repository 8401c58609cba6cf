"""What travels through a control socket arrives as it was sent, and nothing else is ever made of what arrives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs import errors, events
from callboard.jobs.duplicates import Answer
from callboard.jobs.errors import LibraryBusy, NotAllowed, NotDecodable, NotEncodable, OutcomeUnknown
from callboard.jobs.events import Fact, FactsLost, JobCompleted, JobFailed, ProgressMade
from callboard.jobs.lifecycle import Pauser, Status
from callboard.jobs.progress import Progress
from callboard.jobs.record import JobPage, JobRecord, Statistics, Warned
from callboard.jobs.submission import Met, Submitted
from callboard.persistence.frames import HEAD, REPLY, REQUEST, FrameReader, error_of, error_tree, frame, value_of

ID = bytes(range(16))
RECORD = JobRecord(
    id=ID, name="copy", version=1, status=Status.PAUSED, priority=128, key=b"\xff", group=None, tags=("a", "b"), requested_by=None,
    retry_of=None, created_at=1.5, run_at=None, started_at=2.0, ended_at=None, attempt=1, crashes=0, running_seconds=0.5,
    waiting_seconds=0.0, warnings=0, error="e", progress=Progress(done=3, total=9, details={"is": "JobRecord", "n": [1]}),
    pausers=frozenset({Pauser.USER, Pauser.JOB}), result=b"\x00\xff",
)  # fmt: skip
VALUES = (
    RECORD, JobPage((RECORD,), 3, 4), Statistics({"queued": 1}, {}, None), (Warned(1, None, "x"), Warned(2, "i", "y")), Submitted(ID, True),
    JobCompleted(1, 2, ID, "n", b"r", 3), JobFailed(1, 3, ID, "n", "error", "trace"), ProgressMade(ID, "n", Progress(bytes_done=7)),
    FactsLost(1, 2, 9), None, True, 17, (1, 2), "paused",
)  # fmt: skip


def there_and_back(value: object) -> object:
    [content] = FrameReader(REPLY).feed(frame({"ok": value}, REPLY))
    return value_of(content["ok"])


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_arrives_as_it_was_sent(value: object) -> None:
    arrived = there_and_back(value)
    assert arrived == value
    assert type(arrived) is type(value)


def test_what_became_of_the_job_that_had_the_key_travels_with_the_answer() -> None:
    met = Met(Answer.REQUEUED, ID, raised=False, waiting=True)
    arrived = there_and_back(Submitted(ID, False, None, "n", met))
    assert isinstance(arrived, Submitted) and arrived.met is not None and arrived.met == met and isinstance(arrived.met.outcome, Answer)
    for wrong in (7, {}, (), ("no such", ID), ("requeued",), ("requeued", ID, False, True, 1)):
        with pytest.raises(errors.NotDecodable):
            value_of({"is": "Submitted", "job_id": ID, "met": wrong})


def test_which_jobs_an_error_is_about_travels_with_it() -> None:
    for error, name, part in (
        (errors.Superseded("s", job_id=ID, by=ID[::-1]), "by", ID[::-1]), (errors.Superseded("s", job_id=ID), "job_id", ID),
        (LibraryBusy("in use", pid=7), "pid", 7), (OutcomeUnknown("who knows", token=ID), "token", ID),
        (errors.ChildrenFailed("c", job_id=ID, ids=(ID, ID), count=2), "ids", (ID, ID)),
    ):  # fmt: skip
        [content] = FrameReader(REPLY).feed(frame({"error": error_tree(error)}, REPLY))
        assert getattr(error_of(content["error"]), name) == part
    assert type(error_of({"type": "NotAllowed", "text": "t", "with": {"by": ID, "pid": "x"}})) is NotAllowed
    assert type(error_of({"type": "NotAllowed", "text": "t", "with": 7})) is NotAllowed


def test_every_fact_can_travel() -> None:
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Fact)]
    assert len(kinds) > 10
    for kind in kinds:
        assert there_and_back(kind(1, 2, ID, "name")) == kind(1, 2, ID, "name")


def test_a_frame_that_comes_in_single_bytes_is_whole_at_the_last_one() -> None:
    reader = FrameReader(REQUEST)
    blob = frame({"id": 1}, REQUEST) + frame({"id": 2}, REQUEST)
    found = [(at, content["id"]) for at in range(len(blob)) for content in reader.feed(blob[at : at + 1])]
    assert found == [(len(blob) // 2 - 1, 1), (len(blob) - 1, 2)]
    assert not reader.begun


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(bytes(4), id="empty"),
        pytest.param((REQUEST.bytes + 1).to_bytes(4), id="too long"),
        pytest.param(b"\0\0\0\1\xc1", id="no msgpack"),
        pytest.param(b"\0\0\0\2\x01\x01", id="two values"),
        pytest.param(b"\0\0\0\1\x90", id="a list"),
        pytest.param(b"\0\0\0\3\x81\x01\x02", id="an int key"),
    ],
)
def test_what_is_no_frame_is_refused_as_such(sent: bytes) -> None:
    with pytest.raises(NotDecodable):
        FrameReader(REQUEST).feed(sent)


def test_a_length_over_the_limit_is_refused_before_its_bytes_are_kept() -> None:
    reader = FrameReader(REQUEST)
    with pytest.raises(NotDecodable, match="limit is 1,048,576"):
        reader.feed((1 << 31).to_bytes(HEAD))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_make_anything_but_frames_or_one_error(data: bytes, framed: bool) -> None:
    try:
        found = FrameReader(REQUEST).feed(len(data).to_bytes(HEAD) + data if framed else data)
    except NotDecodable:
        return
    assert all(type(content) is dict for content in found)


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers(0, 9) | st.text(max_size=3) | st.binary(max_size=3),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["is", "id", "records", "status", "progress", "pausers"]), inner | st.just("JobRecord"), max_size=4),
        max_leaves=8,
    )
)
def test_no_answer_makes_anything_but_a_value_or_one_error(tree: object) -> None:
    try:
        value_of(tree)
    except NotDecodable:
        return


def test_an_answer_of_a_class_that_is_not_known_says_to_upgrade() -> None:
    with pytest.raises(NotDecodable, match="'Tomorrow'.*upgrade"):
        value_of({"is": "Tomorrow"})


def test_what_is_too_large_is_refused_where_it_is_sent() -> None:
    with pytest.raises(NotEncodable, match="1,048,576 bytes"):
        frame({"fields": {"x": bytes(REQUEST.bytes)}}, REQUEST)


@pytest.mark.parametrize("error", [NotAllowed("it has ended"), LibraryBusy("in use", pid=7), OutcomeUnknown("who knows", token=ID)])
def test_an_error_arrives_as_its_class_with_its_text(error: errors.CallboardError) -> None:
    [content] = FrameReader(REPLY).feed(frame({"error": error_tree(error)}, REPLY))
    arrived = error_of(content["error"])
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


NO_ERRORS = [None, 7, {}, {"type": 7}, *({"type": name, "text": "x"} for name in ("Exception", "annotations", "_storable", "Interrupted"))]


@pytest.mark.parametrize("tree", NO_ERRORS)
def test_an_error_of_no_known_name_is_still_one_of_ours(tree: object) -> None:
    assert type(error_of(tree)) is errors.CallboardError


def test_an_error_that_is_not_ours_does_not_travel_as_itself() -> None:
    tree = error_tree(ZeroDivisionError("by zero"))
    assert tree == {"type": "StoreUnavailable", "text": "the library's owner met an error: ZeroDivisionError: by zero"}
