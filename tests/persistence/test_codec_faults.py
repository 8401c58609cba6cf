"""Values that cannot be stored and bytes that cannot be read: each is one error, with the path, and nothing else escapes."""

from __future__ import annotations

import enum
import resource
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NoReturn
from uuid import UUID

import msgpack
import pytest

from callboard.jobs.errors import ConfigError, NotDecodable, NotEncodable
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


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class File:
    path: Path = Path("p")
    size: int = 0


@dataclass
class Job:
    files: list[File] = field(default_factory=list)
    ratio: float = 0.0
    name: str = ""
    raw: bytes = b""
    flag: bool = False
    at: datetime | None = None
    day: date | None = None
    span: timedelta = timedelta(0)
    id: UUID = UUID(int=0)
    price: Decimal = Decimal(0)
    colour: Colour = Colour.RED
    rights: Rights = Rights.READ
    mode: Literal["a", 1] = "a"
    pair: tuple[int, str] = (0, "")
    names: set[str] = field(default_factory=set)
    by_key: dict[str, int] = field(default_factory=dict)
    either: int | str | None = None
    any: Any = None
    next: Job | None = None


class Hostile:
    """Everything one may ask of it raises."""

    def _no(self, *_: object) -> NoReturn:
        raise SystemError("not to be asked")

    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __int__ = __index__ = __fspath__ = __getattr__ = _no  # type: ignore[assignment]


class HostileMeta(type):
    def __getattr__(cls, name: str) -> NoReturn:
        raise SystemError("not to be asked")

    def __repr__(cls) -> NoReturn:
        raise SystemError("not to be asked")


class HostileClass(metaclass=HostileMeta):
    pass


class HostileInt(int):
    __repr__ = __str__ = __eq__ = __hash__ = __int__ = __index__ = Hostile._no  # type: ignore[assignment]


class HostileStr(str):
    __repr__ = __str__ = __eq__ = __hash__ = __len__ = encode = Hostile._no  # type: ignore[assignment]


class HostileZone(tzinfo):
    def utcoffset(self, at: datetime | None) -> NoReturn:
        raise SystemError("not to be asked")


class HostilePath(type(Path())):  # type: ignore[misc]
    def __fspath__(self) -> NoReturn:
        raise SystemError("not to be asked")


class SubList(list):  # type: ignore[type-arg]
    pass


class SubFile(File):
    pass


def job(**values: Any) -> Job:
    return Job(**values)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (job(files=[File(), File(size="12")]), r"Job: \$\.files\[1\]\.size: expected int, got str '12'"),  # type: ignore[arg-type]
        (job(files=[File(size=True)]), r"\$\.files\[0\]\.size: expected int, got True"),
        (job(files=[File(size=1.0)]), "expected int, got 1.0; declare float"),  # type: ignore[arg-type]
        (job(files=[File(path="p")]), r"expected Path, got str 'p'; give Path"),  # type: ignore[arg-type]
        (job(files=[File(), SubFile()]), r"\[1\]: expected File, got .*SubFile; a subclass would lose"),
        (job(files=(File(),)), r"expected list\[File\], got tuple; give list"),
        (job(files=SubList()), "got .*SubList; give list"),
        (job(files=None), "expected list.*got None"),
        (job(files=[File(size=2**64)]), r"\$\.files\[0\]\.size: an int of 65 bits does not fit in 64 bits|int 18446744073709551616 does"),
        (job(files=[File(size=-(2**63) - 1)]), r"\$\.files\[0\]\.size: int -9223372036854775809 does not fit"),
        (job(files=[File(size=10**5000)]), r"an int of \d+ bits does not fit"),
        (job(name="a\ud800"), r"\$\.name: str 'a\\ud800' has a lone surrogate.*use Path or bytes"),
        (job(names={"a", "\udcff"}), r"\$\.names\[1\]: .*lone surrogate"),
        (job(by_key={"\udcff": 1}), r"\$\.by_key key: .*lone surrogate"),
        (job(any=(1, {"k": ["\udcff"]})), r"\$\.any\[1\]\.k\[0\]: .*lone surrogate"),
        (job(name=b"x"), "expected str, got bytes b'x'; decode it"),
        (job(raw=bytearray(b"x")), r"expected bytes, got bytearray; give bytes"),
        (job(raw="x" * 5_000), "expected bytes, got str 'xxx"),
        (job(ratio="1"), "expected float, got str"),
        (job(ratio=True), "expected float, got True"),
        (job(ratio=2**53 + 1), "a float would not be exactly that number"),
        (job(ratio=10**400), "a float would not be exactly"),
        (job(flag=1), "expected bool, got int 1"),
        (job(day=datetime(2024, 1, 1)), "expected date, got datetime"),
        (job(at=date(2024, 1, 1)), "expected datetime, got datetime.date"),
        (job(at=datetime(2024, 1, 1, tzinfo=HostileZone())), r"\$\.at: this datetime.datetime cannot be written: SystemError"),
        (job(at=datetime(2024, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))), r"\$\.at: .*offset has a fraction of a second"),
        (job(colour="RED"), "expected Colour, got str 'RED'; give Colour.NAME"),
        (job(colour=Rights.READ), "expected Colour, got .*Rights"),
        (job(rights=1), "expected Rights, got int 1"),
        (job(mode="b"), r"expected Literal\['a', 1\], got str 'b'"),
        (job(mode=True), "expected Literal.*got True"),
        (job(pair=(1,)), r"\$\.pair: expected tuple\[int, str\], got 1 elements"),
        (job(pair=(1, 2)), r"\$\.pair\[1\]: expected str, got int 2"),
        (job(names=["a"]), r"expected set\[str\], got list; give set"),
        (job(by_key={1: 1}), r"\$\.by_key\[1\]: expected str, got int 1"),
        (job(by_key={"a b": "x"}), r"\$\.by_key\['a b'\]: expected int, got str 'x'"),
        (job(either=1.5), r"expected int \| str \| None, got 1.5"),
        (job(any={"f": [print]}), r"\$\.any\['f'\]\[0\]: builtin_function_or_method cannot be stored; allowed are None, bool"),
        (job(any=File()), r"\$\.any: .*File is a dataclass, which would come back as a dict; declare"),
        (job(any=Colour.RED), "is an enum, which would come back as its name"),
        (job(any=SubList()), r"SubList would come back as list; give list"),
        (job(any={(1, 2): 1}), "a dict key of type tuple cannot be stored"),
        (job(any=msgpack.ExtType(5, b"")), "would come back as tuple"),
        (job(any=1j), "complex cannot be stored"),
    ],
)
def test_a_value_that_cannot_be_stored_is_refused_with_its_path(value: Job, words: str) -> None:
    with pytest.raises(NotEncodable, match=words) as caught:
        encode(value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "hostile",
    [Hostile(), HostileClass(), HostileInt(3), HostileStr("s"), [Hostile()], {Hostile}, {"k": Hostile()}, HostilePath("x")],
    ids=lambda value: str(type.__repr__(type(value))),
)
def test_no_code_of_a_value_escapes_as_another_error(hostile: object) -> None:
    for name in [one.name for one in plan_of(Job).fields]:
        value = Job()
        object.__setattr__(value, name, hostile)
        try:
            encode(value)
        except NotEncodable as error:
            assert len(str(error)) < 500
    try:
        encode_value(hostile)
    except NotEncodable as error:
        assert len(str(error)) < 500


@dataclass
class Unset:
    x: int = field(init=False)


@dataclass
class Property:
    x: int = field(init=False)

    def read(self) -> int:
        raise OSError("no x today")


Property.x = property(Property.read)  # type: ignore[assignment]


def test_a_field_that_cannot_be_read_is_named() -> None:
    with pytest.raises(NotEncodable, match=r"Unset: \$\.x: cannot be read: AttributeError"):
        encode(Unset())
    with pytest.raises(NotEncodable, match=r"Property: \$\.x: cannot be read: OSError: no x today"):
        encode(Property())


def nested(depth: int) -> Job:
    """`depth` jobs inside each other, each with one list of its own."""
    value = Job()
    for _ in range(depth - 1):
        value = Job(next=value)
    return value


def test_nesting_is_allowed_up_to_its_limit_in_both_directions() -> None:
    deepest = nested(63)  # and the lists inside the innermost one
    blob = encode(deepest)
    assert decode(Job, blob) == deepest
    with pytest.raises(NotEncodable, match="nested too deep"):
        encode(nested(64))
    with pytest.raises(NotDecodable, match="nested too deep"):
        decode(Job, blob, Limits(depth=63))
    with pytest.raises(NotEncodable, match="nested too deep") as caught:
        encode(nested(300))
    assert len(str(caught.value)) < 400


@dataclass
class Tree:
    lists: list[Tree] = field(default_factory=list)
    tuples: tuple[Tree, ...] | None = None
    pairs: tuple[int, Tree] | None = None
    dicts: dict[str, Tree] = field(default_factory=dict)
    tree: Tree | None = None
    texts: list[str] | None = None


@pytest.mark.parametrize("name", ["lists", "tuples", "pairs", "dicts"])
def test_each_container_is_a_level_in_both_directions(name: str) -> None:
    value = Tree()  # two levels: itself, and the list it holds
    for _ in range(31):
        inside: dict[str, Any] = {"lists": [value], "tuples": (value,), "pairs": (1, value), "dicts": {"k": value}}
        value = Tree(**{name: inside[name]})
    blob = encode(value)
    assert decode(Tree, blob) == value
    assert decode_with(Tree, blob, {}) == value
    decode_map(blob)
    alone = next(one for one in plan_of(Tree).fields if one.name == name)
    assert alone.decode(alone.encode(getattr(value, name))) == getattr(value, name)
    for read in (lambda: decode(Tree, blob, Limits(depth=63)), lambda: decode_map(blob, Limits(depth=63))):
        with pytest.raises(NotDecodable, match="nested too deep"):
            read()
    inside = {"lists": [value], "tuples": (value,), "pairs": (1, value), "dicts": {"k": value}}
    with pytest.raises(NotEncodable, match="nested too deep"):
        encode(Tree(**{name: inside[name]}))
    with pytest.raises(NotEncodable, match="nested too deep"):
        alone.encode(inside[name])
    with pytest.raises(NotEncodable, match="nested too deep"):
        next(one for one in plan_of(Tree).fields if one.name == "tree").encode(value)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop = Job()
    loop.next = loop
    ring: list[Any] = []
    ring.append(ring)
    wide: list[Any] = []
    wide += [wide] * 10
    by_key: dict[str, Any] = {}
    by_key["k"] = by_key
    for value in (loop, Job(any=ring), Job(any=wide), Job(any=(by_key,))):
        with pytest.raises(NotEncodable, match="nested too deep, or it holds itself"):
            encode(value)


def test_a_small_value_that_unfolds_into_a_huge_one_is_refused() -> None:
    layer: Any = []
    for _ in range(60):
        layer = [layer, layer]
    with pytest.raises(NotEncodable, match="holds more than 100,000 items"):
        encode_value(layer)
    shared = "x" * 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for value in (Job(any=[shared] * 300), Job(any=[Path(shared)] * 300), Tree(texts=[shared] * 300)):
        with pytest.raises(NotEncodable, match="larger than 1,048,576 bytes"):
            encode(value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB: packed, it would be 300 MB"


def test_the_limits_hold_when_writing_and_when_reading() -> None:
    @dataclass
    class Wide:
        numbers: list[int]

    fits = Limits(bytes=112, items=103)
    exact = Wide([1] * 100)
    blob = encode(exact, fits)
    assert len(blob) == 112
    assert decode(Wide, blob, fits) == exact
    for limits, words in ((Limits(bytes=111), "111"), (Limits(items=102), "102 items")):
        with pytest.raises(NotEncodable, match=words):
            encode(exact, limits)
        with pytest.raises(NotDecodable, match=words):
            decode(Wide, blob, limits)
    with pytest.raises(NotEncodable, match="100,000 items"):
        encode(Wide([1] * 100_001))
    assert decode(Wide, encode(Wide([1] * 100_001), CHECKPOINT), CHECKPOINT).numbers == [1] * 100_001


@pytest.mark.parametrize("values", [{"bytes": 0}, {"items": 0}, {"depth": 0}, {"depth": 1_000}])
def test_limits_that_make_no_sense_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Limits(**values)


GOOD = encode(Job(files=[File(), File()]))
EMPTY_MAPS = b"\xdd" + (1_999_995).to_bytes(4, "big") + b"\x80" * 1_999_995


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "not one whole msgpack value in 0 bytes"),
        (GOOD[:-1], "not one whole msgpack value"),
        (GOOD[:7], "not one whole msgpack value"),
        (GOOD + b"\xc0", "damaged: 1 bytes follow the value"),
        (b"\xc1", "0xc1"),
        (b"\x81\xa1a\xc1", "0xc1"),
        (b"\x82\xa1a\x01\xa1a\x02", "the map key str 'a' occurs twice"),
        (b"\x81\xa5files\x91\x83\xa4path\xc4\x00\xa4size\x01\xa4size\x01", "the map key str 'size' occurs twice"),
        (b"\x81\x90\x01", "damaged"),
        (b"\x81\xa1\xff\x01", "damaged"),
        (b"\x91" * 100, "damaged|nested too deep"),
        (b"\x91" * 5_000 + b"\xc0", "nested too deep"),
        (b"\x81\xa3any" + b"\x91" * 100 + b"\xc0", "nested too deep"),
        (b"\x81\xa3any" + b"\x81\xa1k" * 100 + b"\xc0", "nested too deep"),
        (b"\x81\xa3any" + b"\x92\xc7\x00\x05" * 100 + b"\xc0", "nested too deep"),
        (b"\x81\xa4next" * 100 + b"\xc0", "nested too deep"),
        (b"\xdd\xff\xff\xff\xff" * 2_000, "damaged"),
        (b"\xdd\xff\xff\xff\xff" + b"\xc0" * 200_000, "100,000 items"),
        (b"\xdf\xff\xff\xff\xff", "damaged"),
        (b"\xc6\xff\xff\xff\xff", "damaged"),
        (b"\xdd\x00\x01\x86\x9f" * 20_000, "nested too deep"),
        (b"\xdd\x00\x01\x80\x00" + b"\x80" * 0x18000, "100,000 items"),
        (EMPTY_MAPS, "bytes are stored, the limit is 1,048,576"),
        (b"\x81\xa3any\xd4\x63\x00", r"\$\.any: damaged: an ext type that callboard never writes \(int 99\)"),
        (b"\x81\xa3any\xd6\xff\x00\x00\x00\x00", r"\$\.any: damaged: an ext type that callboard never writes"),
        (b"\x81\xa3any\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff", r"damaged"),
        (b"\x81\xa3any\xc7\x0c\xff" + b"\xff" * 12, r"damaged"),
        (b"\x81\xa3any\xc7\x03\xff" + b"\xff" * 3, r"damaged"),
        (b"\x81\xa3any\xd4\x01\x00", r"\$\.any: expected UUID"),
        (b"\x81\xa3any\xd4\x03\xff", "no UTF-8"),
        (b"\x81\xa3any\xd4\x03x", r"expected Decimal, got str 'x'"),
        (b"\x81\xa3any\xd4\x04x", "an ext type that callboard never writes"),
        (b"\x81\xa3any\x92\xd4\x04x\x01", r"\$\.any\[0\]: damaged: an ext type"),
        (b"\x81\xa3any\x92\xc7\x00\x04\x90", "a set holds what cannot be in one"),
        (b"\x81\xa3any\x93\xc7\x00\x04\x01\x01", "a set holds an element twice"),
        (b"\x81\xa3any\x92\x01\xc7\x00\x04", r"\$\.any\[1\]: damaged: an ext type"),
        (b"\x81\xa3any\x82\xc7\x03\x031.0\x01\xd4\x031\x02", "two keys of a map are equal"),
        (b"\x81\xa3any\x81\xc7\x00\x05\x01", "an ext type"),
        (b"\x93\x01\x02\x03", r"Job: \$: expected Job, got list"),
        (b"\xc0", "expected Job, got None"),
        (msgpack.packb({"files": [{"size": True}]}), r"\$\.files\[0\]\.size: expected int, got True"),
        (msgpack.packb({"files": [{}, {"size": 1.0}]}), r"\$\.files\[1\]\.size: expected int, got 1.0"),
        (msgpack.packb({"files": [{"path": "p"}]}), r"\$\.files\[0\]\.path: expected Path, got str 'p'"),
        (msgpack.packb({"files": {}}), r"\$\.files: expected list\[File\], got dict"),
        (msgpack.packb({"ratio": False}), "expected float, got False"),
        (msgpack.packb({"ratio": 2**63 + 1}), "a float would not be exactly"),
        (msgpack.packb({"flag": 0}), "expected bool, got int 0"),
        (msgpack.packb({"name": b"x"}), "expected str, got bytes"),
        (msgpack.packb({"name": None}), "expected str, got None"),
        (msgpack.packb({"at": "yesterday"}), r"\$\.at: expected datetime, got str 'yesterday'"),
        (msgpack.packb({"at": "2024-01-01"}), "expected datetime"),
        (msgpack.packb({"at": "99999-01-01T00:00:00"}), "expected datetime"),
        (msgpack.packb({"at": 3}), "expected datetime, got int 3"),
        (msgpack.packb({"day": "2024-02-30"}), "expected date, got str '2024-02-30'"),
        (msgpack.packb({"span": "1"}), "expected timedelta"),
        (msgpack.packb({"span": "9" * 20 + "us"}), "expected timedelta"),
        (msgpack.packb({"span": "9" * 9_000 + "us"}), "expected timedelta"),
        (msgpack.packb({"id": b"short"}), "expected UUID"),
        (msgpack.packb({"price": "1.1.1"}), "expected Decimal"),
        (msgpack.packb({"colour": "GREEN"}), "expected a name of Colour, got str 'GREEN'; its names: RED, BLUE"),
        (msgpack.packb({"rights": 64}), "expected bits of Rights, got int 64"),
        (msgpack.packb({"mode": True}), "expected Literal"),
        (msgpack.packb({"mode": [1]}), "expected Literal"),
        (msgpack.packb({"pair": [1, "x", 2]}), "got 3 elements"),
        (msgpack.packb({"names": ["a", "a"]}), r"\$\.names: damaged: an element occurs twice"),
        (msgpack.packb({"by_key": {1: 1}}), r"\$\.by_key\[1\]: expected str"),
        (msgpack.packb({"either": 1.5}), r"expected int \| str \| None, got 1.5"),
    ],
)
def test_bytes_that_do_not_fit_are_refused_with_the_path(blob: bytes, words: str) -> None:
    with pytest.raises(NotDecodable, match=words) as caught:
        decode(Job, blob)
    assert len(str(caught.value)) < 500


def test_two_megabytes_of_empty_maps_are_refused_before_they_are_made() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NotDecodable, match="holds more than 2,000,000 items"):
        decode_value(EMPTY_MAPS, CHECKPOINT)
    wide = Limits(bytes=2**21)
    nest = b"\x91" * 20 + EMPTY_MAPS
    halves = (b"\xdd" + (90_000).to_bytes(4, "big") + b"\x80" * 90_000) * 20
    for blob in (EMPTY_MAPS, nest, b"\x94" + halves):
        with pytest.raises(NotDecodable, match="holds more than 100,000 items"):
            decode_value(blob, wide)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB: 2,000,000 empty maps are 161 MiB"


def test_a_damaged_field_of_a_checkpoint_is_named() -> None:
    base = encode(Job())
    names = plan_of(Job).fields
    with pytest.raises(NotDecodable, match=r"Job: \$\.name: damaged"):
        decode_with(Job, base, {"name": b"\xc1"})
    with pytest.raises(NotDecodable, match=r"Job: \$\.name: expected str, got int 1"):
        decode_with(Job, base, {"name": b"\x01"})
    with pytest.raises(NotDecodable, match=r"Job: \$\.name: expected str, got int 1"):
        next(one for one in names if one.name == "name").decode(b"\x01")
    with pytest.raises(NotEncodable, match=r"Job: \$\.name: expected str, got int 1"):
        next(one for one in names if one.name == "name").encode(1)
    with pytest.raises(NotDecodable, match="the base is no map"):
        decode_with(Job, b"\x90", {})
    assert decode_with(Job, base, {"no longer there": b"\x01"}) == Job()


@pytest.mark.parametrize("error", [ValueError("no such place"), SystemExit(3), GeneratorExit(), ZeroDivisionError()])
def test_what_post_init_raises_is_told_as_damage(error: BaseException) -> None:
    @dataclass
    class Picky:
        x: int

        def __post_init__(self) -> None:
            if self.x:
                raise error

    blob = encode_map({"x": 1})
    with pytest.raises(NotDecodable, match=f"Picky: .*: Picky refused its fields: {type(error).__name__}") as caught:
        decode(Picky, blob)
    assert caught.value.__cause__ is error


def test_a_missing_field_without_default_is_named() -> None:
    @dataclass
    class Strict:
        x: int

    with pytest.raises(NotDecodable, match=r"Strict: \$\.x: missing, and it has no default"):
        decode(Strict, encode_map({}))


def test_raw_fields_must_be_a_map_with_names() -> None:
    for blob in (b"\x90", b"\xc0", b"\x81\x01\x01"):
        with pytest.raises(NotDecodable, match="no fields of a dataclass"):
            decode_map(blob)


def test_a_dataclass_in_a_value_comes_back_as_a_dict_of_its_fields() -> None:
    value = {"file": File(Path("x"), 3), "colours": [Colour.RED, Number.ONE, Rights.READ | Rights.WRITE], "sub": SubList([1])}
    assert decode_value(encode_value(value)) == {"file": {"path": Path("x"), "size": 3}, "colours": ["RED", "ONE", 3], "sub": [1]}


def test_payloads_stay_payloads() -> None:
    assert (PAYLOAD.bytes, PAYLOAD.depth, PAYLOAD.items) == (2**20, 64, 100_000)
