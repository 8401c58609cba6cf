"""Bugs that the campaigns of this folder must find, put into the process that forks by the environment variable `PLANTED`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from unittest import mock

import stories

from callboard.jobs.files import conflict
from callboard.jobs.files.folder import Folder
from callboard.persistence import connection
from callboard.persistence.wal import Wal

PLANTED = "CALLBOARD_PLANTED_BUG"


def names_copied_to() -> None:
    """What is not renamed can be seen half-written."""

    def take_name(folder: Folder, temp: bytes, name: bytes) -> None:
        place = f"/proc/self/fd/{folder.fd}/".encode()
        if os.path.islink(place + temp):
            return os.rename(place + temp, place + name)
        shutil.copyfile(place + temp, place + name, follow_symlinks=False)
        shutil.copystat(place + temp, place + name, follow_symlinks=False)
        os.unlink(place + temp)

    conflict.take_name = take_name  # type: ignore[assignment]


def errors_swallowed() -> None:
    """The next commit syncs again what could not be synced. With a checkpoint after nearly each."""
    stories.ROOM_PAGES = 12
    tidy = Wal.tidy
    Wal.tidy = lambda self: tidy(self) and None  # type: ignore[method-assign]


def synced_at_checkpoints_only() -> None:
    """What SQLite calls NORMAL."""

    def normal_sync(con: object) -> None:
        con.pragma("synchronous", "normal")  # type: ignore[attr-defined]

    settings = tuple(normal_sync if setting is connection.full_sync else setting for setting in connection.WRITER)
    for module in ("connection", "folder"):
        mock.patch(f"callboard.persistence.{module}.WRITER", settings).start()


BUGS: dict[str, Callable[[], None]] = {
    "names that are copied to": names_copied_to,
    "checkpoints that swallow their errors": errors_swallowed,
    "synchronous=NORMAL": synced_at_checkpoints_only,
}


def plant() -> None:
    """What the environment asks for, if anything."""
    bug = os.environ.get(PLANTED)
    if bug:
        BUGS[bug]()
