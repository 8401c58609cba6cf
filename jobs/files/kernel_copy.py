"""The bytes of one file: moved inside the kernel where it can, in pieces between which the caller may leave, holes left as holes."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator

FICLONE = 0x40049409
"""ioctl(target, FICLONE, source): the target shares the source's blocks (btrfs, XFS, bcachefs)."""

BUFFER_BYTES = 1 << 20

_CANNOT = frozenset(
    (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.EACCES, errno.EBADF, errno.ETXTBSY)
)
"""What a way of copying answers when it cannot serve these two files; another way may."""

_Way = Callable[[int, int, int, int], int]

_useless: set[tuple[str, int, int]] = set()
"""(way, source device, target device) that has said so: it is not asked for every file again."""


def copied(source: int, temp: int, found: os.stat_result, device: int, offset: int, piece: int) -> Iterator[int]:
    """Copy from `offset` on to the end; yield how far it is after each piece of at most `piece` bytes, last the length of the copy.

    `found` is the source's stat, `device` the target's. A source that ends before its size, or has content at size 0 (/proc), is read
    until it ends. Raises OSError.
    """
    size = found.st_size
    devices = found.st_dev, device
    if not size:
        yield from _pieces(source, temp, offset, sys.maxsize, piece, _WAYS[-1:], devices)
        return
    if not offset and _clone(source, temp, devices):
        yield size
        return
    at = offset
    for start, end in data_ranges(source, offset, size, sparse=is_sparse(found)):
        for at in _pieces(source, temp, start, end, piece, _WAYS, devices):
            yield at
        if at < end:
            return
    if at < size:
        os.ftruncate(temp, size)
        yield size


def is_sparse(found: os.stat_result) -> bool:
    """True if the file has fewer blocks than its size needs: holes, or a file system that compresses."""
    return found.st_blocks * 512 < found.st_size


def data_ranges(fd: int, start: int, size: int, *, sparse: bool) -> Iterator[tuple[int, int]]:
    """Where the file has data between `start` and `size`: (from, to) in bytes. A file system that knows no holes has one range."""
    while sparse and start < size:
        try:
            begin = os.lseek(fd, start, os.SEEK_DATA)
            end = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            if error.errno not in _CANNOT:
                raise
            break
        if begin >= size:
            return
        yield begin, end
        start = end
    if start < size:
        yield start, size


def same_content(source: int, copy: int, size: int, *, sparse: bool, pause: Callable[[], None]) -> bool:
    """True if both have the same `size` bytes. The copy must be on disk: what is cached of it is dropped first, so it is read back.

    `pause` is called between pieces and may raise. Compares the bytes themselves; a hash would only be weaker. Raises OSError.
    """
    if os.fstat(copy).st_size != size:
        return False
    os.posix_fadvise(copy, 0, 0, os.POSIX_FADV_DONTNEED)
    for file in (source, copy) if sparse else (source,):  # data in either; where both have a hole both are zeros
        for at, end in data_ranges(file, 0, size, sparse=sparse):
            while at < end:
                expected = _read(source, at, min(BUFFER_BYTES, end - at))
                if not expected or _read(copy, at, len(expected)) != expected:
                    return False
                at += len(expected)
                if at < size:
                    pause()
    return True


def _clone(source: int, temp: int, devices: tuple[int, int]) -> bool:
    if ("clone", *devices) in _useless:
        return False
    try:
        fcntl.ioctl(temp, FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _remember("clone", devices, error)
        return False
    return True


def _pieces(
    source: int, temp: int, start: int, end: int, piece: int, ways: tuple[tuple[str, _Way], ...], devices: tuple[int, int]
) -> Iterator[int]:
    """Copy `start` to `end`, or to the end of the file; yield how far it is after each piece."""
    at = start
    for name, way in ways:
        if (name, *devices) in _useless:
            continue
        try:
            while at < end:
                moved = way(source, temp, at, min(piece, end - at))
                if not moved:
                    break  # the end, or a file system that says so wrongly: the next way finds out
                at += moved
                yield at
        except OSError as error:
            if error.errno not in _CANNOT or way is _through_memory:
                raise
            _remember(name, devices, error)
        if at >= end:
            return


def _remember(name: str, devices: tuple[int, int], error: OSError) -> None:
    if error.errno in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY):  # the others may be about this one file
        _useless.add((name, *devices))


def _range(source: int, temp: int, at: int, count: int) -> int:
    return os.copy_file_range(source, temp, count, at, at)


def _send(source: int, temp: int, at: int, count: int) -> int:
    os.lseek(temp, at, os.SEEK_SET)
    return os.sendfile(temp, source, at, count)


def _through_memory(source: int, temp: int, at: int, count: int) -> int:
    data = memoryview(os.pread(source, min(count, BUFFER_BYTES), at))
    written = 0
    while written < len(data):
        written += os.pwrite(temp, data[written:], at + written)
    return written


def _read(fd: int, at: int, count: int) -> bytes:
    """Exactly `count` bytes unless the file ends before."""
    data = os.pread(fd, count, at)
    while len(data) < count:
        more = os.pread(fd, count - len(data), at + len(data))
        if not more:
            break
        data += more
    return data


_WAYS: tuple[tuple[str, _Way], ...] = (("range", _range), ("send", _send), ("memory", _through_memory))
