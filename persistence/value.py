"""Self-describing values, for what has no declared type: fields declared Any, results, progress details.

Lists, dicts with scalar keys, str, bytes, int, float, bool and None are msgpack's own. The other scalars are an ext type with the
text or bytes that `scalar` writes. A tuple, set or frozenset is a list whose first element is an empty ext type, its mark: nested
ext payloads would have to be unpacked one inside the other, out of sight of the limits.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

from callboard.persistence.kind import Kind
from callboard.persistence.scalar import NONE, SCALARS, path_kind
from callboard.persistence.wire import SHORT, ExtType, Fault, Room, key_step, order, show, too_deep, type_name

_SCALAR_CODES: dict[int, type] = {
    1: UUID,
    2: Path,
    3: Decimal,
    7: datetime,
    8: date,
    9: timedelta,
    10: PurePosixPath,
    11: PureWindowsPath,
}
_MARKS: dict[int, Any] = {4: set, 5: tuple, 6: frozenset}
"""Codes are on disk: never change or reuse one."""

_KINDS: dict[int, Kind] = {code: path_kind(cls) if issubclass(cls, PurePath) else SCALARS[cls] for code, cls in _SCALAR_CODES.items()}
_CODES: dict[type, int] = {(type(Path()) if cls is Path else cls): code for code, cls in _SCALAR_CODES.items()}
_MARK_OF: dict[type, ExtType] = {cls: ExtType(code, b"") for code, cls in _MARKS.items()}
_NATIVE = frozenset([NONE, bool, int, float, str, bytes])
_WIDER: tuple[Any, ...] = (int, float, str, bytes, dict, list, tuple, set, frozenset)


class Anything:
    """A value of no declared type. `loose` also takes what cannot come back as it was: a dataclass becomes a dict of its fields,
    an enum member its name, a subclass of a builtin the builtin."""

    allowed = "Any"
    wires: frozenset[type] = frozenset([NONE, bool, int, float, str, bytes, list, dict, ExtType])
    frozen = False
    parts: tuple[Kind, ...] = ()

    def __init__(self, *, loose: bool = False) -> None:
        self._loose = loose

    def takes(self, value: object) -> bool:
        return True

    def build(self, value: object, depth: int) -> object:
        return value

    def encode(self, value: Any, room: Room, depth: int) -> object:
        cls = type(value)
        if cls in _NATIVE:
            if (cls is str or cls is bytes) and len(value) > SHORT:
                room.take_long(len(value))
            return value
        if cls is list:
            return self._encode_items(list(value), room, depth, [])
        if cls is dict:
            return self._encode_dict(value, room, depth)
        mark = _MARK_OF.get(cls)
        if mark is not None:
            return self._encode_items(list(value), room, depth, [mark], sort=cls is not tuple)
        code = _CODES.get(cls)
        if code is not None:
            wire: Any = _KINDS[code].encode(value, room, 0)
            return ExtType(code, wire if type(wire) is bytes else wire.encode())
        return self.encode(self._plainer(value, room), room, depth)

    def _plainer(self, value: Any, room: Room) -> object:
        """The nearest value that can be stored."""
        cls = type(value)
        if issubclass(cls, Enum):
            if self._loose:
                return int(value._value_) if issubclass(cls, Flag) else value._name_
            raise Fault(f"{type_name(value)} is an enum, which would come back as its name; declare the field as that enum")
        if _is_dataclass(cls):
            if self._loose:
                return _field_values(value)
            raise Fault(f"{type_name(value)} is a dataclass, which would come back as a dict; declare the field as that dataclass")
        for wider in _WIDER:
            if issubclass(cls, wider):
                if wider in (int, float, str, bytes):
                    return SCALARS[wider].encode(value, room, 0)
                if self._loose:
                    return dict(dict.items(value)) if wider is dict else wider(wider.__iter__(value))
                raise Fault(f"{type_name(value)} would come back as {wider.__name__}; give {wider.__name__}(…)")
        raise Fault(f"{type_name(value)} cannot be stored; allowed are {_ALLOWED}")

    def _encode_items(self, items: list[Any], room: Room, depth: int, made: list[Any], *, sort: bool = False) -> list[Any]:
        if depth < 1:
            raise too_deep()
        room.take(len(items) + len(made))
        marks = len(made)
        try:
            for item in items:
                made.append(self.encode(item, room, depth - 1))
        except Fault as fault:
            fault.within(f"[{len(made) - marks}]")
            raise
        if sort:
            made[marks:] = sorted(made[marks:], key=order)
        return made

    def _encode_dict(self, value: dict[Any, Any], room: Room, depth: int) -> dict[Any, Any]:
        if depth < 1:
            raise too_deep()
        room.take(len(value))
        made: dict[Any, Any] = {}
        for key, item in list(value.items()):
            try:
                wire = self.encode(key, room, 0)
                made[wire] = self.encode(item, room, depth - 1)
            except Fault as fault:
                if issubclass(type(key), (tuple, frozenset)):
                    raise Fault(f"a dict key of type {type_name(key)} cannot be stored; allowed are scalars") from None
                fault.within(key_step(key))
                raise
        if len(made) != len(value):
            raise Fault("two keys are stored as the same one")
        return made

    def decode(self, wire: Any, depth: int) -> object:
        cls = type(wire)
        if cls in _NATIVE:
            return wire
        if cls is list:
            if depth < 1:
                raise too_deep()
            return self._decode_items(wire, depth)
        if cls is dict:
            if depth < 1:
                raise too_deep()
            return self._decode_dict(wire, depth)
        if cls is ExtType and wire.code in _KINDS:
            kind = _KINDS[wire.code]
            return kind.decode(wire.data if bytes in kind.wires else _text(wire.data), 0)
        raise Fault(f"damaged: an ext type that callboard never writes ({show(wire.code) if cls is ExtType else cls.__name__})")

    def _decode_items(self, wire: list[Any], depth: int) -> object:
        made: list[object] = []
        marked = bool(wire) and type(wire[0]) is ExtType and wire[0].code in _MARKS and not wire[0].data
        try:
            for item in wire[1:] if marked else wire:
                made.append(self.decode(item, depth - 1))
        except Fault as fault:
            fault.within(f"[{len(made)}]")
            raise
        if not marked:
            return made
        try:
            whole = _MARKS[wire[0].code](made)
        except TypeError:
            raise Fault("damaged: a set holds what cannot be in one") from None
        if len(whole) != len(made):
            raise Fault("damaged: a set holds an element twice")
        return whole

    def _decode_dict(self, wire: dict[Any, Any], depth: int) -> dict[object, object]:
        made: dict[object, object] = {}
        for key, item in wire.items():
            try:
                made[self.decode(key, 0)] = self.decode(item, depth - 1)
            except Fault as fault:
                fault.within(key_step(key))
                raise
        if len(made) != len(wire):
            raise Fault("damaged: two keys of a map are equal")
        return made


_ALLOWED = "None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, Path, datetime, date, timedelta, UUID and Decimal"


def _is_dataclass(cls: type) -> bool:
    try:
        return is_dataclass(cls)
    except Exception:  # a metaclass may answer anything
        return False


def _field_values(value: Any) -> dict[str, object]:
    try:
        return {field.name: getattr(value, field.name) for field in fields(value)}
    except Exception as error:
        raise Fault(f"a field of this {type_name(value)} cannot be read: {type(error).__name__}") from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Fault("damaged: an ext type's text is no UTF-8") from None
