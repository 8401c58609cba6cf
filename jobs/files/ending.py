"""How the copy of one entry ended, in words that a person and a program can act on."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

Status = Literal["copied", "skipped", "already", "failed"]
"""`skipped`: something has the name, and the policy is to leave it. `already`: it was there, nothing was done."""

Code = Literal[
    "",
    "vanished",
    "changed",
    "replaced",
    "special",
    "live",
    "denied",
    "same_file",
    "is_folder",
    "in_the_way",
    "exists",
    "no_folder",
    "read_only",
    "disk_full",
    "not_equal",
    "bad_name",
    "io",
]
"""Why it failed. `disk_full` (no space, no quota, larger than the target can hold) ends the job's turn rather than the item."""

@dataclass(frozen=True, slots=True)
class CopyEnd:
    """The end of one entry's copy. Except for `copied`, the target holds what it held before."""

    status: Status
    size: int = 0
    """Bytes of the copied file, or of the link's text."""
    name: bytes = b""
    """Its final name in the target folder, which differs from the source's under `rename`."""
    code: Code = ""
    reason: str = ""
    """Of a failure: what, where and what to do."""
    warnings: tuple[str, ...] = ()
    """What the target could not keep."""
    notes: tuple[str, ...] = ()
    """What is as it should be and yet worth telling, such as a hard link that became a file of its own."""


class CopyRefused(Exception):
    """The copy cannot be made; `code` and the text say why."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code


def failed(error: CopyRefused | OSError | ValueError, doing: str, *, at_source: bool = False) -> CopyEnd:
    """The end of a copy that met `error` while `doing` something; `at_source`: with the source, not with the target."""
    if isinstance(error, CopyRefused):
        return CopyEnd("failed", code=error.code, reason=str(error))
    if isinstance(error, ValueError):
        return CopyEnd("failed", code="bad_name", reason=f"{doing}: {error}")
    code, text = _at_source(error) if at_source else ("", "")
    if not code:
        code, text = _anywhere(error)
    return CopyEnd("failed", code=code, reason=f"{doing}: {text}")


def _at_source(error: OSError) -> tuple[Code, str]:
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return "vanished", "it has vanished since it was listed"
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return "replaced", "a folder above it was replaced since it was listed"
    return "", ""


def _anywhere(error: OSError) -> tuple[Code, str]:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return "disk_full", f"{error.strerror}; make room on the target and resume"
        case errno.EROFS:
            return "read_only", f"{error.strerror}; mount it for writing, or copy elsewhere"
        case errno.ENOENT:
            return "no_folder", "its folder is missing at the target; it was removed while the copy ran, or could not be made"
        case errno.ENOTDIR | errno.ELOOP:
            return "in_the_way", "a file or a link has the place of its folder at the target; move it away"
        case errno.EACCES | errno.EPERM:
            return "denied", f"{error.strerror}; give the user who copies the right to it"
        case errno.EISDIR | errno.ENOTEMPTY:
            return "is_folder", "a folder has its name at the target; move it away"
        case _:
            return "io", error.strerror or str(error)
