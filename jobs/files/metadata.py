"""What a file has besides its bytes: mode, times, extended attributes. What the target cannot keep is told, never an error."""

from __future__ import annotations

import errno
import os
import stat

_TOLD_YEARS_NS = (0, 2**31 * 10**9)
"""1970 to 2038: every file system keeps these. Outside, what was kept is read back."""


def apply_to_file(fd: int, source: int, found: os.stat_result, *, setid: bool, xattrs: bool) -> list[str]:
    """Give the open copy `fd` what the open `source`, whose stat is `found`, has. Returns what could not be kept."""
    warnings = copy_xattrs(source, fd, setid=setid) if xattrs else []
    warnings += set_mode(fd, found.st_mode, setid=setid)
    warnings += set_times(fd, found.st_atime_ns, found.st_mtime_ns)
    return warnings


def set_mode(fd: int, mode: int, *, setid: bool) -> list[str]:
    """The permission bits; setuid and setgid only with `setid`: whoever copies would make them run as himself."""
    wanted = stat.S_IMODE(mode) if setid else stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID)
    try:
        os.fchmod(fd, wanted)
    except OSError as error:
        return [f"mode {wanted:04o} was not kept: {error.strerror}"]
    return []


def set_times(fd: int, atime_ns: int, mtime_ns: int) -> list[str]:
    try:
        os.utime(fd, ns=(atime_ns, mtime_ns))
        if _TOLD_YEARS_NS[0] <= mtime_ns < _TOLD_YEARS_NS[1] or os.fstat(fd).st_mtime_ns == mtime_ns:
            return []
        why = f"the target keeps {os.fstat(fd).st_mtime_ns} instead"
    except (OSError, OverflowError) as error:
        why = error.strerror or "" if isinstance(error, OSError) else str(error)
    return [f"modification time {mtime_ns} ns was not kept: {why}"]


def set_link_times(folder: int, name: bytes, found: os.stat_result) -> list[str]:
    try:
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=folder, follow_symlinks=False)
    except (OSError, OverflowError) as error:
        return [f"modification time {found.st_mtime_ns} ns of the link was not kept: {error}"]
    return []


def copy_xattrs(source: int | str, fd: int, *, setid: bool) -> list[str]:
    """All extended attributes and ACLs but those of `security.`, which belong to the machine; capabilities count as setuid bits."""
    try:
        names = os.listxattr(source)
    except OSError as error:
        return [] if error.errno == errno.EOPNOTSUPP else [f"extended attributes were not read: {error.strerror}"]
    warnings = []
    for name in names:
        if name.startswith("security.") and not (setid and name == "security.capability"):
            continue
        try:
            os.setxattr(fd, name, os.getxattr(source, name))
        except OSError as error:
            warnings.append(f"extended attribute {name!r:.120} was not kept: {error.strerror}")
    return warnings
