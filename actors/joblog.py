"""One log file a job, made at its first line, the same one after a resume; a line a record, escaped, at most so many bytes."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from callboard.jobs.errors import error_text, shown, traceback_text
from callboard.jobs.identity import id_text

LOG_BYTES_MAX = 10 * 2**20
"""A job's log stops growing here; its last line then says so."""

LINE_CHARACTERS_MAX = 8_192

_logger = logging.getLogger("callboard.job")


def escaped(text: str) -> str:
    """One line, whatever `text` holds: control characters, bidi marks and line separators are shown as escapes, so none can forge a line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class JobLog(logging.LoggerAdapter[logging.Logger]):
    """`ctx.log`: writes to the job's file and to logging as `callboard.job`, with `job_id`, `job_name` and `attempt` on each record."""

    def __init__(self, folder: Path | None, job_id: bytes, name: str, attempt: int, wall: Any) -> None:
        super().__init__(_logger, {"job_id": id_text(job_id), "job_name": name, "attempt": attempt})
        self._path = None if folder is None else folder / f"{id_text(job_id)}.log"
        self._attempt = attempt
        self._wall = wall

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return level >= logging.INFO or super().isEnabledFor(level)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        text, fits = _formatted(msg, args)
        if self._path is not None and level >= logging.INFO:
            self._write(level, text, kwargs.get("exc_info"))
        if not fits:
            msg, args = "%s", (text,)
        if _logger.isEnabledFor(level):
            msg, kwargs = self.process(msg, kwargs)  # type: ignore[assignment]
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the line to name is the author's
            _logger.log(level, msg, *args, **kwargs)

    def _write(self, level: int, text: str, exc_info: object) -> None:
        assert self._path is not None
        if isinstance(exc_info, tuple):
            exc_info = exc_info[1]
        elif exc_info and not isinstance(exc_info, BaseException):
            exc_info = sys.exc_info()[1]
        if isinstance(exc_info, BaseException):
            text += f" | {error_text(exc_info)} | {traceback_text(exc_info)}"
        line = f"{self._wall():.3f} {logging.getLevelName(level)} attempt={self._attempt} {escaped(text)}"[:LINE_CHARACTERS_MAX]
        try:
            with _appended(self._path) as file:
                size = os.fstat(file.fileno()).st_size
                if size >= LOG_BYTES_MAX:
                    return
                if size + 4 * len(line) >= LOG_BYTES_MAX:
                    line = f"(this log has reached its {LOG_BYTES_MAX} bytes and ends here)".ljust(LOG_BYTES_MAX - size)
                file.write(line + "\n")
        except OSError as error:
            _logger.warning("the log of a job could not be written: %s", error)


def _formatted(msg: object, args: tuple[object, ...]) -> tuple[str, bool]:
    """The text, cut; and whether the arguments fit the format. A bad one must not end the job, whatever handlers the host has."""
    values: object = args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args  # as logging has it
    try:
        return (str(msg) % values if args else str(msg))[:LINE_CHARACTERS_MAX], True
    except Exception as error:  # noqa: BLE001 - also from the str() of an argument
        return f"{shown(msg, 200)} (could not be formatted: {error_text(error)})", False


def _appended(path: Path) -> TextIO:
    """The log, made if it is not there. The library may have come from anywhere: a link, a second name or a pipe in its place is refused."""
    folder = path.parent
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    within = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(path.name, flags, 0o600, dir_fd=within)
    finally:
        os.close(within)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(fd)
        raise OSError(errno.EPERM, "it is no plain file with one name", str(path))
    return open(fd, "a", encoding="utf-8")
