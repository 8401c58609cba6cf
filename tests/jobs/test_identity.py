"""Ids rise strictly whatever the clock does, over restarts too, and are UUIDs of version 7."""

from __future__ import annotations

from itertools import pairwise
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import BadArgument, NoSuchJob, NotDecodable
from callboard.jobs.identity import IdSource, id_from_text, id_text, nth, run_of_ids, uuid_bytes

NOW = 1_750_000_000_000
clocks = st.integers(-10_000, 2**47) | st.integers(NOW - 3, NOW + 3)
chances = st.binary(min_size=8, max_size=8) | st.just(b"\xff" * 8) | st.just(bytes(8))
quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)

EXHAUSTED = (NOW << 80 | 7 << 76 | 0xFFF << 64 | 2 << 62 | (1 << 62) - 1).to_bytes(16, "big")
"""The last id of its millisecond."""


@given(st.lists(st.tuples(clocks, chances, st.booleans()), max_size=60))
@quick
def test_ids_rise_strictly_for_any_clock_and_chance_and_over_restarts(steps: list[tuple[int, bytes, bool]]) -> None:
    ids: list[bytes] = []
    source = IdSource()
    for now_ms, chance, restart in steps:
        if restart:
            source = IdSource(max(ids) if ids else None)
        ids.append(source.next(now_ms, chance))
    assert all(first < second for first, second in pairwise(ids))


@given(clocks, chances, st.integers(1, 5))
@quick
def test_an_id_is_a_uuid_of_version_7(now_ms: int, chance: bytes, count: int) -> None:
    source = IdSource()
    for _ in range(count):
        uuid = UUID(bytes=source.next(now_ms, chance))
        assert (uuid.version, uuid.variant) == (7, RFC_4122)


@given(st.integers(1, 2**47), chances)
@quick
def test_an_id_begins_with_its_time_in_milliseconds(now_ms: int, chance: bytes) -> None:
    assert int.from_bytes(IdSource().next(now_ms, chance)[:6], "big") == now_ms


@given(st.binary(min_size=16, max_size=16), clocks, chances)
@quick
def test_after_whatever_id_stands_in_a_library_the_next_is_higher_or_the_library_is_damaged(last: bytes, now_ms: int, chance: bytes) -> None:
    try:
        source = IdSource(last)
    except NotDecodable:
        assert int.from_bytes(last[:6], "big") >= 253_402_300_800_000, "only a time after the year 9999 is damage"
        return
    first = source.next(now_ms, chance)
    assert last < first < source.next(now_ms, chance)
    assert UUID(bytes=first).version == 7


def test_when_a_millisecond_is_full_the_next_one_begins() -> None:
    following = IdSource(EXHAUSTED).next(NOW, bytes(8))
    assert following > EXHAUSTED
    assert int.from_bytes(following[:6], "big") == NOW + 1


def test_a_clock_that_was_set_back_does_not_set_ids_back() -> None:
    source = IdSource()
    first = source.next(NOW, bytes(8))
    assert source.next(NOW - 3_600_000, b"\xff" * 8) == (int.from_bytes(first, "big") + 1).to_bytes(16, "big")


@pytest.mark.parametrize("last", [b"\xff" * 16, b"", b"\x00" * 15, b"\x00" * 17])
def test_a_highest_id_that_was_never_given_is_damage_and_is_shown(last: bytes) -> None:
    with pytest.raises(NotDecodable) as caught:
        IdSource(last)
    assert str(caught.value) == f"the highest job id, {last.hex()}, is damaged: it is none that was ever given"


# --- many at once ---------------------------------------------------------------------------------------------------------

CARRY = (NOW << 80 | 7 << 76 | 5 << 64 | 2 << 62 | (1 << 62) - 3).to_bytes(16, "big")
"""Two more, and the counter carries over the variant."""
NEARLY_FULL = (int.from_bytes(EXHAUSTED, "big") - 3).to_bytes(16, "big")
lasts = st.sampled_from((None, CARRY, NEARLY_FULL, EXHAUSTED))


@given(lasts, clocks, chances, st.integers(0, 12))
@quick
def test_the_nth_id_is_the_one_that_the_source_gives_nth(last: bytes | None, now_ms: int, chance: bytes, count: int) -> None:
    source = IdSource(last)
    first = source.next(now_ms, chance)
    given_singly = [first, *(source.next(0, chance) for _ in range(count))]
    assert [nth(first, i) for i in range(count + 1)] == given_singly


@pytest.mark.parametrize("first", [CARRY, NEARLY_FULL, EXHAUSTED])
def test_far_ahead_too_ids_rise_by_one_over_every_carry(first: bytes) -> None:
    for i in (1, 2, 3, 4, 1 << 62, (1 << 62) + 3, (1 << 74) - 1):
        assert nth(nth(first, i - 1), 1) == nth(first, i) > nth(first, i - 1)
        assert UUID(bytes=nth(first, i)).version == 7


@given(lasts, clocks, chances, st.integers(1, 12))
@quick
def test_a_run_of_ids_is_the_nth_ones_in_order(last: bytes | None, now_ms: int, chance: bytes, count: int) -> None:
    first = IdSource(last).next(now_ms, chance)
    assert list(run_of_ids(first, count)) == [nth(first, i) for i in range(count)]
    assert list(run_of_ids(first, 0)) == []


@given(lasts, st.lists(st.tuples(clocks, chances, st.integers(1, 9) | st.just(1_000_000)), min_size=1, max_size=20))
@quick
def test_what_is_taken_rises_strictly_lies_within_a_millisecond_and_is_never_given_again(
    last: bytes | None, steps: list[tuple[int, bytes, int]]
) -> None:
    source, highest = IdSource(last), last or b""
    for now_ms, chance, count in steps:
        first = source.take(count, now_ms, chance)
        final = nth(first, count - 1)
        assert highest < first <= final
        assert first[:6] == final[:6]
        highest = final
    assert source.next(0, bytes(8)) == nth(highest, 1)


@given(lasts, clocks, chances)
@quick
def test_taking_one_is_the_next_one(last: bytes | None, now_ms: int, chance: bytes) -> None:
    assert IdSource(last).take(1, now_ms, chance) == IdSource(last).next(now_ms, chance)


def test_what_has_no_room_in_the_millisecond_is_taken_from_the_following_one() -> None:
    assert IdSource(NEARLY_FULL).take(3, NOW, bytes(8)) == nth(NEARLY_FULL, 1)
    following = IdSource(NEARLY_FULL).take(4, NOW, bytes(8))
    assert following == nth(EXHAUSTED, 1)
    assert int.from_bytes(following[:6], "big") == NOW + 1


@pytest.mark.parametrize("count", [0, -1])
def test_no_ids_cannot_be_taken(count: int) -> None:
    with pytest.raises(BadArgument, match=f"^count={count} is not a number of ids from 1 on$"):
        IdSource().take(count, NOW, bytes(8))


def test_there_is_no_id_before_the_first() -> None:
    with pytest.raises(BadArgument, match="^i=-1 is not a number of ids from 0 on$"):
        nth(CARRY, -1)


def test_a_uuid_and_its_bytes_are_one_id_and_nothing_else_is() -> None:
    uuid = uuid4()
    assert uuid_bytes(uuid) == uuid_bytes(uuid.bytes) == uuid.bytes
    assert [uuid_bytes(each) for each in (None, str(uuid), uuid.bytes[1:], uuid.bytes + b"x", bytearray(16), 7)] == [None] * 6


# --- as text --------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=16))
@quick
def test_an_id_is_read_as_it_was_written(job_id: bytes) -> None:
    assert id_from_text(id_text(job_id)) == job_id
    assert id_from_text(id_text(job_id).upper()) == job_id
    assert len(id_text(job_id)) == 36


@pytest.mark.parametrize("text", ["", "1", "photos.library", "0197a3c2-5b7e-7c00-8000-1f2e3d4c5b6", b"0" * 32, None, 7])
def test_what_is_no_id_is_no_such_job_and_an_example_is_given(text: object) -> None:
    with pytest.raises(NoSuchJob) as caught:
        id_from_text(text)  # type: ignore[arg-type]
    assert str(caught.value) == f"{text!r} is no job id; ids look like 0197a3c2-5b7e-7c00-8000-1f2e3d4c5b6a"


def test_a_long_text_that_is_no_id_is_shown_in_part() -> None:
    with pytest.raises(NoSuchJob) as caught:
        id_from_text("x" * 1_000_000)
    assert len(str(caught.value)) < 250
