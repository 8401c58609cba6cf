"""What tasks recorded while they ran, and the warnings of their job: who waits until it is on disk."""

from __future__ import annotations

from typing import Any

from callboard.actors.store import give
from callboard.jobs.errors import error_text
from callboard.persistence.writes import Warned


class NoteFutures:
    """Futures of tasks that wait for a note, each with the number of the save that has it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait_for(self, sequence: int, future: Any) -> None:
        self._waiting.append((sequence, future))

    def saved(self, sequence: int, error: Exception | None) -> None:
        """All saves up to this one are on disk; `error`: the others never will be."""
        waiting, self._waiting = self._waiting, []
        for needed, future in waiting:
            if needed <= sequence:
                give(future, None)
            elif error is not None:
                give(future, error)
            else:
                self._waiting.append((needed, future))


def warning(number: int, message: str, item: object) -> Warned:
    """As it is stored: text that is UTF-8, of a bounded length."""
    shown = None if item is None else shown_item(item)
    return number, shown, str(message)[:8192].encode("utf-8", "backslashreplace").decode()


def shown_item(item: object) -> str:
    """An item of a warning as text; whatever its `__str__` does."""
    try:
        text = str(item)
    except Exception as error:  # noqa: BLE001 - the author's __str__ may raise
        text = error_text(error)
    return text[:1000].encode("utf-8", "backslashreplace").decode()
