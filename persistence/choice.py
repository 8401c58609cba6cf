"""Types with a fixed set of values: enums, flags, Literal.

Enums are written by name, not by value: code refers to members by name, while values may be anything, also what cannot be stored,
and `auto()` renumbers them. Flags are their integer, since a combination has no name of its own.
"""

from __future__ import annotations

import enum
from typing import Any

from callboard.persistence.kind import Kind, wrong
from callboard.persistence.wire import Room


class EnumName:
    """A member of an enum, written by its name; aliases are read as what they stand for."""

    wires: frozenset[type] = frozenset([str])
    frozen = True
    parts: tuple[Kind, ...] = ()

    def __init__(self, cls: type[enum.Enum]) -> None:
        self.cls = cls
        self.allowed = cls.__name__
        self._members = cls.__members__

    def takes(self, value: object) -> bool:
        return type(value) is self.cls

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if type(value) is not self.cls:
            raise wrong(self.allowed, value, f"give {self.allowed}.NAME" if type(value) in (str, int) else "")
        return value._name_

    def decode(self, wire: object, depth: int) -> object:
        member = self._members.get(wire) if type(wire) is str else None
        if member is None:
            names = ", ".join(self._members)
            raise wrong(f"a name of {self.allowed}", wire, f"its names: {names[:120]}" + ("…" if len(names) > 120 else ""))
        return member

    def build(self, value: object, depth: int) -> object:
        return value if type(value) is self.cls else self.decode(value, depth)


class FlagBits:
    """A flag or a combination of flags, written as its integer."""

    wires: frozenset[type] = frozenset([int])
    frozen = True
    parts: tuple[Kind, ...] = ()

    def __init__(self, cls: type[enum.Flag]) -> None:
        self.cls = cls
        self.allowed = cls.__name__

    def takes(self, value: object) -> bool:
        return type(value) is self.cls

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if type(value) is not self.cls:
            raise wrong(self.allowed, value)
        return int(value._value_)

    def decode(self, wire: object, depth: int) -> object:
        if type(wire) is not int:
            raise wrong(self.allowed, wire)
        try:
            return self.cls(wire)
        except Exception as error:
            raise wrong(f"bits of {self.allowed}", wire) from error

    def build(self, value: object, depth: int) -> object:
        if type(value) is self.cls:
            return value
        if type(value) is str and value in self.cls.__members__:
            return self.cls.__members__[value]
        return self.decode(value, depth)


class Choice:
    """One of the values of a Literal. Each is written as its own type would be."""

    frozen = True
    parts: tuple[Kind, ...] = ()

    def __init__(self, choices: list[tuple[object, object]]) -> None:
        """`choices` are (value, written form), all written forms different."""
        self.allowed = f"Literal[{', '.join(repr(wire) for _, wire in choices)}]"[:120]
        self.wires = frozenset(type(wire) for _, wire in choices)
        self._types = frozenset(type(value) for value, _ in choices)
        self._write = {(type(value), value): wire for value, wire in choices}
        self._read = {(type(wire), wire): value for value, wire in choices}

    def takes(self, value: object) -> bool:
        return type(value) in self._types and (type(value), value) in self._write

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if not self.takes(value):
            raise wrong(self.allowed, value)
        return self._write[type(value), value]

    def decode(self, wire: object, depth: int) -> object:
        if type(wire) not in self.wires or (type(wire), wire) not in self._read:
            raise wrong(self.allowed, wire)
        return self._read[type(wire), wire]

    def build(self, value: object, depth: int) -> object:
        return value if self.takes(value) else self.decode(value, depth)
