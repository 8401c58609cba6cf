"""Ids rise strictly whatever the clock does, over restarts too, and are UUIDs of version 7."""

from __future__ import annotations

from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import NoSuchJob, NotDecodable
from callboard.jobs.identity import IdSource, id_from_text, id_text

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
