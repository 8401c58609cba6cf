"""What holds the values of a job does not print them: a traceback with the values of its variables is sent who knows where."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T", bound=type)


def unshown(cls: T) -> T:
    """Decorates a NamedTuple: its repr has the name of the class and the first field only."""
    cls.__repr__ = _brief  # type: ignore[assignment, method-assign]
    return cls


def _brief(self: tuple[object, ...]) -> str:
    first = self[0].hex() if isinstance(self[0], bytes) else self[0]
    return f"<{type(self).__name__} {first}>"
