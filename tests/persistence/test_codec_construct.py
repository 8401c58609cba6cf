"""A job given by name and plain fields is the same job as one made in Python, or is refused with the field's name."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest

from callboard.jobs.errors import NotEncodable
from callboard.persistence.codec import construct, decode_map, encode


class Colour(enum.Enum):
    RED = "r"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Item:
    path: Path
    size: int = 0


@dataclass
class Job:
    item: Item
    ratio: float = 0.0
    files: tuple[Path, ...] = ()
    names: set[str] = field(default_factory=set)
    points: frozenset[tuple[int, str]] = frozenset()
    by_number: dict[int, list[Item]] = field(default_factory=dict)
    at: datetime | None = None
    day: date = date(2000, 1, 1)
    span: timedelta = timedelta(0)
    id: UUID = UUID(int=0)
    price: Decimal = Decimal(0)
    colour: Colour = Colour.RED
    rights: Rights = Rights.READ
    mode: Literal["a", 1] = "a"
    either: int | Path | None = None
    raw: bytes = b""
    any: Any = None
    late: int = field(init=False, default=1)


TYPED = Job(
    Item(Path("/x"), 4),
    1.0,
    (Path("a"), Path("b")),
    {"n"},
    frozenset({(1, "p")}),
    {-7: [Item(Path("y"))]},
    datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
    date(2024, 1, 2),
    timedelta(seconds=1.5),
    UUID(int=5),
    Decimal("1.10"),
    Colour.RED,
    Rights.WRITE,
    1,
    Path("z"),
    b"",
    {"k": [1]},
)
TYPED.late = 5
JSON = """{"item": {"path": "/x", "size": 4}, "ratio": 1, "files": ["a", "b"], "names": ["n", "n"], "points": [[1, "p"]],
"by_number": {"-7": [{"path": "y"}]}, "at": "2024-01-02T03:04:05Z", "day": "2024-01-02", "span": 1.5,
"id": "00000000-0000-0000-0000-000000000005", "price": "1.10", "colour": "RED", "rights": "WRITE", "mode": 1, "either": "z",
"any": {"k": [1]}, "late": 5}"""


def test_fields_from_json_make_the_same_job() -> None:
    assert construct(Job, json.loads(JSON)) == TYPED


def test_typed_fields_make_the_same_job() -> None:
    assert construct(Job, dict(vars(TYPED))) == TYPED
    assert encode(construct(Job, dict(vars(TYPED)))) == encode(TYPED)


def test_stored_fields_make_the_same_job() -> None:
    assert construct(Job, decode_map(encode(TYPED))) == TYPED


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, r"Job: \$\.item: missing, and it has no default; expected Item"),
        ({"item": {"path": "p"}, "file": []}, r"\$\.file: Job has no such field; did you mean files\?"),
        ({"item": {"path": "p"}, "zzzzzz": 1}, r"\$\.zzzzzz: Job has no such field; its fields: item, ratio"),
        ({"item": {"path": "p"}, "no name": 1}, r"\$\['no name'\]: Job has no such field"),
        ({"item": {"path": "p"}, 3: 1}, r"\$\[3\]: Job has no such field"),
        ({"item": {"pat": "p"}}, r"\$\.item\.pat: Item has no such field; did you mean path\?"),
        ({"item": {"path": "p", "size": "4"}}, r"\$\.item\.size: expected int, got str '4'"),
        ({"item": {"path": 3}}, r"\$\.item\.path: expected Path, got int 3"),
        ({"item": 3}, "expected Item, got int 3; or a dict"),
        ({"item": {"path": "p"}, "files": "ab"}, r"\$\.files: expected tuple\[Path, \.\.\.\], got str 'ab'"),
        ({"item": {"path": "p"}, "files": ["a", 1]}, r"\$\.files\[1\]: expected Path"),
        ({"item": {"path": "p"}, "names": [[]]}, r"\$\.names\[0\]: expected str"),
        ({"item": {"path": "p"}, "points": [[1]]}, r"\$\.points\[0\]: expected tuple\[int, str\], got 1 elements"),
        ({"item": {"path": "p"}, "by_number": {"x": []}}, r"\$\.by_number\['x'\]: expected int"),
        ({"item": {"path": "p"}, "by_number": {"1": [{}]}}, r"\$\.by_number\['1'\]\[0\]\.path: missing"),
        ({"item": {"path": "p"}, "by_number": {"1": [], 1: []}}, "two keys are stored as the same one"),
        ({"item": {"path": "p"}, "by_number": {"9" * 5_000: []}}, r"\$\.by_number\['999.*expected int, got str '999"),
        ({"item": {"path": "p"}, "at": "soon"}, "expected datetime, got str 'soon'"),
        ({"item": {"path": "p"}, "span": "1.5"}, "expected timedelta"),
        ({"item": {"path": "p"}, "span": 1e300}, "expected timedelta, got 1e\\+300"),
        ({"item": {"path": "p"}, "span": float("nan")}, "expected timedelta, got nan"),
        ({"item": {"path": "p"}, "id": "5"}, "expected UUID, got str '5'"),
        ({"item": {"path": "p"}, "price": 1.1}, "expected Decimal, got 1.1"),
        ({"item": {"path": "p"}, "colour": "r"}, "expected a name of Colour, got str 'r'; its names: RED"),
        ({"item": {"path": "p"}, "rights": 77}, "expected bits of Rights"),
        ({"item": {"path": "p"}, "mode": "c"}, "expected Literal"),
        ({"item": {"path": "p"}, "either": 1.5}, r"\$\.either: expected int \| Path \| None, got 1.5"),
        ({"item": {"path": "p"}, "raw": "x"}, "expected bytes, got str"),
        ({"item": {"path": "p"}, "ratio": True}, "expected float, got True"),
        ([("item", 1)], "expected Job, got list; or a dict of its fields"),
        (None, "expected Job, got None"),
    ],
)
def test_fields_that_do_not_fit_are_refused_by_name(fields: Any, words: str) -> None:
    with pytest.raises(NotEncodable, match=words) as caught:
        construct(Job, fields)
    assert len(str(caught.value)) < 500


def test_what_post_init_raises_is_told() -> None:
    @dataclass
    class Picky:
        x: int

        def __post_init__(self) -> None:
            raise ValueError(f"{self.x} is too small")

    with pytest.raises(NotEncodable, match="Picky refused its fields: ValueError: 3 is too small"):
        construct(Picky, {"x": 3})


def test_fields_nested_too_deep_are_refused() -> None:
    @dataclass
    class Node:
        next: Node | None = None

    fields: dict[str, Any] = {}
    fields["next"] = fields
    with pytest.raises(NotEncodable, match="nested too deep"):
        construct(Node, fields)
