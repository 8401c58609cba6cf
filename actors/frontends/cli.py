"""The command `callboard`: what came of it as an exit code, and every error as one line that says what to do."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from callboard.actors.joblog import escaped
from callboard.jobs.errors import CallboardError, DataError, LibraryBusy, UsageError

if TYPE_CHECKING:
    import click

OK, FAILED, NOT_STARTED, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments` as in sys.argv[1:], which is the default. Returns its exit code."""
    try:
        from callboard.actors.frontends.commands import callboard
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print("callboard: the command line needs an extra; install it: pip install 'callboard[cli]'", file=sys.stderr)
        return NOT_STARTED
    with _output():
        return _run(callboard, arguments)


def _run(callboard: click.Group, arguments: Sequence[str] | None) -> int:
    import click

    try:
        code = callboard.main(args=None if arguments is None else list(arguments), prog_name="callboard", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())  # or Python complains of it at exit
        return FAILED
    except CallboardError as error:
        print(f"callboard: {escaped(str(error))}", file=sys.stderr)
        return NOT_STARTED if isinstance(error, (UsageError, LibraryBusy, DataError)) else FAILED
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        print("callboard: progress bars need an extra; install it: pip install 'callboard[cli]'", file=sys.stderr)
        return NOT_STARTED


class _OneLine(logging.Formatter):
    """Nothing in a log record can steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return f"callboard: {escaped(super().format(record))}"


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Characters that the terminal's encoding lacks are escaped, not an error; warnings are lines; a job's own log is in its file."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    of_jobs = logging.getLogger("callboard.job")
    before = of_jobs.level
    of_jobs.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        of_jobs.setLevel(before)


if __name__ == "__main__":
    sys.exit(main())
