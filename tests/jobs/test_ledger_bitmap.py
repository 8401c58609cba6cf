"""The bitmap against a plain set, its pages against what changed, and the ledger of one map."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.ledger import PAGE_BYTES, PAGE_POSITIONS, POSITIONS_MAX, Bitmap, Ledger

positions = st.integers(0, 40) | st.integers(PAGE_POSITIONS - 20, PAGE_POSITIONS + 20) | st.integers(0, 3 * PAGE_POSITIONS)
runs = st.builds(lambda start, length: ("run", (start, length)), positions, st.integers(1, 5000))
PAGES = [bytes(PAGE_BYTES), b"\xff" * PAGE_BYTES, b"\x01" + bytes(PAGE_BYTES - 1), b"\xff" * (PAGE_BYTES - 1) + b"\x7f"]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), positions),
        runs,
        st.tuples(st.just("load"), st.tuples(st.integers(0, 3), st.sampled_from(PAGES))),
        st.tuples(st.just("take"), st.none()),
        st.tuples(st.just("touch"), st.none()),
        st.tuples(st.just("missing"), st.none()),
    ),
    max_size=25,
)
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def members(number: int, page: bytes) -> set[int]:
    return {number * PAGE_POSITIONS + bit for bit in range(PAGE_POSITIONS) if page[bit >> 3] & 1 << (bit & 7)}


def first_not_in(model: set[int]) -> int:
    return next(position for position in count() if position not in model)


@given(steps)
@quick
def test_a_bitmap_is_a_set_that_knows_its_changed_pages(script: list[tuple[str, object]]) -> None:
    bitmap, model, pages, changed = Bitmap(), set[int](), set[int](), set[int]()
    for step, argument in script:
        match step, argument:
            case "add", int(position):
                assert bitmap.add(position) == (position not in model)
                if position not in model:
                    changed.add(position // PAGE_POSITIONS)
                    pages.add(position // PAGE_POSITIONS)
                model.add(position)
            case "run", (int(start), int(length)):
                for position in range(start, start + length):
                    if bitmap.add(position):
                        changed.add(position // PAGE_POSITIONS)
                        pages.add(position // PAGE_POSITIONS)
                model |= set(range(start, start + length))
            case "load", (int(number), bytes(page)):
                bitmap.load(number, page)
                pages.add(number)
                model = {position for position in model if position // PAGE_POSITIONS != number} | members(number, page)
            case "take", _:
                taken = bitmap.take_changes()
                assert {number for number, _ in taken} == changed
                assert len(taken) == len(changed)
                for number, page in taken:
                    assert members(number, page) == {position for position in model if position // PAGE_POSITIONS == number}
                changed = set()
            case "touch", _:
                bitmap.touch_all()
                changed = set(pages)
            case _:
                assert bitmap.first_missing() == first_not_in(model)
        assert bitmap.count == len(model)
        assert bitmap.changed() == bool(changed)
    assert list(bitmap) == sorted(model)
    assert bitmap.first_missing() == first_not_in(model)
    assert all((position in bitmap) == (position in model) for position in range(5 * PAGE_POSITIONS))


@given(st.sets(positions, max_size=60))
@quick
def test_what_was_taken_can_be_loaded_again(wanted: set[int]) -> None:
    first, second = Bitmap(), Bitmap()
    for position in wanted:
        first.add(position)
    for number, page in first.take_changes():
        second.load(number, page)
    assert list(second) == sorted(wanted)
    assert second.count == len(wanted)
    assert not second.changed(), "what is stored need not be stored"


def test_a_million_items_in_order_write_each_page_once_a_save_and_stay_small() -> None:
    bitmap, written = Bitmap(), 0
    for start in range(0, 1_000_000, 100_000):
        for position in range(start, start + 100_000, 7):
            bitmap.add(position)
        written += sum(len(page) for _, page in bitmap.take_changes())
    assert written <= (1_000_000 / PAGE_POSITIONS + 10) * PAGE_BYTES


def test_the_page_is_a_snapshot() -> None:
    bitmap = Bitmap()
    bitmap.add(0)
    ((_, page),) = bitmap.take_changes()
    bitmap.add(1)
    assert page == b"\x01" + bytes(PAGE_BYTES - 1)


def test_a_page_that_is_loaded_over_another_replaces_it_even_below_what_was_found_full() -> None:
    bitmap = Bitmap()
    for position in range(100):
        bitmap.add(position)
    assert bitmap.first_missing() == 100
    bitmap.load(0, bytes(PAGE_BYTES))
    assert 3 not in bitmap
    assert (bitmap.first_missing(), bitmap.count) == (0, 0)


@pytest.mark.parametrize(
    ("number", "page"),
    [(0, b""), (0, bytes(PAGE_BYTES - 1)), (0, bytes(PAGE_BYTES + 1)), (-1, bytes(PAGE_BYTES)), (POSITIONS_MAX // PAGE_POSITIONS, bytes(PAGE_BYTES))],
)  # fmt: skip
def test_a_damaged_page_is_refused_and_changes_nothing(number: int, page: bytes) -> None:
    bitmap = Bitmap()
    with pytest.raises(ValueError, match=rf"^ledger page {number} of {len(page)} bytes; a page has 512$"):
        bitmap.load(number, page)
    assert bitmap.count == 0
    assert not list(bitmap)


# --- the ledger ---------------------------------------------------------------------------------------------------------


def test_a_failed_item_is_done_and_listed() -> None:
    ledger = Ledger()
    ledger.finish(3, failed=True)
    ledger.finish(4, failed=False)
    assert (list(ledger.done), list(ledger.failed)) == ([3, 4], [3])


def test_finishing_twice_changes_nothing() -> None:
    ledger = Ledger()
    ledger.finish(3, failed=False)
    ledger.done.take_changes()
    ledger.finish(3, failed=True)
    assert not ledger.changed()
    assert (ledger.done.count, ledger.failed.count) == (1, 0)


def test_of_a_retry_of_what_failed_everything_else_counts_as_done() -> None:
    ledger = Ledger()
    ledger.only = Bitmap()
    ledger.only.add(7)
    assert [position for position in range(10) if not ledger.is_done(position)] == [7]
    ledger.finish(7, failed=False)
    assert ledger.is_done(7)


def test_a_note_is_saved_until_its_item_is_done_and_then_deleted() -> None:
    ledger = Ledger()
    ledger.note(5, b"offset 1")
    ledger.note(5, b"offset 2")
    assert ledger.take_notes() == [(5, b"offset 2")]
    assert not ledger.changed()
    ledger.finish(5, failed=False)
    assert ledger.take_notes() == [(5, None)]
    assert ledger.notes == {}


def test_an_item_without_a_note_deletes_none() -> None:
    ledger = Ledger()
    ledger.finish(5, failed=False)
    assert ledger.take_notes() == []


def test_after_a_failed_save_everything_is_to_be_saved_again() -> None:
    ledger = Ledger()
    ledger.note(9, b"half")
    ledger.finish(1, failed=True)
    first = (ledger.done.take_changes(), ledger.failed.take_changes(), ledger.take_notes())
    assert not ledger.changed()
    ledger.touch_all()
    assert (ledger.done.take_changes(), ledger.failed.take_changes(), ledger.take_notes()) == first
