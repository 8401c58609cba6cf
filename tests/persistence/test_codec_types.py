"""What a dataclass may look like, what of it is refused, and what a plan says of each field."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import pytest

from callboard.jobs.errors import BadJobType, NotEncodable
from callboard.persistence.codec import construct, decode, decode_map, encode, plan_of

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")
Name = NewType("Name", str)


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int


class Sizes(TypedDict):
    x: int


@dataclass(frozen=True)
class Frozen:
    path: Path
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class HalfFrozen:
    tags: list[str]


@dataclass
class Open:
    size: int


@dataclass
class Node:
    value: int
    next: Node | None = None
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FrozenNode:
    value: int
    next: FrozenNode | None = None


@dataclass
class Left:
    right: Right | None = None


@dataclass
class Right:
    left: Left | None = None


@dataclass
class Parent:
    first: int
    second: list[int] = field(default_factory=list)


@dataclass
class Child(Parent):
    second: list[int] = field(default_factory=lambda: [1])
    third: str = field(default="x", kw_only=True)
    seen: set[str] = field(init=False, default_factory=set)
    total: int = field(init=False)
    shared: ClassVar[dict[str, Fraction]] = {}

    def __post_init__(self) -> None:
        self.total = -1


class Renamed(Child):
    """No fields of its own, so it need not be decorated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    a: int
    b: str = "b"
    late: int = field(init=False, default=3)


@dataclass
class Shadow:
    """The default hides the type's own name inside the class body."""

    date: date | None = None
    Path: Path | None = None


@dataclass
class Wrapped:
    name: Name
    size: Annotated[int, "bytes"]
    old: Optional[Union[int, str]] = None  # noqa: UP007, UP045
    const: Final[int] = 4


@dataclass
class Bare:
    a: list = field(default_factory=list)  # type: ignore[type-arg]
    b: dict = field(default_factory=dict)  # type: ignore[type-arg]
    c: tuple = ()  # type: ignore[type-arg]
    d: object = None


@dataclass
class Empty:
    pass


def made(cls: type, annotation: object) -> type:
    """A dataclass with one field `x` of this type."""
    return dataclass(type(cls.__name__, (), {"__annotations__": {"x": annotation}, "__module__": __name__}))


def test_inheritance_defaults_and_fields_outside_init_come_back() -> None:
    child = Child(1, third="y")
    child.seen.add("s")
    child.total = 8
    back = decode(Child, encode(child))
    assert back == child
    assert (back.seen, back.total) == ({"s"}, 8), "what is stored wins over what __post_init__ sets"
    assert decode(Renamed, encode(Renamed(2))) == Renamed(2)


@pytest.mark.parametrize(
    "value",
    [
        Slotted(a=1),
        Shadow(date(2024, 1, 1), Path("x")),
        Wrapped(Name("n"), 3, "x"),
        Bare([1, (2,)], {"a": {1}, 2: None, b"k": 1.5}, (1, [2]), {"x": (1,)}),
        Empty(),
        Node(1, Node(2), [Node(3, None, [Node(4)])]),
        FrozenNode(1, FrozenNode(2)),
        Left(Right(Left())),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_shape_of_dataclass_comes_back(value: object) -> None:
    back = decode(type(value), encode(value))
    assert back == value
    assert type(back) is type(value)


def test_a_frozen_slotted_field_outside_init_comes_back() -> None:
    value = Slotted(a=1)
    object.__setattr__(value, "late", 9)
    assert decode(Slotted, encode(value)).late == 9


def test_a_local_class_may_hold_itself() -> None:
    @dataclass(slots=True)
    class Here:
        next: Here | None = None

    @dataclass
    class Node:
        """Not the one of the module."""

        next: Node | None = None

    assert decode(Here, encode(Here(Here()))) == Here(Here())
    assert decode(Node, encode(Node(Node()))) == Node(Node())  # pyright: ignore[reportArgumentType]


def test_a_plan_is_compiled_once_and_names_its_fields() -> None:
    plan = plan_of(Child)
    assert plan_of(Child) is plan
    assert plan.name == "Child"
    assert [one.name for one in plan.fields] == ["first", "second", "third", "seen", "total"]


@pytest.mark.parametrize("annotation", [int, str, bytes, bool, float, None, Path, Colour, datetime, date, timedelta, UUID, Decimal])
def test_scalars_and_what_is_made_of_them_are_immutable(annotation: Any) -> None:
    assert immutable(annotation)
    assert immutable(tuple[annotation, ...])
    assert immutable(tuple[annotation, int])
    assert immutable(frozenset[annotation])
    assert immutable(annotation | None if annotation is not None else None)
    assert not immutable(list[annotation])
    assert not immutable(tuple[list[annotation], ...])
    assert not immutable(set[annotation])
    assert not immutable(dict[str, annotation])


def test_a_dataclass_is_immutable_only_if_frozen_all_the_way() -> None:
    assert immutable(Frozen)
    assert immutable(tuple[Frozen, ...])
    assert immutable(FrozenNode)
    assert immutable(Literal["a", 1])
    assert not immutable(HalfFrozen)
    assert not immutable(tuple[HalfFrozen | None, ...])
    assert not immutable(Open)
    assert not immutable(Any)
    assert not immutable(tuple[Any, ...])


def immutable(annotation: object) -> bool:
    return plan_of(made(Empty, annotation)).fields[0].immutable


def test_a_list_where_a_tuple_is_declared_is_refused() -> None:
    """Else a field believed immutable could change unseen."""
    with pytest.raises(NotEncodable, match=r"\$\.tags: expected tuple\[str, \.\.\.\], got list; give tuple"):
        encode(Frozen(Path("x"), ["a"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (complex, "complex"),
        (bytearray, "declare bytes"),
        (Callable[[], int], "Callable"),
        (Sequence[int], r"declare list\[…\] or tuple"),
        (Mapping[str, int], r"declare dict\["),
        (type, "type cannot be stored"),
        (Point, "Point cannot be stored"),
        (Sizes, "Sizes cannot be stored"),
        (T, "T cannot be stored"),
        (list[complex], "complex"),
        (dict[str, complex], "complex"),
        (tuple[int, complex], "complex"),
        (dict[float, int], "dict key of type float"),
        (dict[tuple[int, int], int], "dict key of type tuple"),
        (Open | Frozen, "Open and Frozen look the same when stored; put them in one dataclass"),
        (Open | dict[str, int], "look the same"),
        (str | date, "str and date look the same when stored; declare one"),
        (Path | bytes, "look the same"),
        (list[int] | tuple[int, ...], "look the same"),
        (Literal["RED", Colour.RED], "two values of the Literal are stored as 'RED'"),
        (memoryview, "allowed are bool, int, float, str, bytes"),
    ],
)
def test_a_type_that_cannot_be_stored_is_refused_by_name(annotation: object, words: str) -> None:
    with pytest.raises(BadJobType, match=words) as caught:
        plan_of(made(Empty, annotation))
    assert str(caught.value).startswith("Empty.x: ")


def test_a_name_that_cannot_be_resolved_is_named() -> None:
    @dataclass
    class OnlyForCheckers:
        x: int
        part: list[Fraction]

    class Local:
        pass

    @dataclass
    class Hidden:
        part: Local

    with pytest.raises(BadJobType, match=r"OnlyForCheckers\.part: the name 'Fraction' in its annotation cannot be resolved"):
        plan_of(OnlyForCheckers)
    with pytest.raises(BadJobType, match=r"Hidden\.part: the name 'Local' in its annotation .* not inside a function"):
        plan_of(Hidden)


def test_an_annotation_that_cannot_be_read_is_named() -> None:
    with pytest.raises(BadJobType, match=r"Empty\.x: its annotation cannot be read: SyntaxError"):
        plan_of(made(Empty, "list[int"))


@dataclass
class WithInitVar:
    size: int
    scale: InitVar[int]


@dataclass
class Undecorated(Parent):
    pass


class Forgotten(Parent):
    extra: int = 0


@dataclass
class OwnInit:
    size: int

    def __init__(self) -> None:
        self.size = 3


@dataclass
class Box(Generic[T]):
    x: T


@pytest.mark.parametrize(
    ("cls", "words"),
    [
        (WithInitVar, r"WithInitVar\.scale is asked for by __init__ but is no field \(an InitVar\?\)"),
        (Forgotten, r"Forgotten\.extra is no field, since the class is not decorated"),
        (OwnInit, r"OwnInit\.size is no parameter of __init__"),
        (Box, r"Box\.x: .*T cannot be stored"),
        (int, "int is not a dataclass; decorate it"),
        (list[int], "is not a class"),
        (None, "None is not a class"),
    ],
)
def test_a_class_that_could_not_be_made_again_is_refused(cls: Any, words: str) -> None:
    with pytest.raises(BadJobType, match=words):
        plan_of(cls)


def test_a_class_with_bad_annotations_can_be_mended_later() -> None:
    later = made(Empty, "NotYetDefined")
    with pytest.raises(BadJobType):
        plan_of(later)
    setattr(sys.modules[__name__], "NotYetDefined", int)  # noqa: B010
    assert encode(later(1))


@dataclass
class Older:
    kept: int
    dropped: str = "d"


@dataclass
class Newer:
    kept: int
    gained: list[str] = field(default_factory=lambda: ["g"])


def test_unknown_fields_are_ignored_and_missing_ones_get_their_defaults() -> None:
    assert decode(Newer, encode(Older(4))) == Newer(4)


def test_an_upgrade_sees_the_stored_fields_and_construct_takes_them_back() -> None:
    fields = decode_map(encode(Frozen(Path("/p"), ("a", "b"))))
    assert fields == {"path": b"/p", "tags": ["a", "b"]}
    fields["tags"].append("c")
    assert construct(Frozen, fields) == Frozen(Path("/p"), ("a", "b", "c"))


def test_a_union_keeps_int_and_float_apart() -> None:
    both = made(Empty, float | int)
    for value in (1, 1.0, -0.0):
        back = decode(both, encode(both(value))).x
        assert (type(back), back) == (type(value), value)
    lenient = made(Empty, float | str)
    assert type(decode(lenient, encode(both(1))).x) is float
