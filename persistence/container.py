"""Lists, tuples, sets, dicts and unions of declared types. Exact types only: a subclass would come back as the plain one.

A tuple field that held a list would also break the promise behind `FieldPlan.immutable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from callboard.persistence.kind import Kind, wrong
from callboard.persistence.scalar import NONE, Float, Plain
from callboard.persistence.wire import Fault, Room, key_step, order, too_deep

_MANY: tuple[type, ...] = (list, tuple, set, frozenset)


def _each(items: Iterable[object], call: Callable[[object], object]) -> list[object]:
    """`call` on every item; a Fault gets the item's position."""
    done: list[object] = []
    try:
        for item in items:
            done.append(call(item))
    except Fault as fault:
        fault.within(f"[{len(done)}]")
        raise
    return done


class Many:
    """list[T], tuple[T, ...], set[T] or frozenset[T], written as a list; a set sorted, so that equal sets are equal bytes."""

    wires: frozenset[type] = frozenset([list])

    def __init__(self, cls: type, element: Kind) -> None:
        self.cls: Any = cls
        self.allowed = f"{cls.__name__}[{element.allowed}{', ...' if cls is tuple else ''}]"
        self.frozen = cls is tuple or cls is frozenset
        self.parts = (element,)
        self._element = element
        self._plain: type | None = element.cls if isinstance(element, Plain) else float if isinstance(element, Float) else None
        self._is_set = cls is set or cls is frozenset
        self._sort_key = None if element.wires <= {str} or element.wires <= {int} or element.wires <= {bytes} else order

    def takes(self, value: object) -> bool:
        return type(value) is self.cls

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if type(value) is not self.cls:
            raise wrong(self.allowed, value, f"give {self.cls.__name__}(…)" if issubclass(type(value), _MANY) else "")
        if depth < 1:
            raise too_deep()
        items: list[Any] = list(value)  # a copy: other threads may change the original
        room.take(len(items))
        plain = self._plain
        if plain is not None and {plain}.issuperset(map(type, items)):
            if plain is str or plain is bytes:
                room.take_long(sum(map(len, items)))
        else:
            encode = self._element.encode
            items = _each(items, lambda item: encode(item, room, depth - 1))
        if self._is_set:
            items.sort(key=self._sort_key)
        return items

    def decode(self, wire: object, depth: int) -> object:
        if type(wire) is not list:
            raise wrong(self.allowed, wire)
        if depth < 1:
            raise too_deep()
        items: list[object] = wire
        if self._plain is None or not {self._plain}.issuperset(map(type, items)):
            decode = self._element.decode
            items = _each(items, lambda item: decode(item, depth - 1))
        made = self._make(items)
        if self._is_set and len(made) != len(items):
            raise Fault("damaged: an element occurs twice")
        return made

    def build(self, value: Any, depth: int) -> object:
        if not issubclass(type(value), _MANY):
            raise wrong(self.allowed, value)
        if depth < 1:
            raise too_deep()
        build = self._element.build
        return self._make(_each(list(value), lambda item: build(item, depth - 1)))

    def _make(self, items: list[Any]) -> Any:
        if self.cls is list:
            return items
        try:
            return self.cls(items)
        except Exception as error:  # an element's own __hash__ or __eq__
            raise Fault(f"no {self.allowed} can be made of these: {type(error).__name__}") from error


class FixedTuple:
    """tuple[A, B, C]: as many elements as types."""

    wires: frozenset[type] = frozenset([list])
    frozen = True

    def __init__(self, parts: tuple[Kind, ...]) -> None:
        self.parts = parts
        self.allowed = f"tuple[{', '.join(part.allowed for part in parts) or '()'}]"

    def takes(self, value: object) -> bool:
        return type(value) is tuple

    def encode(self, value: Any, room: Room, depth: int) -> object:
        items = self._checked(value, (tuple,), depth)
        room.take(len(items))
        parts = iter(self.parts)
        return _each(items, lambda item: next(parts).encode(item, room, depth - 1))

    def decode(self, wire: object, depth: int) -> object:
        parts = iter(self.parts)
        return tuple(_each(self._checked(wire, (list,), depth), lambda item: next(parts).decode(item, depth - 1)))

    def build(self, value: Any, depth: int) -> object:
        parts = iter(self.parts)
        return tuple(_each(self._checked(value, (tuple, list), depth), lambda item: next(parts).build(item, depth - 1)))

    def _checked(self, value: Any, allowed: tuple[type, ...], depth: int) -> list[object]:
        if type(value) not in allowed:
            raise wrong(self.allowed, value, "give tuple(…)" if issubclass(type(value), _MANY) else "")
        if depth < 1:
            raise too_deep()
        items: list[object] = list(value)
        if len(items) != len(self.parts):
            raise Fault(f"expected {self.allowed}, got {len(items)} elements")
        return items


class Mapping:
    """dict[K, V], written as a map; K is written as str, int or bytes. The order is kept."""

    wires: frozenset[type] = frozenset([dict])
    frozen = False

    def __init__(self, key: Kind, value: Kind) -> None:
        self.parts = (key, value)
        self.allowed = f"dict[{key.allowed}, {value.allowed}]"
        self._key, self._value = key, value

    def takes(self, value: object) -> bool:
        return type(value) is dict

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if type(value) is not dict:
            raise wrong(self.allowed, value, "give dict(…)" if issubclass(type(value), dict) else "")
        room.take(len(value))
        return self._convert(
            value, depth, lambda key: self._key.encode(key, room, 0), lambda item: self._value.encode(item, room, depth - 1)
        )

    def decode(self, wire: object, depth: int) -> object:
        if type(wire) is not dict:
            raise wrong(self.allowed, wire)
        return self._convert(wire, depth, lambda key: self._key.decode(key, 0), lambda item: self._value.decode(item, depth - 1))

    def build(self, value: Any, depth: int) -> object:
        if not issubclass(type(value), dict):
            raise wrong(self.allowed, value)
        return self._convert(value, depth, self._build_key, lambda item: self._value.build(item, depth - 1))

    def _build_key(self, key: object) -> object:
        if type(key) is str and int in self._key.wires and str not in self._key.wires and re.fullmatch("-?[0-9]{1,20}", key):
            return self._key.build(int(key), 0)  # JSON has no other keys than strings
        return self._key.build(key, 0)

    def _convert(
        self, given: dict[Any, Any], depth: int, on_key: Callable[[object], object], on_value: Callable[[object], object]
    ) -> dict[object, object]:
        if depth < 1:
            raise too_deep()
        made: dict[object, object] = {}
        for key, value in list(given.items()):  # a copy: other threads may change the original
            try:
                made[on_key(key)] = on_value(value)
            except Fault as fault:
                fault.within(key_step(key))
                raise
            except Exception as error:  # a key's own __hash__ or __eq__
                raise Fault(f"this key cannot be used: {type(error).__name__}").within(key_step(key)) from error
        if len(made) != len(given):
            raise Fault("two keys are stored as the same one")
        return made


class Union:
    """One of several kinds, no two of them written as the same builtin, so that the written form says which it is."""

    def __init__(self, arms: tuple[Kind, ...]) -> None:
        self.parts = tuple(sorted(arms, key=lambda arm: isinstance(arm, Float)))  # last: it would take an int from the int
        self.frozen = True  # it adds nothing of its own
        self.allowed = " | ".join(arm.allowed for arm in arms)
        self.wires = frozenset(wire for arm in arms for wire in arm.wires)
        self._nullable = NONE in self.wires
        solid = [arm for arm in arms if arm.wires != {NONE}]
        self._only = solid[0] if self._nullable and len(solid) == 1 else None
        self._by_wire = {wire: arm for arm in arms for wire in arm.wires}
        if float in self._by_wire:
            self._by_wire.setdefault(int, self._by_wire[float])

    def takes(self, value: object) -> bool:
        return any(arm.takes(value) for arm in self.parts)

    def encode(self, value: Any, room: Room, depth: int) -> object:
        if value is None and self._nullable:
            return None
        if self._only is not None:
            return self._only.encode(value, room, depth)
        return self._arm(value).encode(value, room, depth)

    def decode(self, wire: object, depth: int) -> object:
        if wire is None and self._nullable:
            return None
        if self._only is not None:
            return self._only.decode(wire, depth)
        arm = self._by_wire.get(type(wire))
        if arm is None:
            raise wrong(self.allowed, wire)
        return arm.decode(wire, depth)

    def build(self, value: Any, depth: int) -> object:
        if value is None and self._nullable:
            return None
        if self._only is not None:
            return self._only.build(value, depth)
        for arm in sorted(self.parts, key=lambda arm: not arm.takes(value)):
            try:
                return arm.build(value, depth)
            except Fault as fault:
                if len(fault.path) > 1:  # the arm was right, something inside was not
                    raise
        raise wrong(self.allowed, value)

    def _arm(self, value: object) -> Kind:
        for arm in self.parts:
            if arm.takes(value):
                return arm
        raise wrong(self.allowed, value)
