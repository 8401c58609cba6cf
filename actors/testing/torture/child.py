"""Child processes: forked, so that a life costs milliseconds; they tell in lines of JSON through a pipe, and are killed with SIGKILL.

Forked by a process that has no thread and no library open, a child is as good as a new one. What it told before it died can be read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any, Self

Line = dict[str, Any]
Say = Callable[..., None]

FAILED = 70
"""Exit code of a child in which something was raised that should not be; a line `failed` says what."""
ORPHAN = 71
READ_BYTES = 1 << 16


class Child:
    """A running child, and a context manager: at its end the child is killed. `lines` has what it told; a last one that is torn is not among them."""

    def __init__(self, run: Callable[[Say], object]) -> None:
        self.lines: list[Line] = []
        self.exit: int | None = None
        """Its exit code, or minus the signal that ended it; None while it runs."""
        self._rest = b""
        self._eof = False
        self._pipe, tell = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pipe)
            _live(run, tell)
        os.close(tell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def listen(self, seconds: float) -> bool:
        """Take what it tells, for so long at most. True when it has ended."""
        until = time.monotonic() + seconds
        while not self._eof:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                return False
            self._take()
        if self.exit is None:
            self.exit = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._pipe)
        return True

    def wait_for(self, what: str, seconds: float) -> Line | None:
        """The first line with this word; None if it ends, or is silent for so long, without one."""
        until, seen = time.monotonic() + seconds, 0
        while True:
            for line in self.lines[seen:]:
                if what in line:
                    return line
            seen = len(self.lines)
            left = until - time.monotonic()
            if self.exit is not None or left <= 0:
                return None
            self.listen(min(left, 0.02))

    def kill(self) -> None:
        """SIGKILL, and take what it had told. Harmless when it has ended."""
        if self.exit is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            while not self.listen(1.0):
                pass

    def told(self, what: str) -> list[Line]:
        """All lines with this word."""
        return [line for line in self.lines if what in line]

    def _take(self) -> None:
        data = os.read(self._pipe, READ_BYTES)
        if not data:
            self._eof = True
            return
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [json.loads(line) for line in whole]


def _live(run: Callable[[Say], object], tell: int) -> None:
    """What the child does; does not return."""
    code = 0

    def say(**what: object) -> None:
        try:
            os.write(tell, json.dumps(what).encode() + b"\n")
        except OSError:
            os._exit(ORPHAN)  # nobody listens any more

    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which kills us
        logging.disable(logging.CRITICAL)  # what matters is told
        run(say)
    except BaseException as error:  # noqa: BLE001 - the parent has to know, whatever it is
        say(failed=f"{type(error).__name__}: {error}", trace=traceback.format_exc()[-2_000:])
        code = FAILED
    finally:
        os._exit(code)
