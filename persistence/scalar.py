"""Each scalar type and the one builtin it is written as: the same value comes back, to the last bit that equality sees.

Paths are bytes (`os.fsencode`), so that names which are no UTF-8 survive. A datetime keeps its offset, not the name of its zone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from pathlib import PurePath
from typing import Any
from uuid import UUID

from callboard.jobs.errors import error_text
from callboard.persistence.kind import Kind, wrong
from callboard.persistence.wire import SHORT, Fault, Room, type_name

NONE = type(None)
_EXACT: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    float: float.__float__,
}
"""From a subclass to the plain value, without running the subclass's own code."""


class Plain:
    """None, bool, int, str or bytes: written as it is."""

    frozen = True
    parts: tuple[Kind, ...] = ()

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.allowed = "None" if cls is NONE else cls.__name__
        self.wires = frozenset([cls])
        self.sized = cls is str or cls is bytes

    def takes(self, value: object) -> bool:
        cls = type(value)
        return cls is self.cls or (self.cls in _EXACT and issubclass(cls, self.cls) and cls is not bool)

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if type(value) is not self.cls:
            if not self.takes(value):
                raise wrong(self.allowed, value, _HINTS.get((self.cls, type(value)), ""))
            value = _EXACT[self.cls](value)
        if self.sized and len(value) > SHORT:
            room.take_long(len(value))
        return value

    def decode(self, wire: object, depth: int) -> object:
        if type(wire) is self.cls:
            return wire
        raise wrong(self.allowed, wire)

    def build(self, value: Any, depth: int) -> object:
        if self.takes(value):
            return value
        raise wrong(self.allowed, value)


_HINTS = {
    (str, bytes): "decode it, or declare bytes",
    (bytes, str): "encode it, or declare str",
    (bytes, bytearray): "give bytes(…)",
    (int, float): "declare float, or give int(…)",
}


class Float:
    """float; an int is taken where the float is exactly that number."""

    allowed = "float"
    wires: frozenset[type] = frozenset([float])
    frozen = True
    parts: tuple[Kind, ...] = ()

    def takes(self, value: object) -> bool:
        cls = type(value)
        return cls is float or (issubclass(cls, (int, float)) and cls is not bool)

    def encode(self, value: Any, room: Room, depth: int) -> object:
        return value if type(value) is float else self.build(value, depth)

    def decode(self, wire: object, depth: int) -> object:
        return wire if type(wire) is float else self.build(wire, depth)

    def build(self, value: Any, depth: int) -> object:
        if not self.takes(value):
            raise wrong("float", value)
        if issubclass(type(value), float):
            return float.__float__(value)
        number = int.__int__(value)
        try:
            exact = float(number)
        except OverflowError:
            exact = 0.0
        if exact != number:
            raise wrong("float", number, "a float would not be exactly that number")
        return exact


class Converted:
    """A type that is written as text or bytes. `parse` takes what JSON would say, where that is something else."""

    frozen = True
    parts: tuple[Kind, ...] = ()

    def __init__(
        self,
        cls: type,
        wire: type,
        write: Callable[[Any], Any],
        read: Callable[[Any], object],
        parse: Callable[[Any], object] | None = None,
    ) -> None:
        self.cls = cls
        self.allowed = cls.__name__
        self.wires = frozenset([wire])
        self._wire, self._write, self._read, self._parse = wire, write, read, parse
        self._subclasses = issubclass(cls, PurePath)  # Path("x") is a PosixPath; elsewhere a subclass may hold more than we keep

    def takes(self, value: object) -> bool:
        return type(value) is self.cls or (self._subclasses and issubclass(type(value), self.cls))

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if not self.takes(value):
            raise wrong(self.allowed, value, f"give {self.allowed}(…)" if type(value) in (str, bytes) else "")
        try:
            wire = self._write(value)
        except Exception as error:
            raise Fault(f"this {type_name(value)} cannot be written: {error_text(error, 200)}") from error
        if len(wire) > SHORT:
            room.take_long(len(wire))
        return wire

    def decode(self, wire: object, depth: int) -> object:
        if type(wire) is not self._wire:
            raise wrong(self.allowed, wire)
        try:
            return self._read(wire)
        except Exception as error:
            raise wrong(self.allowed, wire, f"it is written otherwise ({type(error).__name__})") from error

    def build(self, value: Any, depth: int) -> object:
        if self.takes(value):
            return value
        if self._parse is None or type(value) is self._wire:
            return self.decode(value, depth)
        try:
            return self._parse(value)
        except Exception as error:
            raise wrong(self.allowed, value) from error


def _write_datetime(value: datetime) -> str:
    text = value.isoformat()
    if text[-16:-15] in ("+", "-") and text[-7] == "." and len(text) >= 35:
        raise ValueError("its offset has a fraction of a second, which Python itself does not read back")
    return text + "~" if value.fold else text  # ISO 8601 has no word for the second of two equal hours


def _read_datetime(text: str) -> datetime:
    if len(text) <= 10:
        raise ValueError("a date only")
    if text[-1:] == "~":
        return datetime.fromisoformat(text[:-1]).replace(fold=1)
    return datetime.fromisoformat(text)


def _write_timedelta(value: timedelta) -> str:
    return f"{(value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds}us"  # more than 64 bits hold


def _read_timedelta(text: str) -> timedelta:
    if not re.fullmatch(r"-?[0-9]{1,20}us", text):
        raise ValueError("not whole microseconds")
    return timedelta(microseconds=int(text[:-2]))


def _parse_timedelta(value: object) -> timedelta:
    if type(value) is int or type(value) is float:
        return timedelta(seconds=value)
    raise TypeError("not seconds")


_TRAP = Context(traps=[InvalidOperation])


def _read_decimal(text: str) -> Decimal:
    return Decimal(text, _TRAP)  # the host's own context may turn bad text into NaN


def _parse_decimal(value: object) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    raise TypeError("not exact")


def _write_uuid(value: UUID) -> bytes:
    return value.bytes


def _read_uuid(wire: bytes) -> UUID:
    return UUID(bytes=wire)


def path_kind(cls: type[PurePath]) -> Converted:
    """Path, PurePath or one of their subclasses."""

    def read(wire: bytes) -> PurePath:
        return cls(os.fsdecode(wire))

    def parse(value: Any) -> PurePath:
        if type(value) is str or issubclass(type(value), PurePath):
            return cls(value)
        raise TypeError("not a path")

    return Converted(cls, bytes, os.fsencode, read, parse)


SCALARS: dict[type, Kind] = {
    NONE: Plain(NONE),
    bool: Plain(bool),
    int: Plain(int),
    float: Float(),
    str: Plain(str),
    bytes: Plain(bytes),
    datetime: Converted(datetime, str, _write_datetime, _read_datetime),
    date: Converted(date, str, date.isoformat, date.fromisoformat),
    timedelta: Converted(timedelta, str, _write_timedelta, _read_timedelta, _parse_timedelta),
    Decimal: Converted(Decimal, str, str, _read_decimal, _parse_decimal),
    UUID: Converted(UUID, bytes, _write_uuid, _read_uuid, UUID),
}
