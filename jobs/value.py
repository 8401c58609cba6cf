"""What all frozen values of callboard share: how they are compared, hashed and shown."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar


class Value:
    """Base of frozen dataclasses made with `eq=False, repr=False`, which then behave as if both were True.

    The methods stand here once: `dataclass` compiles its own for each class, and the many messages and facts are what an import waits for.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __eq__(self, other: object) -> bool:
        return NotImplemented if other.__class__ is not self.__class__ else self._compared() == other._compared()

    def __hash__(self) -> int:
        fields = self.__dataclass_fields__.values()
        return hash(tuple(getattr(self, field.name) for field in fields if (field.compare if field.hash is None else field.hash)))

    def __repr__(self) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in self.__dataclass_fields__.values() if field.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _compared(self) -> tuple[object, ...]:
        return tuple(getattr(self, field.name) for field in self.__dataclass_fields__.values() if field.compare)
