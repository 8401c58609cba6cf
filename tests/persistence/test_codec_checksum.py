"""A checksum tells apart what a damaged or a swapped row would mix up."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from callboard.persistence.checksum import SIZE, checksum, job_checksum, part_checksum


def test_equal_parts_have_the_checksum_that_is_on_disks_already() -> None:
    assert checksum(b"\x01" * 16, "copy_files", 1, b"blob").hex() == "66cdfdd96178008e"
    assert len(checksum()) == SIZE == 8


def test_parts_that_differ_in_type_border_or_order_differ() -> None:
    different: list[tuple[Any, ...]] = [
        (),
        (b"",),
        ("",),
        (b"", b""),
        (1,),
        ("1",),
        (b"1",),
        (-1,),
        (1, 1),
        (11,),
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (b"ab", "c"),
        ("c", "ab"),
        ("b1:c",),
        (b"i1:",),
        ("\udcff",),
        (b"\xff",),
        (2**70,),
    ]
    for left, right in itertools.combinations(different, 2):
        assert checksum(*left) != checksum(*right), (left, right)


@pytest.mark.parametrize("name", ["", "näme", "\udcff"])
@pytest.mark.parametrize("blob", [b"", b"blob\0"])
def test_the_fast_ways_give_the_same_checksums(name: str, blob: bytes) -> None:
    assert job_checksum(name, 7, blob) == checksum(name, 7, blob)
    assert part_checksum(b"\x01" * 16, "field", name, 2**40, 3, blob) == checksum(b"\x01" * 16, "field", name, 2**40, 3, blob)


def test_each_flipped_bit_is_seen() -> None:
    blob = bytearray(range(64))
    right = checksum("type", 1, bytes(blob))
    for bit in range(len(blob) * 8):
        blob[bit // 8] ^= 1 << bit % 8
        assert checksum("type", 1, bytes(blob)) != right
        blob[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("part", [None, 1.5, ["a"], bytearray(b"x")])
def test_other_types_are_refused(part: Any) -> None:
    with pytest.raises(TypeError, match="bytes, str and int"):
        checksum(part)
