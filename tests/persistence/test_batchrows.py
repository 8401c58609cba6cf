"""Items of a batch as packed rows: each checked by itself, the last of equal keys wins, the same content has the same digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from batchwork import Work, chunks

from callboard.jobs.batch import BatchSubmission
from callboard.jobs.batch_items import FailedItem, OverriddenItem
from callboard.jobs.errors import BadJobType, BadSubmission, NotEncodable
from callboard.jobs.job import Job
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.submission import OnDuplicate, Priority, Submission
from callboard.persistence import batchrows
from callboard.persistence.batchrows import BatchEncoder
from callboard.persistence.checksum import job_checksum
from callboard.persistence.codec import decode, encode
from callboard.persistence.jobdata import new_job
from callboard.persistence.newrows import HEAD
from callboard.persistence.writes import Chunk


@dataclass
class Deep(Job, name="deep", version=3, resumable=False):
    files: tuple[str, ...] = ()

    def run(self, ctx: Any) -> None: ...


@dataclass
class Nothing(Job, name="abstract", version=1, abstract=True):
    def run(self, ctx: Any) -> None: ...


def one(items: list[Any], **batch: Any) -> Chunk:
    [chunk] = chunks(items, **batch)
    return chunk


def test_a_row_of_a_batch_is_what_a_single_submission_would_store() -> None:
    retry = RetryPolicy()
    items: list[Any] = [
        Work(1), Deep(("a", "b")), Submission(Work(2), key="käy", priority=Priority.HIGH, group="g", tags=("t",), requested_by="who"),
        Submission(Deep(), key=b"\0", delay=1.5, retry=retry), Submission(Work(3, "x" * 100), run_at=1e9, on_duplicate=OnDuplicate.REJECT),
    ]  # fmt: skip
    chunk = one(items)
    assert (chunk.start, chunk.count, chunk.places, chunk.others, chunk.last) == (0, 5, None, {}, True)
    for item, row, key in zip(items, chunk.rows, chunk.keys, strict=True):
        single, shape = new_job(item), chunk.shapes[int(row[:6])]
        length = int(row[6:9])
        assert (row[HEAD : HEAD + length] or None) == key == single.key
        assert row[HEAD + length :] == single.data
        assert row[9:HEAD] == job_checksum(single.name, single.version, single.data)
        for name in shape._fields:
            assert getattr(shape, name) == getattr(single, name), name


def test_a_default_of_the_batch_applies_only_where_an_item_left_it_unset() -> None:
    said = Submission(Work(), priority=Priority.NORMAL, group="own", tags=(), on_duplicate=OnDuplicate.SKIP, requested_by="me")
    more: dict[str, Any] = dict(default_priority=7, default_group="g", default_tags=("t",), on_duplicate=OnDuplicate.REJECT, requested_by="all")
    chunk = one([Work(), said, Submission(Work(), key="k")], **more)
    plain, own, keyed = (chunk.shapes[int(row[:6])] for row in chunk.rows)
    assert plain == keyed
    assert (plain.priority, plain.group, plain.tags, plain.on_duplicate, plain.requested_by) == (7, "g", ("t",), OnDuplicate.REJECT, "all")
    assert (own.priority, own.group, own.tags, own.on_duplicate, own.requested_by) == (128, "own", (), OnDuplicate.SKIP, "me")


def test_a_bad_item_fails_alone_and_says_why() -> None:
    bad: dict[int, tuple[Any, type[Exception]]] = {
        0: (Work("x"), NotEncodable),  # type: ignore[arg-type]
        2: ("no job", BadSubmission),
        3: (Nothing.__new__(Nothing), BadJobType),
        5: (Work(2**70), NotEncodable),
        6: (Work(1, "\ud800"), NotEncodable),
        7: (Work(1, "x" * 2_000_000), NotEncodable),
    }
    chunk = one([bad[index][0] if index in bad else Work(index) for index in range(9)])
    assert (chunk.count, chunk.places) == (9, (1, 4, 8))
    assert [decode(Work, row[HEAD:]).n for row in chunk.rows] == [1, 4, 8]
    assert {index: type(item.error) for index, item in chunk.others.items() if isinstance(item, FailedItem)} == {
        index: error for index, (_, error) in bad.items()
    }


def test_what_a_plain_class_takes_by_conversion_is_stored_as_by_the_codec() -> None:
    class Text(str): ...

    job = Work(True + 1, Text("red"))
    assert one([job]).rows[0][HEAD:] == encode(job) == encode(Work(2, "red"))


def test_the_last_of_equal_keys_wins_and_the_earlier_ones_say_by_whom() -> None:
    keys = ["a", "b", "a", None, "a", "b"]
    chunk = one([Submission(Work(index), key=key) for index, key in enumerate(keys)] + [Submission(Deep(), key="a")])
    assert chunk.places == (3, 4, 5, 6)
    assert chunk.others == {0: OverriddenItem(0, 4), 1: OverriddenItem(1, 5), 2: OverriddenItem(2, 4)}


def test_a_bad_item_does_not_override_a_good_one() -> None:
    chunk = one([Submission(Work(1), key="a"), Submission(Work("x"), key="a")])  # type: ignore[arg-type]
    assert chunk.places == (0,) and set(chunk.others) == {1}


def test_an_item_whose_parent_is_missing_overrides_nobody_either() -> None:
    first, second = Submission(Work(1), key="k"), Submission(Work(2), key="k", parent="nobody")
    chunk = one([first, second, Submission(Work(3), key="k", parent="nobody"), Work(4)])
    assert chunk.places == (0, 3)
    assert chunk.rows[0].endswith(new_job(first).data)
    assert [type(chunk.others[index]) for index in (1, 2)] == [FailedItem, FailedItem]
    assert one([first, second, Submission(Work(3), key="k")]).others[0] == OverriddenItem(0, 2)


def test_chunks_follow_each_other_and_the_last_one_knows_it() -> None:
    for count, sizes in ((0, [0]), (1, [1]), (4, [4]), (8, [4, 4]), (9, [4, 4, 1])):
        cut = chunks((Work(index) for index in range(count)), 4)
        assert [chunk.count for chunk in cut] == sizes
        assert [chunk.start for chunk in cut] == [4 * index for index in range(len(cut))]
        assert [chunk.last for chunk in cut] == [False] * (len(cut) - 1) + [True]


def test_a_generator_is_read_no_further_than_needed() -> None:
    given: list[int] = []

    def items() -> Iterator[Job]:
        for index in range(100):
            given.append(index)
            yield Work(index)

    source = items()
    BatchEncoder(BatchSubmission(source), b"b" * 16).chunk(source, 10)
    assert len(given) == 11


def test_large_items_make_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Work(index, "x" * 1_000) for index in range(10)]
    encoder, source = BatchEncoder(BatchSubmission(items), b"b" * 16), iter(items)
    counts = []
    while (chunk := encoder.chunk(source, 100, 3_000)) is not None:
        counts.append(chunk.count)
    assert counts == [3, 3, 3, 1]
    assert batchrows.CHUNK_BYTES == 8 * 2**20


@pytest.mark.parametrize("raised_at", (0, 3, 4, 5))
def test_what_a_generator_gave_before_it_raised_is_in_the_chunks(raised_at: int) -> None:
    def items() -> Iterator[Job]:
        yield from (Work(index) for index in range(raised_at))
        raise OSError("gone")

    source = items()
    encoder = BatchEncoder(BatchSubmission(source), b"b" * 16)
    found: list[Chunk] = []
    while (chunk := encoder.chunk(source, 4)) is not None:
        found.append(chunk)
    assert sum(chunk.count for chunk in found) == raised_at
    assert not any(chunk.last for chunk in found)
    assert isinstance(encoder.error, OSError)


def test_the_digest_is_of_the_content_and_of_nothing_else() -> None:
    def digest(*items: Any, **batch: Any) -> bytes:
        return one(list(items), **batch).digest

    base = digest(Submission(Work(1), key="a"), Work(2))
    assert base == digest(Submission(Work(1), key="a"), Work(2), batch_id=b"x" * 16, whole=True)
    others = [
        digest(Submission(Work(1), key="b"), Work(2)), digest(Submission(Work(3), key="a"), Work(2)), digest(Work(2), Submission(Work(1), key="a")),
        digest(Submission(Work(1), key="a"), Work(2), default_priority=5), digest(Submission(Work(1), key="a"), Work(2), Work("x")),  # type: ignore[arg-type]
        digest(Submission(Work(1), key="a"), Work(2), on_duplicate=OnDuplicate.REJECT), digest(Submission(Work(1), key="a", delay=1), Work(2)),
        digest(Submission(Work(1), key="a"), Submission(Work(1), key="a"), Work(2)),
    ]  # fmt: skip
    assert len({base, *others}) == len(others) + 1


# --- parents ------------------------------------------------------------------------------------------------------------


def child(parent: str | None = None, local: str | None = None, **more: Any) -> Submission:
    return Submission(Work(**more), parent=parent, local=local)


def test_parents_are_items_of_the_batch_by_their_local_names() -> None:
    first, second = chunks([child(local="a"), child("a", "b"), child("c"), child(local="c"), child("b"), child("c", "d"), Work()], 4)
    assert first.parents == {1: 0, 2: 3}
    assert second.parents == {4: 1, 5: 3}


def test_a_parent_that_is_missing_failed_or_its_own_child_fails_the_item() -> None:
    chunk = one([
        child("nobody"), child(local="bad", n="x"), child("bad", "worse"), child("worse"), child("y", "x"), child("x", "y"), child("z", "z"),
        child("x"), child(local="twice"), child(local="twice"), child("twice"), child("y", "below"), child("below"),
    ])  # fmt: skip
    assert chunk.places == (8, 10) and chunk.parents == {10: 8}
    errors = {index: str(item.error) for index, item in chunk.others.items() if isinstance(item, FailedItem)}
    assert "is no item" in errors[0] and "failed" in errors[2] and "failed" in errors[3] and "descends from" in errors[4]
    assert "descends from" in errors[6] and "is the name of item 8 already" in errors[9]
