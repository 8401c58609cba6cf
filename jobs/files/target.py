"""The place a copy goes to: what was there stays whole until the copy, complete and on disk under a temporary name, takes its name."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator

from callboard.jobs.files.folder import Folder, Place
from callboard.jobs.files.names import numbered

RENAME_NOREPLACE = 1
NUMBERS_MAX = 100_000
"""`name (n).ext` is tried up to here."""

_CANNOT = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))


def open_temp(folder: Folder, name: bytes, offset: int) -> tuple[int, int]:
    """A descriptor of the temporary file and how many bytes of it count: `offset`, or 0 if it had to be made anew. Raises OSError."""
    if offset:
        kept = _kept(folder, name, offset)
        if kept is not None:
            return kept, offset
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o600, dir_fd=folder.fd), 0
    except FileExistsError:
        remove_temp(folder, name)
        return os.open(name, flags, 0o600, dir_fd=folder.fd), 0


def _kept(folder: Folder, name: bytes, offset: int) -> int | None:
    """The temporary file of an earlier attempt, cut to `offset`; None if it is too short or not certainly ours."""
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
    except OSError:
        return None
    found = os.fstat(fd)
    ours = stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == os.geteuid()
    if not ours or found.st_size < offset:
        os.close(fd)
        return None
    try:
        os.ftruncate(fd, offset)
    except OSError:
        os.close(fd)
        raise
    return fd


def remove_temp(folder: Folder, name: bytes) -> bool:
    """Remove the temporary file if it is there; False if not. Raises OSError."""
    try:
        os.unlink(name, dir_fd=folder.fd)
    except FileNotFoundError:
        return False
    return True


def sync_folder(folder: Folder) -> None:
    """What was made and renamed in it is on disk when this returns. Raises OSError."""
    try:
        fd = folder.readable()
    except PermissionError:
        os.sync()  # one may write into it but not read it; there is no descriptor to sync
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def take_name(folder: Folder, temp: bytes, name: bytes) -> None:
    """The temporary file becomes `name`; a file or link of that name is replaced. Raises OSError."""
    os.rename(temp, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)


def take_free_name(folder: Folder, temp: bytes, name: bytes) -> None:
    """The temporary file becomes `name`. Raises FileExistsError if there is one, whoever made it when, and OSError."""
    try:
        _rename_noreplace(folder.fd, temp, name)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _link_and_unlink(folder, temp, name)


def _link_and_unlink(folder: Folder, temp: bytes, name: bytes) -> None:
    """For a file system without RENAME_NOREPLACE; and where it has no hard links either (FAT), a look and a rename must do."""
    try:
        os.link(temp, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        if Place(folder, name).look() is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        take_name(folder, temp, name)
    else:
        remove_temp(folder, temp)


def free_names(folder: Folder, name: bytes) -> Iterator[bytes]:
    """`name`, `name (1).ext`, … : those that nothing has at the moment. Raises OSError."""
    for number in range(NUMBERS_MAX):
        candidate = numbered(name, number) if number else name
        if Place(folder, candidate).look() is None:
            yield candidate


def _load_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    call: Callable[[int, bytes, int, bytes, int], int] = function
    return call


_renameat2 = _load_renameat2()


def _rename_noreplace(folder: int, old: bytes, new: bytes) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(folder, old, folder, new, RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
