"""Whoever can reach the control socket is of the same user, and may still be broken or hostile: he holds nobody up and fills no memory."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import stat
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard import Job, JobContext, Library, Runtime
from callboard.actors import control_connection
from callboard.actors.control import CONNECTIONS_MOST
from callboard.actors.control_socket import SOCKET_FILE, connect
from callboard.actors.ports import ThreadPorts
from callboard.jobs.errors import NotDecodable
from callboard.persistence.frames import REPLY, REQUEST, FrameReader, frame

SECONDS = 100.0


@dataclass
class AttackEcho(Job, name="test_control_attacks.echo"):
    value: Any = None

    def run(self, ctx: JobContext) -> object:
        return self.value


class TurnedClock(ThreadPorts):
    """A monotonic clock that goes on when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.monotonic = lambda: self.now


@contextlib.contextmanager
def served(tmp_path: Path, ports: ThreadPorts | None = None) -> Iterator[Library]:
    """No client is sent away for being slow, unless the test turns the clock."""
    with Runtime(workers=1, ports=ports or TurnedClock()) as runtime:
        yield runtime.open_library(tmp_path / "l")


def visitor(library: Library, timeout: float = SECONDS) -> socket.socket:
    found = connect(library.path, timeout)
    assert found is not None
    return found


def ping(number: int = 1, **fields: Any) -> bytes:
    return frame({"v": 1, "id": number, "do": "Ping", "with": {}, **fields}, REQUEST)


def replies(client: socket.socket, count: int) -> list[dict[str, Any]]:
    """So many frames, or those up to the end of the stream."""
    reader, found = FrameReader(REPLY), []
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while len(found) < count and (data := client.recv(65_536)):
            found += reader.feed(data)
    return found


def answers(client: socket.socket) -> bool:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(ping())
    return any("ok" in reply for reply in replies(client, 1))


def test_who_reads_no_answers_is_not_read_any_more(tmp_path: Path) -> None:
    refused = ping(v=7) * 200  # each is answered at once, without asking anyone
    with served(tmp_path) as library, visitor(library, 0.2) as deaf, visitor(library) as good:
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 64 * 2**20:
                sent += deaf.send(refused)
        assert sent < 2 * 2**20
        assert answers(good)
        deaf.settimeout(SECONDS)
        assert len(replies(deaf, 1_000)) >= 1_000  # what was held back comes when he reads


def test_a_client_that_sends_a_byte_a_second_is_sent_away_in_time_and_holds_nobody_up(tmp_path: Path) -> None:
    ports = TurnedClock()
    with served(tmp_path, ports) as library, visitor(library) as slow, visitor(library) as good:
        assert answers(slow) and answers(good)
        length = 1_000_000
        slow.sendall(length.to_bytes(4))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(int(control_connection.FRAME_SECONDS) + 1):
                slow.sendall(b"x")
                assert answers(good)  # by whose answer the byte has been read
                ports.now += 1.0
            slow.sendall(b"x")
        assert replies(slow, 1) == []
        assert answers(good)


def test_a_frame_that_announces_more_than_it_may_takes_no_memory(tmp_path: Path) -> None:
    with served(tmp_path) as library:
        tracemalloc.start()
        try:
            for length in (REQUEST.bytes + 1, 2**31, 2**32 - 1, 0):
                with visitor(library) as client:
                    client.sendall(length.to_bytes(4))
                    [reply] = replies(client, 2)
                    assert "the limit is 1,048,576" in reply["error"]["text"]
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()


def test_what_is_being_received_is_bounded() -> None:
    reader = FrameReader(REQUEST)
    assert reader.feed((REQUEST.bytes).to_bytes(4)) == []
    piece = bytes(65_536)
    for _ in range(REQUEST.bytes // len(piece) - 1):
        assert reader.feed(piece) == [] and reader.begun
    with pytest.raises(NotDecodable):  # whole, and no map
        reader.feed(piece)


def garbage(chance: random.Random) -> bytes:
    """Bytes of any kind: random, framed at random, or a request with some of its bytes changed."""
    match chance.randrange(4):
        case 0:
            return chance.randbytes(chance.randrange(1, 200))
        case 1:
            body = chance.randbytes(chance.randrange(1, 100))
            return len(body).to_bytes(4) + body
        case 2:
            body = b"\x91" * chance.randrange(1, 3_000)
            return len(body).to_bytes(4) + body
        case _:
            whole = bytearray(ping(chance.randrange(100)))
            for _ in range(chance.randrange(1, 4)):
                whole[chance.randrange(4, len(whole))] = chance.randrange(256)
            return bytes(whole)


def test_garbage_is_answered_with_an_error_or_not_at_all_and_the_others_are_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(7)
    with served(tmp_path) as library, visitor(library) as good:
        for _ in range(300):
            with visitor(library) as client:
                with contextlib.suppress(BrokenPipeError):
                    client.sendall(garbage(chance))
                    client.shutdown(socket.SHUT_WR)
                for reply in replies(client, 3):
                    assert "ok" in reply or reply["error"]["text"]
        assert answers(good)
        assert library.submit(AttackEcho(1)).wait(SECONDS) == 1
    assert "Traceback" not in caplog.text


def test_a_thousand_connections_are_told_that_there_is_no_room_and_the_library_works_on(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2_500 if hard == resource.RLIM_INFINITY else min(hard, 2_500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        many = min(1_000, wanted - 400)
        with served(tmp_path) as library, contextlib.ExitStack() as stack:
            threads = threading.active_count()
            clients = [stack.enter_context(visitor(library)) for _ in range(many)]
            assert threading.active_count() < threads + 20  # job actors, and none for a client
            assert all(answers(client) for client in clients[:CONNECTIONS_MOST])
            for client in clients[CONNECTIONS_MOST:]:
                [reply] = replies(client, 2)
                assert reply["error"]["type"] == "Busy"
            assert library.submit(AttackEcho(2)).wait(SECONDS) == 2
            clients[0].close()
            assert any(_has_room(library) for _ in range(1_000))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _has_room(library: Library) -> bool:
    with visitor(library) as client:
        return answers(client)


def test_no_descriptor_is_left_of_those_who_went(tmp_path: Path) -> None:
    with served(tmp_path) as library:
        with visitor(library) as first:
            assert answers(first)
        open_after: list[int] = []
        for _ in range(50):
            with visitor(library) as client:
                client.sendall(b"\xff" * 8)
                assert len(replies(client, 2)) == 1
            open_after.append(len(os.listdir("/proc/self/fd")))
        assert open_after[-1] <= open_after[0] + 3


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_the_socket_is_its_users_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    (tmp_path / "l").mkdir(mode=0o700)
    (tmp_path / "l").chmod(0o700)
    old = os.umask(mask)
    try:
        with served(tmp_path) as library:
            mode = os.lstat(library.path / SOCKET_FILE).st_mode
    finally:
        os.umask(old)
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) & 0o077 == 0
