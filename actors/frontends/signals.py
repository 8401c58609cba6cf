"""Ctrl-C, SIGTERM and SIGHUP as something that is read at the next wait; who sends a second one does not want to wait any more."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """A context manager, for the main thread. `fileno` becomes readable with the first signal; the second raises SystemExit(128 + number).

    So a command is never torn out of the middle of a submission: it knows what it has to bring to a stop.
    """

    def __init__(self, on_first: Callable[[], object] = lambda: None) -> None:
        """`on_first` is called at the first signal, in the middle of whatever the main thread does: it only leaves a message somewhere."""
        self._on_first = on_first
        self.taken: int | None = None
        """The first signal that came."""
        self._before: dict[int, Any] = {}
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        for number in NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._out)
        os.close(self._in)

    def fileno(self) -> int:
        return self._out

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + (self.taken or 0)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.taken is not None:
            raise SystemExit(128 + number)
        self.taken = number
        with contextlib.suppress(OSError):
            os.write(self._in, b"!")
        self._on_first()
