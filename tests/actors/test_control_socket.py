"""The control socket serves whoever speaks its language, one as well as another, and nobody who does not."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard.actors import control, control_connection
from callboard.actors.control_socket import SOCKET_FILE, connect
from callboard.actors.door import Library
from callboard.actors.hub import HubActor
from callboard.actors.messages import Submit, Unsubscribe
from callboard.actors.runtime import Runtime
from callboard.jobs.context import JobContext
from callboard.jobs.errors import LibraryClosed
from callboard.jobs.job import Job
from callboard.jobs.record import JobFilter
from callboard.persistence.codec import encode
from callboard.persistence.frames import REPLY, REQUEST, FrameReader, frame, value_of
from callboard.persistence.store import Store

SECONDS = 100.0
GATES: dict[str, threading.Event] = {}


@dataclass
class SocketHold(Job, name="test_control.hold"):
    """Runs until it is interrupted."""

    steps: int = 0

    def run(self, ctx: JobContext) -> None:
        while True:
            self.steps += 1
            ctx.report_count(self.steps)
            ctx.sleep(0.001)


@dataclass
class SocketEcho(Job, name="test_control.echo"):
    value: Any

    def run(self, ctx: JobContext) -> Any:
        return self.value


class Talk:
    """A client, one frame at a time."""

    def __init__(self, folder: Path) -> None:
        found = connect(folder, SECONDS)
        assert found is not None, "nobody listens"
        self.socket = found
        self._reader = FrameReader(REPLY)
        self._frames: list[dict[str, Any]] = []
        self._number = 1_000

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, number: int, do: str, **fields: object) -> None:
        self.socket.sendall(frame({"v": 1, "id": number, "do": do, "with": fields}, REQUEST))

    def next(self) -> dict[str, Any] | None:
        """The next frame; None at the end of the stream."""
        while not self._frames:
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def answer(self, number: int) -> dict[str, Any]:
        while (content := self.next()) is not None:
            if content["id"] == number and "event" not in content:
                return content
        raise AssertionError("closed without an answer")

    def ask(self, do: str, **fields: object) -> Any:
        self._number += 1
        self.send(self._number, do, **fields)
        answer = self.answer(self._number)
        assert "ok" in answer, answer
        return value_of(answer["ok"])

    def event(self, kind: str) -> Any:
        """The next event of this kind."""
        while (content := self.next()) is not None:
            if content.get("event", {}).get("is") == kind:
                return value_of(content["event"])
        raise AssertionError(f"closed without a {kind}")


@contextlib.contextmanager
def opened(folder: Path, **how: Any) -> Iterator[Library]:
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(folder, **how)


# --- what it does -------------------------------------------------------------------------------------------------------


def test_a_job_is_submitted_followed_steered_and_looked_at_from_outside(tmp_path: Path) -> None:
    with opened(tmp_path / "l"), Talk(tmp_path / "l") as talk:
        submitted = talk.ask("SubmitByName", name="test_control.hold", fields={}, key=b"k", follow=True)
        assert not submitted.duplicate
        talk.event("JobStarted")
        assert talk.event("ProgressMade").progress.done >= 1
        assert talk.ask("PauseJob", job_id=submitted.job_id) == "pausing"
        talk.event("JobPaused")
        assert talk.ask("QueryJob", job_id=submitted.job_id).status == "paused"
        assert [each.id for each in talk.ask("QueryJobs", filter=encode(JobFilter(key=b"k"))).records] == [submitted.job_id]
        assert talk.ask("QueryStatistics").live == {"paused": 1}
        second = talk.ask("SubmitByName", name="test_control.hold", fields={}, key=b"k")
        assert second.duplicate and second.met.older == submitted.job_id
        assert talk.ask("CancelJob", job_id=submitted.job_id) == "cancelled"
        talk.event("JobCancelled")
        again = talk.ask("RetryJob", job_id=submitted.job_id)
        assert again.job_id != submitted.job_id
        assert talk.ask("QueryWarnings", job_id=again.job_id) == ()


def test_a_client_that_subscribes_hears_the_end(tmp_path: Path) -> None:
    with opened(tmp_path / "l") as library, Talk(tmp_path / "l") as talk:
        handle = library.submit(SocketHold())
        epoch, n = talk.ask("Subscribe", job_id=handle.id, progress=False)
        assert (epoch, n >= 1) == (1, True)
        handle.cancel()
        assert talk.event("JobCancelled").job_id == handle.id


def test_a_list_carries_no_results_and_a_record_does(tmp_path: Path) -> None:
    with opened(tmp_path / "l") as library, Talk(tmp_path / "l") as talk:
        handle = library.submit(SocketEcho("x"))
        handle.wait(SECONDS)
        [listed] = talk.ask("QueryJobs", ended=True).records
        assert listed.result is None
        assert talk.ask("QueryJob", job_id=handle.id).result is not None


def test_the_socket_is_for_its_user_alone_and_goes_with_the_library(tmp_path: Path) -> None:
    with opened(tmp_path / "l"):
        status = os.lstat(tmp_path / "l" / SOCKET_FILE)
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
    assert not (tmp_path / "l" / SOCKET_FILE).exists()
    assert connect(tmp_path / "l", SECONDS) is None


def test_a_library_deeper_than_a_socket_path_can_be_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    with opened(folder), Talk(folder) as talk:
        assert talk.ask("Ping") is True


def test_a_socket_that_a_dead_owner_left_is_replaced(tmp_path: Path) -> None:
    with opened(tmp_path / "l"):
        pass
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "l" / SOCKET_FILE))
    assert connect(tmp_path / "l", SECONDS) is None
    with opened(tmp_path / "l"), Talk(tmp_path / "l") as talk:
        assert talk.ask("Ping") is True


def test_a_file_in_the_sockets_place_is_left_alone_and_the_library_opens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / SOCKET_FILE).write_text("mine")
    with opened(tmp_path / "l") as library:
        assert library.submit(SocketEcho(1)).wait(SECONDS) == 1
    assert (tmp_path / "l" / SOCKET_FILE).read_text() == "mine"
    assert "is no socket; remove it" in caplog.text


def test_a_library_may_be_opened_without_a_socket(tmp_path: Path) -> None:
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(tmp_path / "l", control=False)
        assert not (tmp_path / "l" / SOCKET_FILE).exists()
        with pytest.raises(LibraryClosed, match="control=False"):
            runtime.connect(library)


# --- who is refused -----------------------------------------------------------------------------------------------------

NONSENSE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length of 4 GiB": b"\xff" * 64,
    "no msgpack": b"\0\0\0\1\xc1",
    "no id": frame({"v": 1, "do": "Ping"}, REQUEST),
    "an id that is no number": frame({"v": 1, "id": "x", "do": "Ping"}, REQUEST),
}


@pytest.mark.parametrize("sent", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_answered_with_an_error_and_the_connection_is_closed(tmp_path: Path, sent: bytes) -> None:
    with opened(tmp_path / "l"), Talk(tmp_path / "l") as talk, Talk(tmp_path / "l") as other:
        talk.socket.sendall(sent)
        content = talk.next()
        assert content is not None and content["id"] == 0 and content["error"]["text"]
        assert talk.next() is None
        assert other.ask("Ping") is True


BAD_REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"v": 2, "do": "Ping"}, "speaks version 1"),
    "no such request": ({"v": 1, "do": "Drop"}, "no answer to 'Drop'"),
    "a request of ours that is not public": ({"v": 1, "do": "BeginClose"}, "no answer to 'BeginClose'"),
    "a request that is no name": ({"v": 1, "do": [1]}, "no answer to"),
    "an id too short": ({"v": 1, "do": "PauseJob", "with": {"job_id": b"x"}}, "is not 16 bytes"),
    "an id of text": ({"v": 1, "do": "PauseJob", "with": {"job_id": "x" * 16}}, "job_id='xxx"),
    "no id": ({"v": 1, "do": "CancelJob"}, "job_id=None"),
    "fields that are no map": ({"v": 1, "do": "PauseJob", "with": 7}, "no answer to"),
    "no such job": ({"v": 1, "do": "PauseJob", "with": {"job_id": bytes(16)}}, "no job 0000"),
    "a job type not known": ({"v": 1, "do": "SubmitByName", "with": {"name": "no", "fields": {}}}, "no job type 'no'"),
    "a field not known": ({"v": 1, "do": "SubmitByName", "with": {"name": "test_control.echo", "fields": {"y": 1}}}, "no such field"),
    "a ledger not known": ({"v": 1, "do": "RetryJob", "with": {"job_id": bytes(16), "ledger": "x"}}, "not one of none, rest, failed"),
    "a filter that is none": ({"v": 1, "do": "QueryJobs", "with": {"filter": b"\xc1"}}, "damaged"),
    "a limit below one": ({"v": 1, "do": "QueryWarnings", "with": {"job_id": bytes(16), "limit": 0}}, "not from 1 to"),
}


@pytest.mark.parametrize(("request_", "text"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_told_why_and_the_next_one_is_served(tmp_path: Path, request_: dict[str, Any], text: str) -> None:
    with opened(tmp_path / "l"), Talk(tmp_path / "l") as talk:
        talk.socket.sendall(frame({"id": 1, **request_}, REQUEST))
        assert text in talk.answer(1)["error"]["text"]
        assert talk.ask("Ping") is True


def test_a_client_that_sends_its_frame_byte_by_byte_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "l"), Talk(tmp_path / "l") as silent, Talk(tmp_path / "l") as slow:
        assert slow.ask("Ping") is True
        monkeypatch.setattr(control_connection, "FRAME_SECONDS", 0.05)
        slow.socket.sendall(b"\0\0")  # the beginning of a length
        assert slow.next() is None
        assert silent.next() is None


def test_a_client_that_asks_nothing_is_sent_away_and_one_that_follows_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_connection, "IDLE_SECONDS", 0.05)
    with opened(tmp_path / "l"), Talk(tmp_path / "l") as idle, Talk(tmp_path / "l") as follows:
        follows.ask("Subscribe")
        assert idle.ask("Ping") is True
        assert idle.next() is None
        assert follows.ask("Ping") is True


def test_more_clients_than_there_is_room_for_are_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_MOST", 3)
    with contextlib.ExitStack() as stack:
        stack.enter_context(opened(tmp_path / "l"))
        talks = [stack.enter_context(Talk(tmp_path / "l")) for _ in range(3)]
        assert [talk.ask("Ping") for talk in talks] == [True] * 3
        refused = stack.enter_context(Talk(tmp_path / "l")).next()
        assert refused is not None and refused["error"]["type"] == "Busy"
        talks[0].socket.close()
        assert any(_served(tmp_path / "l") for _ in range(10_000))


def _served(folder: Path) -> bool:
    with Talk(folder) as talk:
        with contextlib.suppress(BrokenPipeError):  # it is told that there is no room, and the door is shut, before it has asked
            talk.send(1, "Ping")
        return "ok" in (talk.next() or {})


def test_a_client_has_a_bounded_number_of_requests_and_subscriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_connection, "REQUESTS_MOST", 4)
    with opened(tmp_path / "l"), Talk(tmp_path / "l") as talk:
        for number in range(4):
            talk.send(number, "Subscribe")
            assert "ok" in talk.answer(number)
        talk.send(9, "Subscribe")
        assert talk.answer(9)["error"]["type"] == "Busy"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_may_not_command_even_if_he_can_reach_the_socket(tmp_path: Path) -> None:
    with opened(tmp_path / "l"):
        os.chmod(tmp_path / "l" / SOCKET_FILE, 0o666)
        fd = os.open(tmp_path / "l", os.O_PATH)  # a way in that was handed over
        code = (
            "import os, socket, sys; fd = int(sys.argv[1]); os.setuid(65534); s = socket.socket(socket.AF_UNIX)\n"
            "s.connect(f'/proc/self/fd/{fd}/control.sock'); sys.stdout.buffer.write(s.recv(65536))"
        )
        os.chmod(tmp_path / "l", 0o755)
        done = subprocess.run([sys.executable, "-c", code, str(fd)], pass_fds=[fd], capture_output=True, timeout=SECONDS)
        os.close(fd)
    [content] = FrameReader(REPLY).feed(done.stdout)
    assert "user 65534 may not command it" in content["error"]["text"], done.stderr


# --- nobody makes another one wait --------------------------------------------------------------------------------------


def test_a_store_that_hangs_delays_only_those_who_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, entered, commit = threading.Event(), threading.Event(), Store.commit
    with opened(tmp_path / "l") as library, Talk(tmp_path / "l") as writer, Talk(tmp_path / "l") as reader:
        handle = library.submit(SocketHold())
        reader.ask("Subscribe", job_id=handle.id)
        reader.event("ProgressMade")

        def held(store: Store, writes: Any) -> Any:
            entered.set()
            assert gate.wait(SECONDS)
            return commit(store, writes)

        monkeypatch.setattr(Store, "commit", held)
        writer.send(1, "PauseJob", job_id=handle.id)
        assert entered.wait(SECONDS)
        assert reader.ask("QueryJob", job_id=handle.id).status == "running"
        assert reader.ask("QueryStatistics").live == {"running": 1}
        gate.set()
        assert writer.answer(1)["ok"] == "pausing"


def test_a_client_that_reads_nothing_loses_facts_and_nobody_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_connection, "OUT_ENOUGH", 1)
    monkeypatch.setattr("callboard.actors.control_requests.LAG", 10)
    with opened(tmp_path / "l") as library, Talk(tmp_path / "l") as deaf:
        deaf.ask("Subscribe")
        for _ in range(2_000):
            library.tell(Submit(SocketEcho(1)))
        last = library.submit(SocketEcho(2))
        assert last.wait(SECONDS) == 2
        with Talk(tmp_path / "l") as good:
            assert good.ask("QueryJob", job_id=last.id).status == "completed"
        lost = deaf.event("FactsLost")
        assert lost.first <= lost.last


def test_of_readings_that_wait_only_the_latest_of_a_job_is_sent() -> None:
    from callboard.jobs.events import JobQueued, ProgressMade
    from callboard.jobs.progress import Progress

    a, b = bytes(16), bytes(15) + b"b"
    readings = [ProgressMade(job, "n", Progress(done=done)) for done in (1, 2) for job in (a, b)]
    fact = JobQueued(1, 1, a, "n")
    assert control_connection.latest_readings([readings[0], readings[1], fact, readings[2], readings[3]]) == [fact, readings[2], readings[3]]


def test_a_client_that_leaves_is_unsubscribed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[object] = []
    seen = threading.Event()
    handle_request = HubActor._request

    def request(hub: HubActor, message: Any) -> object:
        answer = handle_request(hub, message)
        if isinstance(message.request, Unsubscribe):
            gone.append(answer)
            seen.set()
        return answer

    monkeypatch.setattr(HubActor, "_request", request)
    with opened(tmp_path / "l"):
        with Talk(tmp_path / "l") as talk:
            talk.ask("Subscribe")
        assert seen.wait(SECONDS)
    assert gone == [1]


# --- the end ------------------------------------------------------------------------------------------------------------


def test_closing_answers_what_was_asked_and_ends_every_connection(tmp_path: Path) -> None:
    with opened(tmp_path / "l") as library, Talk(tmp_path / "l") as talk:
        talk.ask("Subscribe")
        handle = library.submit(SocketEcho(1))
        handle.wait(SECONDS)
        library.close()
        assert talk.event("JobCompleted").job_id == handle.id
        assert talk.next() is None


def test_a_request_to_a_library_that_is_closing_is_refused_and_not_left_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, closing, go_on = threading.Event(), threading.Event(), threading.Event()
    GATES["running"], GATES["closing"], GATES["go_on"] = running, closing, go_on
    with opened(tmp_path / "l") as library, Talk(tmp_path / "l") as talk:
        library.submit(SocketStubborn())
        assert running.wait(SECONDS)  # JobStarted is told when it was dealt: then it may still be taken back
        closer = threading.Thread(target=library.close, args=(SECONDS,))
        closer.start()
        assert closing.wait(SECONDS)
        talk.send(3, "SubmitByName", name="test_control.echo", fields={"value": 1})
        assert talk.answer(3)["error"]["type"] == "LibraryClosed"
        go_on.set()
        closer.join(SECONDS)


@dataclass
class SocketStubborn(Job, name="test_control.stubborn"):
    """Says that it was asked to leave, and leaves when it may."""

    def run(self, ctx: JobContext) -> None:
        GATES["running"].set()
        while not ctx.interrupted:
            GATES["closing"].wait(0.001)
        GATES["closing"].set()
        GATES["go_on"].wait(SECONDS)
        ctx.check_interrupt()


FORKS = """
import os, sys
from callboard.actors.runtime import Runtime
runtime = Runtime(workers=1)
runtime.open_library(sys.argv[1])
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
os._exit(1)
"""


def test_a_forked_child_of_a_dead_owner_does_not_keep_clients_waiting(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKS, str(tmp_path / "l")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None and owner.stdout is not None
        assert int(owner.stdout.readline()) > 0
        with Talk(tmp_path / "l") as talk:
            assert talk.ask("Ping") is True
            owner.kill()
            assert talk.next() is None
        owner.wait(SECONDS)
        assert connect(tmp_path / "l", SECONDS) is None
        owner.stdin.close()
