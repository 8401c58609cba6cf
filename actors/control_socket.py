"""Where the control socket of a library lies and who is at its other end.

It lies in the library's folder and is reached through the folder's descriptor, since the path of a socket ends at 107 bytes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from callboard.jobs.errors import UnsafeLibrary

SOCKET_FILE = "control.sock"


def listen(folder: Path, waiting: int) -> socket.socket:
    """Listen in the folder, mode 0600, with up to `waiting` clients waiting; a socket that a dead owner left is removed.

    Call it with the library's lock held. Raises OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _descriptor(folder) as fd:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(os.stat(SOCKET_FILE, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise FileExistsError(f"{str(folder / SOCKET_FILE)!r} is no socket; remove it")
                os.unlink(SOCKET_FILE, dir_fd=fd)
            os.fchmod(sock.fileno(), 0o600)  # bind takes the mode from the descriptor: the file is never open to others
            sock.bind(f"/proc/self/fd/{fd}/{SOCKET_FILE}")
        sock.listen(waiting)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def remove(folder: Path) -> None:
    """Take the socket away. Call it with the library's lock held."""
    with contextlib.suppress(OSError), _descriptor(folder) as fd:
        os.unlink(SOCKET_FILE, dir_fd=fd)


def connect(folder: Path, timeout: float) -> socket.socket | None:
    """A connection to whoever listens there; None if nobody does.

    Raises `UnsafeLibrary` if it is another user, TimeoutError after `timeout` seconds.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Python's own timeout does not wait where the line of those who wait is full: it looks as if nobody listened.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(timeout), int(timeout % 1 * 1e6) or 1))
        with _descriptor(folder) as fd:
            sock.connect(f"/proc/self/fd/{fd}/{SOCKET_FILE}")
        sock.settimeout(timeout)
        who = peer(sock)
        if who != os.geteuid():
            raise UnsafeLibrary(f"the control socket in {str(folder)!r} is served by user {who}, this process is user {os.geteuid()}")
        return sock
    except PermissionError as error:
        sock.close()
        raise UnsafeLibrary(f"the control socket in {str(folder)!r} is another user's: {error.strerror}") from error
    except (TimeoutError, BlockingIOError) as error:
        sock.close()
        raise TimeoutError(f"the owner of {str(folder)!r} has let nobody in for {timeout:g} s") from error
    except OSError:
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise


def peer(sock: socket.socket) -> int:
    """The user at the other end."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


@contextlib.contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
