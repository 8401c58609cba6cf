"""Database servers for the peers that need one: started in a temporary folder on a Unix socket, and gone when the peer is done, however it ends.

The kernel signals a server when the process that started it dies, so that none outlives a killed run. One that refuses to be root gets
another user, who may reach the folder under test wherever it is.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from callboard.benchmarks.peers.peer import PATIENCE, Cannot, TimeUp, until

NAP = 0.02
NOTE = "sockets.txt"
"""Says where the sockets are, if not here."""
SHORT = 80
"""Characters: a socket's path may have 107."""
UNLESS_ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"'
"""The parent may have died before the kernel was told to signal it."""
REACH = "+dac_override,+dac_read_search,+fowner"
"""Capabilities of the other user."""


def program(name: str) -> str | None:
    """Where it is: on the PATH, or where Debian puts PostgreSQL's."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name) if place.parent.name.isdigit() else 0)
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, reversed(places))))


def missing_programs(package: str, *names: str) -> str | None:
    """None, or what is missing, with the line that installs it."""
    if lacking := [name for name in names if program(name) is None]:
        return f"{lacking[0]} is not installed: apt install {package}"
    return None if shutil.which("setpriv") else "setpriv is not installed: apt install util-linux"


@contextmanager
def postgres(place: Path) -> Iterator[str]:
    """A PostgreSQL cluster in `place`, made there or found there: the address for its clients.

    Raises Cannot if it does not start."""
    data, stranger = place / "postgres", other_user()
    with _folder(place, stranger) as sockets:
        if not (data / "PG_VERSION").exists():
            # Unsynced: what is made here is no job.
            options = ["-U", "bench", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync"]
            _do([*started_as(stranger), str(program("initdb")), "-D", str(data), *options])
        until(lambda: not (data / "postmaster.pid").exists(), NAP, f"{data} is still in use")
        options = ["-c", "listen_addresses=", "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "max_connections=40"]
        command = [str(program("postgres")), "-D", str(data), "-k", str(sockets), *options]
        # Its abort: no checkpoint, no shutdown; and the shared memory is freed, which a kill would leave.
        with served([*started_as(stranger, signal.SIGQUIT), *command], stop=signal.SIGINT) as server:
            asked = [str(program("pg_isready")), "-q", "-h", str(sockets), "-U", "bench", "-d", "postgres"]
            until(lambda: subprocess.run(asked).returncode == 0, NAP, "PostgreSQL does not start", lambda: server.poll() is None)
            yield f"postgresql://bench@/postgres?host={sockets}"


@contextmanager
def redis(place: Path, *options: str) -> Iterator[str]:
    """A Redis in `place` with its append-only file: the path of its socket. Raises Cannot if it does not start."""
    with _folder(place, None) as sockets:
        address = sockets / "redis"
        command = [str(program("redis-server")), "--port", "0", "--unixsocket", str(address), "--dir", str(place), "--appendonly", "yes", *options]
        with served([*started_as(None, signal.SIGKILL), *command], stop=signal.SIGTERM) as server:
            asked = [str(program("redis-cli")), "-s", str(address), "ping"]
            answers = lambda: b"PONG" in subprocess.run(asked, capture_output=True).stdout  # noqa: E731
            until(answers, NAP, "Redis does not start", lambda: server.poll() is None)
            yield str(address)


def other_user() -> pwd.struct_passwd | None:
    """Whom a server runs as that refuses to be root; None: this process is not root."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Cannot("this is root, and there is neither a user postgres nor nobody for the server")


def started_as(user: pwd.struct_passwd | None, at_death: signal.Signals | None = None) -> list[str]:
    """What stands before a command: as `user`, signalled with `at_death` when its parent dies."""
    prefix = ["setpriv"]
    if user:
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", f"--inh-caps={REACH}", f"--ambient-caps={REACH}"]
    if at_death is None:
        return prefix
    return [*prefix, "--pdeathsig", at_death.name.removeprefix("SIG"), "sh", "-c", UNLESS_ORPHANED, str(os.getpid())]


@contextmanager
def _folder(place: Path, user: pwd.struct_passwd | None) -> Iterator[Path]:
    """For sockets, whose paths have to be short: the server's own folder, or one below /tmp, noted in `place` for `sweep`."""
    if len(str(place)) <= SHORT:
        yield place
        return
    folder = Path(tempfile.mkdtemp(prefix="callboard-bench-", dir="/tmp"))
    (place / NOTE).write_text(str(folder))
    try:
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path) -> None:
    """After the kill of a process whose server was in `place`: the folder of its sockets goes too."""
    try:
        folder = Path((place / NOTE).read_text())
    except OSError:
        return
    if folder.name.startswith("callboard-bench-") and folder.parent == Path("/tmp"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def served(command: list[str], stop: signal.Signals) -> Iterator[subprocess.Popen[str]]:
    """The command, until the end of the block; then it is stopped, and killed if it does not stop. A TimeUp says its last words too."""
    with tempfile.TemporaryFile("w+") as said:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, text=True)
        try:
            yield server
        except TimeUp as why:
            said.seek(0)
            raise TimeUp(f"{why}: {said.read().strip()[-300:]}") from None
        finally:
            for way in (stop, signal.SIGKILL):
                server.send_signal(way)
                with suppress(subprocess.TimeoutExpired):
                    server.wait(PATIENCE)
                    break


def _do(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Cannot(f"initdb: {done.stdout.strip()[-300:]}")

