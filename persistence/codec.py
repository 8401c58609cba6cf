"""Dataclasses to msgpack maps and back: the equal instance, or an error that names the path. Nothing stored is ever executed.

What is kept is a map {field: value}; fields the class no longer has are ignored, fields it has gained get their defaults. Reading
runs the class's `__init__` and `__post_init__`, then sets the fields that `__init__` does not take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from callboard.jobs.errors import NotDecodable, NotEncodable
from callboard.persistence.plan import FieldPlan, Plan, plan_of
from callboard.persistence.record import cover
from callboard.persistence.value import Anything
from callboard.persistence.wire import CHECKPOINT, PAYLOAD, Fault, Limits, Room, pack, unpack

__all__ = [
    "CHECKPOINT",
    "PAYLOAD",
    "FieldPlan",
    "Limits",
    "Plan",
    "construct",
    "decode",
    "decode_map",
    "decode_value",
    "decode_with",
    "encode",
    "encode_map",
    "encode_value",
    "plan_of",
]

T = TypeVar("T")
_VALUE = Anything(loose=True)
_RAW = Anything()


def encode(instance: object, limits: Limits = PAYLOAD) -> bytes:
    """The dataclass instance as a blob. Raises NotEncodable with the path, such as `$.files[3].size`; BadJobType for its class."""
    plan = plan_of(type(instance))
    try:
        return pack(plan.record.encode(instance, Room(limits), limits.depth), limits)
    except Fault as fault:
        raise NotEncodable(f"{plan.name}: {cover(plan.record, fault)}") from fault.__cause__


def decode(cls: type[T], blob: bytes, limits: Limits = PAYLOAD) -> T:
    """The instance from what `encode` gave. Strict: a bool is no int, a float no int; an int is taken for a float.

    Raises NotDecodable with the path, also for what `__post_init__` raises.
    """
    plan = plan_of(cls)
    try:
        made: T = plan.record.decode(unpack(blob, limits), limits.depth)
        return made
    except Fault as fault:
        raise NotDecodable(f"{plan.name}: {cover(plan.record, fault)}") from fault.__cause__


def decode_with(cls: type[T], base: bytes, overrides: Mapping[str, bytes], limits: Limits = CHECKPOINT) -> T:
    """The instance of `base` with some fields replaced by later ones, each as `FieldPlan.encode` gave it.

    Names the class no longer has are ignored. Raises NotDecodable.
    """
    plan = plan_of(cls)
    try:
        tree = unpack(base, limits)
        if type(tree) is not dict:
            raise Fault("damaged: the base is no map")
        for name, blob in overrides.items():
            try:
                tree[name] = unpack(blob, limits)
            except Fault as fault:
                fault.within(f".{name}")
                raise
        made: T = plan.record.decode(tree, limits.depth)
        return made
    except Fault as fault:
        raise NotDecodable(f"{plan.name}: {cover(plan.record, fault)}") from fault.__cause__


def construct(cls: type[T], fields: Mapping[str, object]) -> T:
    """An instance from its fields: as typed values, as JSON has them, or as `decode_map` gives them.

    JSON's forms: a list for a tuple or set, a dict for a dataclass, text for Path, UUID, Decimal, ISO 8601 for date and datetime,
    seconds for a timedelta, the name of an enum member, digits for an int dict key. Raises NotEncodable for an unknown or missing
    field, a value that does not fit, and for what `__post_init__` raises.
    """
    plan = plan_of(cls)
    try:
        given = dict(fields) if isinstance(fields, Mapping) else fields
        made: T = plan.record.build(given, PAYLOAD.depth)
        return made
    except Fault as fault:
        raise NotEncodable(f"{plan.name}: {cover(plan.record, fault)}") from fault.__cause__


def encode_map(fields: Mapping[str, object], limits: Limits = PAYLOAD) -> bytes:
    """The fields that `decode_map` gave, after a change to them. Raises NotEncodable.

    Values must be as they are stored; `encode(construct(cls, fields))` takes typed ones.
    """
    return _encode(_RAW, dict(fields), limits)


def decode_map(blob: bytes, limits: Limits = PAYLOAD) -> dict[str, Any]:
    """The fields of any version of a class as they are stored, for an upgrade function `dict -> dict`. Raises NotDecodable.

    Tuples and sets are lists, Path and UUID bytes, enum members names, dates and Decimal text, a timedelta text such as `90us`,
    nested dataclasses dicts. Only inside a field declared Any are values as they were.
    """
    found = _decode(_RAW, blob, limits)
    if type(found) is not dict or not {str}.issuperset(map(type, found)):
        raise NotDecodable("$: damaged: these are no fields of a dataclass")
    return found


def encode_value(value: object, limits: Limits = PAYLOAD) -> bytes:
    """A value of no declared type, such as a job's result. Raises NotEncodable.

    Tuples, sets, Path, dates, UUID, Decimal come back as they were. A dataclass comes back as a dict of its fields, an enum member
    as its name (a flag as its integer), a subclass of a builtin, such as a named tuple, as the builtin.
    """
    return _encode(_VALUE, value, limits)


def decode_value(blob: bytes, limits: Limits = PAYLOAD) -> Any:
    """The value from what `encode_value` gave. Raises NotDecodable."""
    return _decode(_VALUE, blob, limits)


def _encode(kind: Anything, value: object, limits: Limits) -> bytes:
    try:
        return pack(kind.encode(value, Room(limits), limits.depth), limits)
    except Fault as fault:
        raise NotEncodable(str(fault)) from fault.__cause__


def _decode(kind: Anything, blob: bytes, limits: Limits) -> object:
    try:
        return kind.decode(unpack(blob, limits), limits.depth)
    except Fault as fault:
        raise NotDecodable(str(fault)) from fault.__cause__
