"""Every type comes back as the equal value of the same type, whole and field by field."""

from __future__ import annotations

import enum
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, Literal, NewType
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callboard.jobs.errors import NotDecodable, NotEncodable
from callboard.persistence.codec import (
    CHECKPOINT,
    PAYLOAD,
    Limits,
    decode,
    decode_map,
    decode_value,
    decode_with,
    encode,
    encode_map,
    encode_value,
    plan_of,
)

UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = 1
    GREEN = (2, "not to be stored")
    CRIMSON = 1


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclass(frozen=True, slots=True)
class Item:
    path: Path
    size: int


@dataclass
class Everything:
    flag: bool
    count: int
    ratio: float
    text: str
    raw: bytes
    nothing: None
    maybe: int | None
    either: int | float | str | None
    file: Path
    windows: PureWindowsPath
    at: datetime
    day: date
    span: timedelta
    id: UUID
    price: Decimal
    colour: Colour
    level: Level
    rights: Rights
    mode: Literal["fast", 3, True, None, b"x", Colour.GREEN]
    user: UserId
    names: list[str]
    numbers: list[int]
    files: tuple[Path, ...]
    pair: tuple[int, str]
    kinds: set[Colour]
    points: frozenset[tuple[int, int]]
    by_name: dict[str, list[int]]
    by_number: dict[int, Path]
    by_colour: dict[Colour, Decimal]
    by_path: dict[Path, bool]
    item: Item
    items: dict[UUID, tuple[Item, ...]]
    anything: Any


def same(left: object, right: object) -> bool:
    """Equal, of the same types all the way down, NaN equal to NaN, a datetime with the same offset and fold."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or (left == right and math.copysign(1, left) == math.copysign(1, right))
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return same(list(left.values()), list(right.values())) and same(list(left), list(right))
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, datetime) and isinstance(right, datetime):
        return left.replace(tzinfo=None) == right.replace(tzinfo=None) and left.utcoffset() == right.utcoffset() and left.fold == right.fold
    if isinstance(left, (Everything, Item)):
        return all(same(getattr(left, one.name), getattr(right, one.name)) for one in fields(left))
    return left == right


ints = st.integers(-(2**63), 2**64 - 1)
texts = st.text(max_size=80)
file_names = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)
paths = st.one_of(file_names, st.binary(min_size=100, max_size=110).map(lambda name: name.replace(b"\0", b"\xff"))).map(
    lambda name: Path(os.fsdecode(name))
)
offsets = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
datetimes = st.builds(lambda at, fold: at.replace(fold=fold), st.datetimes(timezones=st.none() | offsets), st.integers(0, 1))
decimals = st.decimals(allow_nan=True, allow_infinity=True) | st.just(Decimal("-0E-5")) | st.just(Decimal("sNaN12"))
items = st.builds(Item, paths, ints)
scalars = st.one_of(
    st.none(), st.booleans(), ints, st.floats(), texts, st.binary(max_size=80), paths, datetimes, st.dates(), st.timedeltas(), st.uuids()
)
keys = st.one_of(st.none(), st.booleans(), ints, texts, st.binary(max_size=9), paths, st.dates(), st.timedeltas(), st.uuids())
hashable = st.recursive(keys, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=6)
anything = st.recursive(
    scalars | decimals | hashable,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=10,
)
everything = st.builds(
    Everything,
    flag=st.booleans(),
    count=ints,
    ratio=st.floats(),
    text=texts,
    raw=st.binary(max_size=80),
    nothing=st.none(),
    maybe=st.none() | ints,
    either=st.none() | ints | st.floats() | texts,
    file=paths,
    windows=st.sampled_from([PureWindowsPath("C:\\x\\y"), PureWindowsPath("a/b")]),
    at=datetimes,
    day=st.dates(),
    span=st.timedeltas(),
    id=st.uuids(),
    price=decimals,
    colour=st.sampled_from(Colour),
    level=st.sampled_from(Level),
    rights=st.sampled_from([Rights(0), Rights.READ, Rights.READ | Rights.WRITE]),
    mode=st.sampled_from(["fast", 3, True, None, b"x", Colour.GREEN]),
    user=ints,
    names=st.lists(texts, max_size=3),
    numbers=st.lists(ints, max_size=3),
    files=st.lists(paths, max_size=3).map(tuple),
    pair=st.tuples(ints, texts),
    kinds=st.sets(st.sampled_from(Colour)),
    points=st.frozensets(st.tuples(ints, ints), max_size=3),
    by_name=st.dictionaries(texts, st.lists(ints, max_size=2), max_size=2),
    by_number=st.dictionaries(ints, paths, max_size=2),
    by_colour=st.dictionaries(st.sampled_from(Colour), decimals, max_size=2),
    by_path=st.dictionaries(paths, st.booleans(), max_size=2),
    item=items,
    items=st.dictionaries(st.uuids(), st.lists(items, max_size=2).map(tuple), max_size=2),
    anything=anything,
)


def examples(count: int) -> settings:
    """The same examples in every run; no file of past ones, no time limit a busy machine could break."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, suppress_health_check=slow, derandomize=True, database=None)


@examples(50)
@given(everything)
def test_every_type_comes_back_as_it_was(value: Everything) -> None:
    blob = encode(value)
    back = decode(Everything, blob)
    assert same(back, value)
    assert encode(back) == blob


@examples(30)
@given(everything, everything)
def test_each_field_alone_comes_back_and_goes_over_a_base(base: Everything, later: Everything) -> None:
    plan = plan_of(Everything)
    blobs = {one.name: one.encode(getattr(later, one.name)) for one in plan.fields}
    for one in plan.fields:
        assert same(one.decode(blobs[one.name]), getattr(later, one.name))
    assert same(decode_with(Everything, encode(base), blobs), later)
    part = dict(list(blobs.items())[::2])
    mixed = decode_with(Everything, encode(base), part)
    assert all(same(getattr(mixed, f.name), getattr(later if f.name in part else base, f.name)) for f in fields(Everything))


@examples(150)
@given(anything)
def test_a_value_of_no_declared_type_comes_back_as_it_was(value: object) -> None:
    assert same(decode_value(encode_value(value)), value)


@examples(40)
@given(everything)
def test_raw_fields_written_back_are_the_same_instance(value: Everything) -> None:
    raw = decode_map(encode(value))
    assert same(decode(Everything, encode_map(raw)), value)


@examples(80)
@given(everything, st.integers(1, 6), st.randoms(use_true_random=False))
def test_damage_ends_in_one_error_or_in_a_value(value: Everything, hits: int, chance: Any) -> None:
    blob = bytearray(encode(value))
    for _ in range(hits):
        blob[chance.randrange(len(blob))] = chance.randrange(256)
    for read in (lambda raw: decode(Everything, raw), decode_map, decode_value):
        try:
            read(bytes(blob))
        except NotDecodable as error:
            assert len(str(error)) < 1_000


@examples(100)
@given(st.binary(max_size=60))
def test_any_bytes_end_in_one_error_or_in_a_value(blob: bytes) -> None:
    try:
        decode_value(blob)
    except NotDecodable:
        pass


@examples(80)
@given(anything, st.integers(1, 60), st.integers(1, 8), st.integers(1, 400))
def test_what_the_limits_let_in_they_let_out(value: object, most_items: int, depth: int, most_bytes: int) -> None:
    limits = Limits(bytes=most_bytes, depth=depth, items=most_items)
    whole = encode_value(value)
    try:
        written = encode_value(value, limits)
    except NotEncodable:
        with pytest.raises(NotDecodable):
            decode_value(whole, limits)
    else:
        assert written == whole
        assert same(decode_value(written, limits), value)


def test_equal_sets_are_equal_bytes_in_every_process() -> None:
    code = (
        "from dataclasses import dataclass; from typing import Any; from callboard.persistence.codec import encode\n"
        "@dataclass\n"
        "class Job:\n"
        "    names: set[str]\n"
        "    pairs: frozenset[tuple[str, int]]\n"
        "    mixed: Any\n"
        "names = {'n%d' % i for i in range(50)}\n"
        "print(encode(Job(names, frozenset((n, 1) for n in names), {None, 1.5, b'x', *names})).hex())"
    )
    blobs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(blobs) == 1


def test_the_stored_form_is_what_is_on_disks_already() -> None:
    value = Golden()
    blob = encode(value)
    assert blob.hex() == GOLDEN
    assert decode(Golden, bytes.fromhex(GOLDEN)) == value


@dataclass
class Golden:
    file: Path = Path("/a")
    at: datetime = datetime(2024, 2, 29, 1, 2, 3, 4, timezone(timedelta(hours=-5)), fold=1)
    day: date = date(2024, 2, 29)
    span: timedelta = timedelta(days=-1, microseconds=7)
    id: UUID = UUID(int=7)
    price: Decimal = Decimal("1.10")
    colour: Colour = Colour.CRIMSON
    rights: Rights = Rights.READ | Rights.WRITE
    kinds: frozenset[Colour] = frozenset(Colour)
    anything: Any = field(
        default_factory=lambda: (
            [(1, {2}, frozenset()), Path("b"), PurePosixPath("c"), PureWindowsPath("d"), UUID(int=1), Decimal(3)]
            + [datetime(2024, 1, 1), date(2024, 1, 1), timedelta(1), {"k": None, 5: b""}]
        )
    )
    shared: ClassVar[int] = 3


GOLDEN = (
    "8aa466696c65c4022f61a26174d921323032342d30322d32395430313a30323a30332e3030303030342d30353a30307ea3646179aa323032342d3032"
    "2d3239a47370616eae2d38363339393939393939337573a26964c41000000000000000000000000000000007a57072696365a4312e3130a6636f6c6f"
    "7572a3524544a672696768747303a56b696e647392a5475245454ea3524544a8616e797468696e679a94c700050192c700040291c70006d40262d40a"
    "63d40b64d80100000000000000000000000000000001d40333c71307323032342d30312d30315430303a30303a3030c70a08323032342d30312d3031"
    "c70d093836343030303030303030757382a16bc005c400"
)
"""Written by the first version. If this test fails, libraries in the field can no longer be read."""


def test_limits_are_larger_for_checkpoints() -> None:
    big = b"x" * (PAYLOAD.bytes + 1)
    with pytest.raises(NotEncodable, match="1,048,576 bytes"):
        encode_value(big)
    assert decode_value(encode_value(big, CHECKPOINT), CHECKPOINT) == big
