"""Each index of a batch is in exactly one place, whatever its chunks are made of; and the answer is small."""

from __future__ import annotations

import gc
import tracemalloc
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.batch_items import (
    BatchItem,
    ChunkOutcome,
    DeduplicatedItem,
    FailedItem,
    ItemKind,
    NotStoredItem,
    OverriddenItem,
    RejectedItem,
    RequeuedItem,
    SubmittedItem,
    SupersededItem,
    UnknownItem,
    reason,
)
from callboard.jobs.batch_outcome import BatchOutcome, BatchPlan
from callboard.jobs.errors import BadArgument, NotAccepted
from callboard.jobs.identity import IdSource, id_text, nth

K = ItemKind
FIRST = IdSource().take(1, 1_750_000_000_000, b"\x00" * 7 + b"\x01")
CARRY = (1_750_000_000_000 << 80 | 7 << 76 | 5 << 64 | 2 << 62 | (1 << 62) - 3).to_bytes(16, "big")
ERROR = ValueError("no such crate")
TOKEN = b"t" * 16


def older(i: int) -> bytes:
    return bytes([i]) * 16


def every_kind(start: int = 0) -> tuple[ChunkOutcome, list[BatchItem]]:
    """A chunk with one of each kind by its columns, one of each as an exception, and what must come out."""
    kinds = bytes((K.SUBMITTED, K.DEDUPLICATED, K.RAISED, K.SUPERSEDED, K.REQUEUED, K.REJECTED, K.UNKNOWN, K.NOT_STORED)) + bytes(9)
    columns: list[BatchItem] = [
        SubmittedItem(start, FIRST),
        DeduplicatedItem(start + 1, b"k1", older(1), False),
        DeduplicatedItem(start + 2, b"k2", older(2), True),
        SupersededItem(start + 3, nth(FIRST, 3), older(3)),
        RequeuedItem(start + 4, nth(FIRST, 4), older(4)),
        RejectedItem(start + 5, b"k5", older(5)),
        UnknownItem(start + 6, TOKEN),
        NotStoredItem(start + 7),
    ]
    others: list[BatchItem] = [
        SubmittedItem(start + 8, older(8)),
        DeduplicatedItem(start + 9, b"k9", older(9), True),
        SupersededItem(start + 10, older(10), older(110)),
        RequeuedItem(start + 11, older(11), older(111)),
        RejectedItem(start + 12, b"k12", older(12)),
        FailedItem(start + 13, ERROR),
        OverriddenItem(start + 14, start + 16),
        UnknownItem(start + 15, b"other token"),
        NotStoredItem(start + 16),
    ]
    chunk = ChunkOutcome(
        start=start, count=17, first_id=FIRST, kinds=kinds, ids=b"".join(map(older, range(17))), keys=[b"k%d" % i for i in range(17)],
        token=TOKEN, others={item.index: item for item in others},
    )  # fmt: skip
    return chunk, columns + others


# --- every accessor -----------------------------------------------------------------------------------------------------


def test_every_accessor_has_the_items_of_its_kind_in_input_order() -> None:
    chunk, items = every_kind()
    outcome = BatchOutcome([chunk], batch_id=b"b" * 16)
    assert outcome.batch_id == b"b" * 16
    assert list(outcome) == items
    assert outcome.submitted == [FIRST, older(8)]
    assert outcome.deduplicated == [items[1], items[2], items[9]]
    assert [(item.key, item.job_id, item.raised) for item in outcome.deduplicated] == [
        (b"k1", older(1), False), (b"k2", older(2), True), (b"k9", older(9), True),
    ]  # fmt: skip
    assert outcome.superseded == [(3, nth(FIRST, 3), older(3)), (10, older(10), older(110))]
    assert outcome.requeued == [(4, nth(FIRST, 4), older(4)), (11, older(11), older(111))]
    assert outcome.rejected == [(5, b"k5", older(5)), (12, b"k12", older(12))]
    assert outcome.failed == [(13, ERROR)]
    assert outcome.overridden == [(14, 16)]
    assert outcome.unknown == [(6, TOKEN), (15, b"other token")]
    assert outcome.not_stored == [7, 16]
    assert outcome.counts == {
        "submitted": 2, "deduplicated": 3, "superseded": 2, "requeued": 2, "rejected": 2, "failed": 1, "overridden": 1, "unknown": 2,
        "not_stored": 2,
    }  # fmt: skip


def test_the_id_of_an_index_is_of_the_job_that_stands_for_it() -> None:
    outcome = BatchOutcome([every_kind()[0]])
    assert list(outcome.ids) == [
        FIRST, older(1), older(2), nth(FIRST, 3), nth(FIRST, 4), None, None, None,
        older(8), older(9), older(10), older(11), None, None, None, None, None,
    ]  # fmt: skip
    assert [outcome.ids[i] for i in range(17)] == list(outcome.ids)


def test_any_index_is_answered_from_both_ends_and_a_range_of_them_as_a_list() -> None:
    first, items = every_kind()
    second, more = every_kind(17)
    items += more
    outcome = BatchOutcome([first, second])
    assert len(outcome) == 34
    assert [outcome[i] for i in range(34)] == items
    assert [outcome[i] for i in range(-34, 0)] == items
    for cut in (slice(None), slice(3, 20), slice(None, None, -1), slice(-5, None), slice(30, 99), slice(9, 2), slice(1, 33, 7)):
        assert outcome[cut] == items[cut]
    for out_of_range in (34, -35):
        with pytest.raises(IndexError, match=f"^{out_of_range} is out of range: there are 34$"):
            outcome[out_of_range]
    with pytest.raises(TypeError):
        outcome["3"]  # type: ignore[call-overload]


def test_the_items_of_a_kind_are_a_sequence_too() -> None:
    first, _ = every_kind()
    second, more = every_kind(17)
    rejected = BatchOutcome([first, second]).rejected
    assert (len(rejected), rejected[0].index, rejected[-1]) == (4, 5, more[12])
    assert rejected[1:3] == [(12, b"k12", older(12)), (22, b"k5", older(5))]
    assert more[5] in rejected
    assert rejected.index(more[5]) == 2
    assert [item.index for item in reversed(rejected)] == [29, 22, 12, 5]
    with pytest.raises(IndexError):
        rejected[4]


def test_a_sequence_compares_with_lists_and_tuples_by_its_elements() -> None:
    outcome = BatchOutcome([every_kind()[0]])
    left_over: Any = outcome.not_stored
    assert left_over == [7, 16] == left_over
    assert left_over == (7, 16)
    assert left_over != [7]
    assert left_over != [7, 17]
    assert left_over != {7, 16}
    assert BatchOutcome([every_kind()[0]]) == outcome


def test_an_empty_batch_has_nothing_anywhere() -> None:
    for outcome in (BatchOutcome([]), BatchOutcome([ChunkOutcome(start=0, count=0)])):
        assert (len(outcome), list(outcome), outcome.counts, list(outcome.ids), outcome.submitted) == (0, [], {}, [], [])
        assert outcome.complete
        assert repr(outcome) == "BatchOutcome(0 items: none)"
        with pytest.raises(IndexError):
            outcome[0]


# --- complete, or stopped -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "complete"), [(K.SUBMITTED, True), (K.DEDUPLICATED, True), (K.REJECTED, True), (K.UNKNOWN, False), (K.NOT_STORED, False)]
)
def test_a_batch_is_complete_if_nothing_is_unknown_or_left_over(kind: ItemKind, complete: bool) -> None:
    plain = ChunkOutcome(start=0, count=2, first_id=FIRST)
    chunk = ChunkOutcome(start=2, count=1, first_id=FIRST, kinds=kind, ids=older(1), keys=[b"k"])
    assert BatchOutcome([plain, chunk]).complete is complete


def test_a_batch_with_a_bad_item_is_complete_all_the_same() -> None:
    assert BatchOutcome([ChunkOutcome(start=0, count=2, first_id=FIRST, others={1: FailedItem(1, ERROR)})]).complete


def test_a_batch_that_was_stopped_says_by_what_and_is_not_complete() -> None:
    error = NotAccepted("the disk is full")
    outcome = BatchOutcome([ChunkOutcome(start=0, count=2, first_id=FIRST)], error=error)
    assert outcome.error is error
    assert not outcome.complete
    assert repr(outcome) == "BatchOutcome(2 items: submitted=2; stopped by NotAccepted: the disk is full)"
    assert BatchOutcome([]).error is None


# --- a plan -------------------------------------------------------------------------------------------------------------


def test_a_plan_has_no_ids_of_what_would_be_new_and_says_of_the_rest_why() -> None:
    kinds = bytes((K.SUBMITTED, K.DEDUPLICATED, K.SUPERSEDED, K.REQUEUED, K.SUBMITTED))
    chunk = ChunkOutcome(
        start=0, count=5, kinds=kinds, ids=b"".join(map(older, range(5))), keys=[b"k"] * 5, others={4: FailedItem(4, ERROR)}
    )  # fmt: skip
    plan = BatchPlan([chunk])
    assert (plan.planned, BatchOutcome.planned) == (True, False)
    assert plan.counts == {"submitted": 1, "deduplicated": 1, "superseded": 1, "requeued": 1, "failed": 1}
    assert list(plan.ids) == [None, older(1), None, None, None]
    assert plan.submitted == [b""]
    assert [plan.why(i) for i in range(5)] == [
        "",
        f"key b'k' is taken by job {id_text(older(1))}, which stands",
        f"takes the place of job {id_text(older(2))}",
        f"runs after job {id_text(older(3))}",
        "ValueError: no such crate",
    ]
    assert repr(plan) == "BatchPlan(5 items: submitted=1, deduplicated=1, superseded=1, requeued=1, failed=1)"


def test_every_kind_of_item_has_its_reason() -> None:
    key = f"key b'k' is taken by job {id_text(older(1))}"
    assert reason(DeduplicatedItem(0, b"k", older(1), True)) == f"{key}, which stands, now with this priority"
    assert reason(RejectedItem(0, b"k", older(1))) == f"{key}, and on_duplicate is REJECT"
    assert reason(OverriddenItem(0, 9)) == "superseded in the batch by item 9, which has the same key"
    assert reason(UnknownItem(0, TOKEN)) == "may or may not be stored; its token finds out after the library has been opened again"
    assert reason(NotStoredItem(0)) == "not stored; send it again"


# --- chunks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_id", [FIRST, CARRY])
def test_ids_of_a_plain_chunk_are_in_a_row_also_around_an_exception_and_over_a_carry(first_id: bytes) -> None:
    ids = [nth(first_id, i) for i in range(6)]
    plain = BatchOutcome([ChunkOutcome(start=0, count=6, first_id=first_id)])
    assert list(plain.ids) == list(plain.submitted) == ids == [item.job_id for item in plain if isinstance(item, SubmittedItem)]
    assert plain.ids[2:4] == plain.submitted[2:4] == ids[2:4]
    marked = BatchOutcome([ChunkOutcome(start=0, count=6, first_id=first_id, others={2: FailedItem(2, ERROR)})])
    assert list(marked.ids) == [*ids[:2], None, *ids[3:]]
    assert marked.submitted == [*ids[:2], *ids[3:]]


@pytest.mark.parametrize(("chunks", "text"), [
    ([(1, 2)], "a chunk starts at item 1, the one before it ends at 0: they must follow each other"),
    ([(0, 2), (3, 1)], "a chunk starts at item 3, the one before it ends at 2: they must follow each other"),
    ([(0, 2), (1, 2)], "a chunk starts at item 1, the one before it ends at 2: they must follow each other"),
])  # fmt: skip
def test_chunks_must_follow_each_other(chunks: list[tuple[int, int]], text: str) -> None:
    with pytest.raises(BadArgument) as caught:
        BatchOutcome([ChunkOutcome(start=start, count=count) for start, count in chunks])
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"start": -1}, "neither may be below 0"),
        ({"count": -1}, "neither may be below 0"),
        ({"kinds": bytes(2)}, r"kinds=b'\x00\x00' is not one ItemKind for each"),
        ({"kinds": b"\x00\x00\x0a"}, r"kinds=b'\x00\x00\n' is not one ItemKind for each"),
        ({"kinds": K.SUPERSEDED}, "ids has 0 bytes, not 16 for each"),
        ({"kinds": b"\x00\x00\x04", "ids": b"x" * 47}, "ids has 47 bytes, not 16 for each"),
        ({"ids": b"x"}, "ids has 1 bytes, not 16 for each"),
        ({"kinds": K.REJECTED, "ids": bytes(48)}, "keys has 0, not one for each"),
        ({"kinds": b"\x00\x00\x02", "ids": bytes(48), "keys": [b"k"]}, "keys has 1, not one for each"),
        ({"keys": [b"k"] * 4}, "keys has 4, not one for each"),
        ({"others": {9: NotStoredItem(9)}}, "others has NotStoredItem(index=9) under 9"),
        ({"others": {13: NotStoredItem(13)}}, "others has NotStoredItem(index=13) under 13"),
        ({"others": {11: NotStoredItem(1)}}, "others has NotStoredItem(index=1) under 11"),
        ({"kinds": K.FAILED}, "item 10 is FAILED, and others does not have it"),
        ({"kinds": b"\x00\x06\x00", "others": {10: NotStoredItem(10)}}, "item 11 is FAILED, and others does not have it"),
        ({"kinds": b"\x00\x00\x07"}, "item 12 is OVERRIDDEN, and others does not have it"),
    ],
)
def test_columns_that_do_not_fit_are_refused_when_the_chunk_is_made(columns: dict[str, Any], text: str) -> None:
    values = {"start": 10, "count": 3, **columns}
    with pytest.raises(BadArgument) as caught:
        ChunkOutcome(**values)
    assert str(caught.value) == f"chunk of {values['count']} items from {values['start']} on: {text}"


def test_an_item_given_apart_may_have_its_kind_in_the_column_too() -> None:
    chunk = ChunkOutcome(start=0, count=2, first_id=FIRST, kinds=bytes((0, K.FAILED)), others={1: FailedItem(1, ERROR)})
    assert BatchOutcome([chunk]).counts == {"submitted": 1, "failed": 1}


ITEMS: dict[ItemKind, Callable[[int], BatchItem]] = {
    K.SUBMITTED: lambda index: SubmittedItem(index, older(201)),
    K.DEDUPLICATED: lambda index: DeduplicatedItem(index, b"key", older(202)),
    K.SUPERSEDED: lambda index: SupersededItem(index, older(203), older(204)),
    K.REQUEUED: lambda index: RequeuedItem(index, older(205), older(206)),
    K.REJECTED: lambda index: RejectedItem(index, b"key", older(207)),
    K.FAILED: lambda index: FailedItem(index, ERROR),
    K.OVERRIDDEN: lambda index: OverriddenItem(index, index + 1),
    K.UNKNOWN: lambda index: UnknownItem(index, TOKEN),
    K.NOT_STORED: lambda index: NotStoredItem(index),
}
BY_COLUMN = [kind for kind in ItemKind if kind not in (K.FAILED, K.OVERRIDDEN)]


@st.composite
def outcomes(draw: st.DrawFn) -> BatchOutcome:
    chunks: list[ChunkOutcome] = []
    start = 0
    for count in draw(st.lists(st.integers(0, 6), max_size=5)):
        kinds: ItemKind | bytes = draw(st.sampled_from(BY_COLUMN))
        if draw(st.booleans()):
            kinds = bytes(draw(st.lists(st.sampled_from(BY_COLUMN), min_size=count, max_size=count)))
        apart = draw(st.dictionaries(st.integers(start, start + count - 1), st.sampled_from(list(ITEMS)))) if count else {}
        chunks.append(
            ChunkOutcome(
                start=start, count=count, first_id=draw(st.sampled_from((FIRST, CARRY))), kinds=kinds,
                ids=b"".join(map(older, range(count))), keys=[b"k%d" % i for i in range(count)], token=TOKEN,
                others={index: ITEMS[kind](index) for index, kind in apart.items()},
            )
        )  # fmt: skip
        start += count
    return BatchOutcome(chunks)


@given(outcomes())
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_each_index_is_in_exactly_one_place_and_every_way_to_ask_agrees(outcome: BatchOutcome) -> None:
    items = [outcome[i] for i in range(len(outcome))]
    assert list(outcome) == items
    assert [item.index for item in items] == list(range(len(items)))
    columns: list[Sequence[BatchItem]] = [
        outcome.deduplicated, outcome.superseded, outcome.requeued, outcome.rejected, outcome.failed, outcome.overridden, outcome.unknown,
    ]  # fmt: skip
    submitted = [item for item in items if isinstance(item, SubmittedItem)]
    found = sorted([*(item for column in columns for item in column), *submitted, *map(NotStoredItem, outcome.not_stored)])
    assert [item.index for item in found] == list(range(len(items)))
    assert list(outcome.submitted) == [item.job_id for item in submitted]
    for column in columns:
        assert [item.index for item in column] == sorted(item.index for item in column)
        assert [column[i] for i in range(len(column))] == list(column)
        assert list(column) == [item for item in items if column and type(item) is type(column[0])]
    assert sum(outcome.counts.values()) == len(items)
    assert 0 not in outcome.counts.values()
    assert {name: len(getattr(outcome, name)) for name in outcome.counts} == outcome.counts
    assert len(outcome.ids) == len(items)


# --- size ---------------------------------------------------------------------------------------------------------------

COUNT, CHUNK = 100_000, 10_000


def grown_by(make: Callable[[], Any]) -> int:
    """Bytes that are held while what it makes is."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = make()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        del held
        return after - before
    finally:
        tracemalloc.stop()


def asked(outcome: BatchOutcome) -> BatchOutcome:
    """Everything that it keeps once it has been asked for."""
    assert len(outcome) == COUNT
    for name in ("submitted", "deduplicated", "superseded", "requeued", "rejected", "failed", "overridden", "unknown", "not_stored"):
        assert len(getattr(outcome, name)) == outcome.counts.get(name, 0)
    assert outcome[COUNT // 2].index == COUNT // 2
    return outcome


def chunks_of(make: Callable[[int], ChunkOutcome]) -> list[ChunkOutcome]:
    return [make(start) for start in range(0, COUNT, CHUNK)]


def test_100_000_plain_outcomes_are_less_than_4_mb() -> None:
    def plain() -> BatchOutcome:
        return asked(BatchOutcome(chunks_of(lambda start: ChunkOutcome(start=start, count=CHUNK, first_id=nth(FIRST, start)))))

    assert grown_by(plain) < 100_000, "in fact nothing is kept of a plain item"


def test_100_000_outcomes_with_a_bad_one_in_a_hundred_are_less_than_4_mb() -> None:
    def marked(start: int) -> ChunkOutcome:
        others = {index: FailedItem(index, ERROR) for index in range(start, start + CHUNK, 100)}
        return ChunkOutcome(start=start, count=CHUNK, first_id=nth(FIRST, start), others=others)

    assert grown_by(lambda: asked(BatchOutcome(chunks_of(marked)))) < 4_000_000


@pytest.mark.parametrize("kind", [K.DEDUPLICATED, K.RAISED, K.REJECTED, None])
def test_100_000_duplicates_are_less_than_20_mb_with_their_keys(kind: ItemKind | None) -> None:
    def duplicates(start: int) -> ChunkOutcome:
        ids = b"".join(nth(FIRST, start + i) for i in range(CHUNK))
        keys = [b"bucket/photos/2031/%020d.raw" % (start + i) for i in range(CHUNK)]
        mixed = bytes((K.DEDUPLICATED, K.SUBMITTED)) * (CHUNK // 2)
        return ChunkOutcome(start=start, count=CHUNK, first_id=FIRST, kinds=mixed if kind is None else kind, ids=ids, keys=keys)

    assert grown_by(lambda: asked(BatchOutcome(chunks_of(duplicates)))) < 14_000_000


def test_indices_of_a_plain_chunk_are_a_range_and_of_a_mixed_one_eight_bytes_each() -> None:
    plain = ChunkOutcome(start=5, count=3, first_id=FIRST)
    assert plain.indices(K.SUBMITTED) == range(5, 8)
    assert plain.indices(K.FAILED) == ()
    mixed = ChunkOutcome(start=5, count=3, first_id=FIRST, kinds=bytes((0, K.NOT_STORED, 0)))
    assert mixed.indices(K.SUBMITTED) == array("Q", [5, 7])
