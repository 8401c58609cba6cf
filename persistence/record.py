"""One dataclass, written as a map {field: value}, and made again through its own `__init__`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from callboard.jobs.errors import error_text
from callboard.persistence.container import Union
from callboard.persistence.kind import Kind, wrong
from callboard.persistence.scalar import Float, Plain
from callboard.persistence.wire import Fault, Room, key_step, too_deep

_ABSENT = object()


class Slot(NamedTuple):
    """One field of a record."""

    name: str
    kind: Kind
    given: bool
    """Whether `__init__` takes it. What it does not take is set after `__init__` and `__post_init__` have run."""
    required: bool
    """Whether there is no default."""
    shown: bool
    """False: its author wants its value to be seen nowhere (`field(repr=False)`)."""


class Record:
    """A dataclass. Filled in after it was made, since it may hold itself."""

    wires: frozenset[type] = frozenset([dict])

    def __init__(self, cls: type, *, frozen: bool) -> None:
        self.cls = cls
        self.allowed = cls.__name__
        self.frozen = frozen
        self.slots: tuple[Slot, ...] = ()
        self._encoders: list[tuple[str, type | None, Callable[[Any, Room, int], object]]] = []
        self._decoders: list[tuple[str, type | None, Callable[[Any, int], object], bool]] = []
        self._plain_init = True

    def fill(self, slots: tuple[Slot, ...]) -> None:
        """Set the fields, in the order of the dataclass."""
        self.slots = slots
        self._encoders = [(slot.name, _as_is(slot.kind, (bool, int, float)), slot.kind.encode) for slot in slots]
        self._decoders = [(slot.name, _as_is(slot.kind, (bool, int, float, str, bytes)), slot.kind.decode, slot.required) for slot in slots]
        self._plain_init = all(slot.given for slot in slots)

    @property
    def parts(self) -> tuple[Kind, ...]:
        return tuple(slot.kind for slot in self.slots)

    def takes(self, value: object) -> bool:
        return type(value) is self.cls

    def encode(self, value: object, room: Room, depth: int) -> object:
        if type(value) is not self.cls:
            raise wrong(self.allowed, value, "a subclass would lose its own fields" if issubclass(type(value), self.cls) else "")
        if depth < 1:
            raise too_deep()
        room.take(len(self._encoders))
        depth -= 1
        tree: dict[str, object] = {}
        name = ""
        try:
            for name, as_is, encode in self._encoders:
                item = getattr(value, name)
                tree[name] = item if type(item) is as_is else encode(item, room, depth)
        except Fault as fault:
            fault.within(f".{name}")
            raise
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # no value yet, or a property of that name
            raise Fault(f"cannot be read: {error_text(error, 200)}").within(f".{name}") from error
        return tree

    def decode(self, wire: object, depth: int) -> Any:
        if type(wire) is not dict:
            raise wrong(self.allowed, wire)
        if depth < 1:
            raise too_deep()
        depth -= 1
        values: dict[str, object] = {}
        name = ""
        try:
            for name, as_is, decode, required in self._decoders:
                item = wire.get(name, _ABSENT)
                if item is not _ABSENT:
                    values[name] = item if type(item) is as_is else decode(item, depth)
                elif required:
                    raise Fault("missing, and it has no default")
        except Fault as fault:
            fault.within(f".{name}")
            raise
        return self._make(values)

    def build(self, value: Any, depth: int) -> Any:
        if type(value) is self.cls:
            return value
        if not issubclass(type(value), dict):
            raise wrong(self.allowed, value, "or a dict of its fields")
        if depth < 1:
            raise too_deep()
        given: dict[Any, Any] = dict(value)
        for key in given:
            if not any(key == slot.name for slot in self.slots):
                raise Fault(f"{self.allowed} has no such field{self._nearest(key)}").within(_field_step(key))
        values: dict[str, object] = {}
        for slot in self.slots:
            try:
                if slot.name in given:
                    values[slot.name] = slot.kind.build(given[slot.name], depth - 1)
                elif slot.required:
                    raise Fault(f"missing, and it has no default; expected {slot.kind.allowed}")
            except Fault as fault:
                fault.within(f".{slot.name}")
                raise
        return self._make(values)

    def _make(self, values: dict[str, object]) -> object:
        try:
            if self._plain_init:
                return self.cls(**values)
            later = [(slot.name, values.pop(slot.name)) for slot in self.slots if not slot.given and slot.name in values]
            made = self.cls(**values)
            for name, item in later:
                object.__setattr__(made, name, item)  # a frozen class has no other way
            return made
        except (KeyboardInterrupt, MemoryError, RecursionError):
            raise
        except BaseException as error:  # __post_init__ is the author's, and may raise even SystemExit
            raise Fault(f"{self.allowed} refused its fields: {error_text(error, 300)}") from error

    def _nearest(self, key: object) -> str:
        import difflib

        near = difflib.get_close_matches(key, [slot.name for slot in self.slots], 1, 0.5) if type(key) is str else []
        if near:
            return f"; did you mean {near[0]}?"
        return f"; its fields: {', '.join(slot.name for slot in self.slots)}"[:200] if self.slots else "; it has no fields"


def cover(kind: Kind, fault: Fault) -> Fault:
    """The fault, without the value if it is in a field that is not to be shown."""
    kinds: list[Kind] = [kind]
    for depth, step in enumerate(fault.steps, 1):
        inner: list[Kind] = []
        while kinds:
            outer = kinds.pop()
            if isinstance(outer, Record):
                slot = next((slot for slot in outer.slots if step == f".{slot.name}"), None)
                if slot is not None and not slot.shown and not fault.reason.startswith("missing"):
                    fault.hide(depth, slot.kind.allowed)
                    return fault
                inner += () if slot is None else (slot.kind,)
            elif isinstance(outer, Union):
                kinds += outer.parts  # it is no step
            else:
                inner += getattr(outer, "parts", ())
        kinds = inner
    return fault


def _as_is(kind: Kind, types: tuple[type, ...]) -> type | None:
    """The exact type whose values need no call, since this kind leaves them alone."""
    if isinstance(kind, Float):
        return float
    return kind.cls if isinstance(kind, Plain) and kind.cls in types else None


def _field_step(key: object) -> str:
    return f".{key[:100]}" if type(key) is str and key.isidentifier() else key_step(key)
