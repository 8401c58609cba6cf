"""Which children a job has and which of them are still to be waited for: plain data, in little memory whatever their number."""

from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.batch_items import ChunkOutcome, FailedItem, ItemKind, OverriddenItem
from callboard.jobs.children import (
    ChildEnd,
    ChildIds,
    Frontier,
    check_chunk,
    check_name,
    children_batch_id,
    children_failed,
)
from callboard.jobs.errors import BadArgument
from callboard.jobs.identity import nth, run_of_ids
from callboard.jobs.lifecycle import Status

FIRST, FAR = b"\x01" * 6 + b"\x70\x00\x80" + bytes(7), b"\x02" * 6 + b"\x70\x00\x80" + bytes(7)
PARENT = b"p" * 16


def plain(start: int, count: int, first: bytes) -> ChunkOutcome:
    return ChunkOutcome(start=start, count=count, first_id=first)


# --- names --------------------------------------------------------------------------------------------------------------


def test_the_batch_of_children_is_the_same_for_ever_and_another_for_each_parent_and_name() -> None:
    made = {children_batch_id(parent, name) for parent in (PARENT, b"q" * 16) for name in ("folders", "files", "ünï")}
    assert len(made) == 6 and {len(each) for each in made} == {16}
    assert children_batch_id(PARENT, "folders").hex() == "a663267c9e1828d50e84ce5478976873"


@pytest.mark.parametrize("name", ["", "x" * 201, 5, "\ud800"])
def test_a_name_is_a_label(name: object) -> None:
    with pytest.raises(BadArgument, match="^spawn_children: name="):
        check_name(name)


def test_children_are_all_or_none() -> None:
    check_chunk([])
    with pytest.raises(BadArgument, match="child 3 cannot be queued: ValueError: no"):
        check_chunk([FailedItem(3, ValueError("no"))])
    with pytest.raises(BadArgument, match="children 1 and 4 have the same key"):
        check_chunk([OverriddenItem(1, 4)])


# --- ids ----------------------------------------------------------------------------------------------------------------


def test_ids_in_a_row_cost_nothing() -> None:
    ids = ChildIds("c", PARENT, (plain(start, 2_500, nth(FIRST, start)) for start in range(0, 240_000, 2_500)))
    assert len(ids) == 240_000 and len(ids._parts) == 1
    assert sum(map(sys.getsizeof, (ids._parts, ids._ends))) < 1_000
    assert ids[239_999] == ids[-1] == nth(FIRST, 239_999)
    assert nth(FIRST, 239_999) in ids and nth(FIRST, 240_000) not in ids and "no id" not in ids


def test_ids_of_jobs_that_stand_for_children_are_in_their_places() -> None:
    standing = b"s" * 16
    kinds = bytes([ItemKind.SUBMITTED, ItemKind.DEDUPLICATED, ItemKind.SUPERSEDED])
    mixed = ChunkOutcome(start=2, count=3, first_id=FAR, kinds=kinds, ids=bytes(16) + standing + b"o" * 16, keys=(None, b"k", b"l"))
    ids = ChildIds("c", PARENT, [plain(0, 2, FIRST), mixed, plain(5, 1, nth(FIRST, 2)), plain(6, 0, FIRST)])
    expected = [FIRST, nth(FIRST, 1), FAR, standing, nth(FAR, 2), nth(FIRST, 2)]
    assert ids == expected and list(ids) == expected and ids[1:-1] == expected[1:-1]
    assert [each in ids for each in (*expected, b"o" * 16)] == [True] * 6 + [False]
    with pytest.raises(IndexError, match="6 is out of range: there are 6 children"):
        ids[6]
    assert repr(ids).startswith("<ChildIds 'c': 01010101-0101-7000-") and repr(ids).endswith("… 3 more>")
    assert repr(ChildIds("c", PARENT)) == "<ChildIds 'c': none>"


# --- the frontier -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(1, 7), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_everybody_is_seen_to_end_once_however_they_end_and_few_are_looked_for_at_once(count: int, most: int, seed: int) -> None:
    chance = Random(seed)
    ids = list(run_of_ids(FIRST, count))
    live, frontier, seen = set(ids), Frontier(ids, most), list[bytes]()
    while asked := frontier.ask():
        assert len(asked) <= most and asked == sorted(asked)
        assert not frontier.done
        for job_id in ids:
            if chance.random() < 0.3:
                live.discard(job_id)
        ended = [job_id for job_id in asked if job_id not in live]
        frontier.ended(ended)
        seen += ended
    assert frontier.done and sorted(seen) == ids


# --- failures -----------------------------------------------------------------------------------------------------------


def test_an_error_names_the_first_children_and_how_many() -> None:
    ends = [ChildEnd(nth(FIRST, n), Status.FAILED if n else Status.CANCELLED, None, "x" * 1_000 if n else None) for n in range(5)]
    error = children_failed(ends, 5, PARENT)
    assert (error.count, error.ids, error.job_id) == (5, tuple(end.id for end in ends[:3]), PARENT)
    assert str(error).startswith("5 children have not completed: 01010101-") and str(error).endswith("; and 2 more") and len(str(error)) < 1_000
    assert str(children_failed(ends[:1], 1, PARENT)).startswith("1 child has not completed: ")
    assert [ChildEnd(FIRST, status).ok for status in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS, Status.FAILED)] == [True, True, False]
