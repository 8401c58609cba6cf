"""What the codec knows of one declared type: what it takes, how it is written, how it is read."""

from __future__ import annotations

from typing import Protocol

from callboard.persistence.wire import Fault, Room, show


class Kind(Protocol):
    """One declared type, compiled. Every method raises Fault, and only Fault, for a value that does not fit.

    `depth` is how many levels of lists and maps may still be opened.
    """

    @property
    def allowed(self) -> str:
        """The type as an annotation says it, for error texts."""
        ...

    @property
    def wires(self) -> frozenset[type]:
        """The exact builtin types that its written form may have."""
        ...

    @property
    def frozen(self) -> bool:
        """Whether a value cannot change, apart from what it holds."""
        ...

    @property
    def parts(self) -> tuple[Kind, ...]:
        """The kinds of what it holds."""
        ...

    def takes(self, value: object) -> bool:
        """Whether `encode` is the right one for this value; looks at its type only, not into it."""
        ...

    def encode(self, value: object, room: Room, depth: int) -> object:
        """The value as a tree of exact builtins and ExtType."""
        ...

    def decode(self, wire: object, depth: int) -> object:
        """The value again, from what `encode` gave. Strict: nothing is converted that `encode` would not have written."""
        ...

    def build(self, value: object, depth: int) -> object:
        """The value from itself, from what `encode` gave, or from what JSON can say."""
        ...


def wrong(allowed: str, value: object, hint: str = "") -> Fault:
    """The value is of another type. `hint` says the way out."""
    return Fault(f"expected {allowed[:150]}, got {show(value)}" + (f"; {hint}" if hint else ""))


def immutable(kind: Kind) -> bool:
    """Whether a value of this kind can never change, however deep one looks. A type that holds itself is as the rest of it is."""
    seen: set[int] = set()
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            if not one.frozen:
                return False
            waiting += one.parts
    return True
