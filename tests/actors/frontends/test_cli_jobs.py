"""`callboard jobs`: the same answers whether the library has an owner, which is asked, or none, and then nothing runs and nothing is recovered."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard.actors.control_socket import listen
from callboard.actors.door import Library
from callboard.actors.frontends import reach
from callboard.actors.frontends.cli import main
from callboard.actors.frontends.client import Client
from callboard.actors.frontends.screen import LineScreen
from callboard.actors.frontends.visit import Visit
from callboard.actors.runtime import Runtime
from callboard.jobs.context import JobContext
from callboard.jobs.errors import JobCancelled
from callboard.jobs.identity import id_text
from callboard.jobs.job import Job
from callboard.jobs.registry import REGISTRY
from callboard.jobs.submission import Submission, Submitted
from callboard.persistence.folder import LibraryFolder
from callboard.persistence.jobdata import new_job
from callboard.persistence.store import Store
from callboard.persistence.writes import Claim

SECONDS = 100.0
CLI = [sys.executable, "-m", "callboard.actors.frontends.cli"]


@dataclass
class CliHold(Job, name="test_cli.hold"):
    """Runs until it is interrupted."""

    steps: int = 0

    def run(self, ctx: JobContext) -> None:
        while True:
            self.steps += 1
            ctx.report_count(self.steps, 1_000_000)
            ctx.sleep(0.001)


@dataclass
class CliEnds(Job, name="test_cli.ends"):
    how: str = "well"
    value: Any = None

    def run(self, ctx: JobContext) -> Any:
        ctx.log.info("logs %s", "a\x1b[31mline\u202e")
        if self.how == "fails":
            raise ValueError("no\x1b]0;way")
        if self.how == "warns":
            for number in range(25):
                ctx.warn(f"bad {number}", f"item\n{number}")
        return self.value


@contextlib.contextmanager
def opened(folder: Path, **how: Any) -> Iterator[Library]:
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(folder, **how)


def left(folder: Path, *jobs: Job | Submission, running: int = 0) -> list[str]:
    """A library that nobody has open, with these jobs in it; if the first `running` are running, their owner is dead. Their ids."""
    place = LibraryFolder.open(folder)
    clock = iter(range(1_700_000_000_000, 1_800_000_000_000, 60_000))  # so that ids have different beginnings
    store = Store(place, now_ms=lambda: next(clock), random_bytes=os.urandom, knows=REGISTRY.knows)
    few = len(jobs) < 100
    answers = [answer for job in jobs for answer in store.commit([new_job(job)])] if few else store.commit([new_job(job) for job in jobs])
    ids = [id_text(answer.job_id) for answer in answers if isinstance(answer, Submitted)]
    if running:
        store.commit([Claim(running)])
        place.abandon()
    else:
        place.close()
    return ids


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """(standard output, standard error) of a command that ends with `code`."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code, capsys.readouterr()
    return capsys.readouterr()


def shown(capsys: pytest.CaptureFixture[str], folder: Path, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, "jobs", "show", job_id, "--json", "--library", folder)[0])
    return found


# --- with an owner ------------------------------------------------------------------------------------------------------


def test_a_running_job_is_paused_resumed_and_cancelled_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path / "l") as library:
        handle = library.submit(CliHold())
        where = ("--library", tmp_path / "l")
        assert handle.status in ("queued", "running")
        out, _ = said(capsys, "jobs", "pause", handle.id_text, *where)
        assert out in (f"{handle.id_text} pausing\n", f"{handle.id_text} paused\n")
        handle.pause(wait=True)
        assert said(capsys, "jobs", "resume", handle.id_text, *where)[0] == f"{handle.id_text} queued\n"
        out, _ = said(capsys, "jobs", "cancel", "--json", handle.id_text, *where)
        assert json.loads(out)["status"] in ("cancelling", "cancelled")
        with pytest.raises(JobCancelled):
            handle.wait(SECONDS)
        assert shown(capsys, tmp_path / "l", handle.id_text)["status"] == "cancelled"
        out, _ = said(capsys, "jobs", "retry", handle.id_text, *where)
        assert out.startswith(f"{handle.id_text} retried as ")
        assert library.job(bytes.fromhex(out.split()[-1].replace("-", ""))).record().retry_of == handle.id


def test_commands_are_answered_while_the_owner_is_busy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered, commit = threading.Event(), threading.Event(), Store.commit
    with opened(tmp_path / "l") as library:
        handle = library.submit(CliHold())

        def held(store: Store, writes: Any) -> Any:
            entered.set()
            assert gate.wait(SECONDS)
            return commit(store, writes)

        monkeypatch.setattr(Store, "commit", held)
        asked = threading.Thread(target=handle.pause)
        asked.start()
        assert entered.wait(SECONDS)
        assert handle.id_text in said(capsys, "jobs", "list", "--library", tmp_path / "l")[0]
        assert said(capsys, "jobs", "show", handle.id_text, "--library", tmp_path / "l")[0]
        gate.set()
        asked.join(SECONDS)


def test_what_is_refused_is_said_and_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path / "l") as library:
        ended, live = library.submit(CliEnds()), library.submit(CliHold())
        ended.wait(SECONDS)
        unknown = "0197a3c2-5b7e-7c00-8000-1f2e3d4c5b6a"
        out, err = said(capsys, "jobs", "cancel", ended.id_text, unknown, live.id_text, "--library", tmp_path / "l", code=1)
        assert out.split() == [live.id_text, "cancelling"] or out.split() == [live.id_text, "cancelled"]
        assert err.splitlines() == [
            f"callboard jobs cancel: job {ended.id_text} is completed: it has ended and cannot be cancelled",
            f"callboard jobs cancel: no job {unknown} in this library",
        ]


def test_an_ended_job_is_shown_with_result_error_traceback_and_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path / "l") as library:
        good, warns, fails = (library.submit(CliEnds(how, {"path": Path("/x"), "nan": float("nan")})) for how in ("well", "warns", "fails"))
        for handle in (good, warns, fails):
            with contextlib.suppress(Exception):
                handle.wait(SECONDS)
        view = shown(capsys, tmp_path / "l", good.id_text)
        assert (view["status"], view["result"], view["error"]) == ("completed", {"path": "/x", "nan": "nan"}, None)
        view = shown(capsys, tmp_path / "l", warns.id_text)
        assert (view["status"], view["warnings"], len(view["warning_list"])) == ("completed_with_errors", 25, 25)
        out, _ = said(capsys, "jobs", "show", warns.id_text, "--library", tmp_path / "l")
        assert "    item\\n0: bad 0\n" in out and "and 5 more; --warnings shows" in out and "bad 24" not in out
        assert "bad 24" in said(capsys, "jobs", "show", "--warnings", warns.id_text, "--library", tmp_path / "l")[0]
        out, _ = said(capsys, "jobs", "show", fails.id_text, "--library", tmp_path / "l")
        assert "error:        ValueError: no\\x1b]0;way\n" in out and "in run" in out


def test_no_output_can_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path / "l") as library:
        for how in ("warns", "fails"):
            with contextlib.suppress(Exception):
                library.submit(Submission(CliEnds(how), key=b"\x1b[2J\xff", tags=("\x07",), group="\u202e", requested_by="\x9b1m")).wait(SECONDS)
        jobs = [record.id_text for record in library.history().records]
        texts = [said(capsys, "jobs", command, job, *how, "--library", tmp_path / "l") for job in jobs for how in ((), ("--json",))
                 for command in ("show", "log")]  # fmt: skip
        texts += [said(capsys, "jobs", "list", *how, "--library", tmp_path / "l") for how in ((), ("--json",))]
        texts.append(said(capsys, "jobs", "watch", "\x1b[2J\u202e", "--library", tmp_path / "l", code=1))
    for text in (each for pair in texts for each in pair):
        assert all(character.isprintable() or character == "\n" for character in text), repr(text)


def test_the_log_of_a_job_is_printed_as_it_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(tmp_path / "l") as library:
        handle = library.submit(CliEnds())
        handle.wait(SECONDS)
        [line] = said(capsys, "jobs", "log", handle.id_text, "--library", tmp_path / "l")[0].splitlines()
        assert line.endswith(" INFO attempt=1 logs a\\x1b[31mline\\u202e")
        view = json.loads(said(capsys, "jobs", "log", "--json", handle.id_text, "--library", tmp_path / "l")[0])
        assert (view["level"], view["attempt"], view["text"]) == ("INFO", 1, "logs a\\x1b[31mline\\u202e")
        silent = library.submit(CliHold())
        assert said(capsys, "jobs", "log", silent.id_text, "--library", tmp_path / "l") == ("", "it has logged nothing\n")


def test_watch_shows_facts_and_ends_with_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    note, asked = LineScreen.note, list[str]()
    with opened(tmp_path / "l") as library:
        handle = library.submit(CliHold())

        def cancel_when_followed(screen: LineScreen, text: str) -> None:
            note(screen, text)
            if "of 1,000,000" in text and not asked:
                asked.append(text)
                handle.cancel()

        monkeypatch.setattr(LineScreen, "note", cancel_when_followed)
        out, err = said(capsys, "jobs", "watch", handle.id_text, "--library", tmp_path / "l", code=1)
        monkeypatch.undo()
        assert out == "cancelled\n"
        assert "cancelling" in err and "of 1,000,000" in err
        good = library.submit(CliEnds())
        good.wait(SECONDS)
        out, _ = said(capsys, "jobs", "watch", "--json", good.id_text, "--library", tmp_path / "l")
        assert json.loads(out.splitlines()[-1])["status"] == "completed"


# --- with none ----------------------------------------------------------------------------------------------------------


def test_what_a_dead_owner_left_running_is_shown_as_interrupted_and_stays_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "l"
    dead, waiting = left(folder, CliHold(), CliHold(), running=1)
    for _ in range(2):  # looking recovers nothing
        out, _ = said(capsys, "jobs", "list", "--library", folder)
        assert [line.split()[:2] for line in out.splitlines()[1:]] == [[dead, "interrupted"], [waiting, "queued"]]
    view = shown(capsys, folder, dead)
    assert (view["status"], view["stored_status"], view["crashes"]) == ("interrupted", "running", 0)
    assert "`callboard resume` goes on with it" in said(capsys, "jobs", "show", dead, "--library", folder)[0]
    assert "the next process to open the library carries it out" in said(capsys, "jobs", "pause", dead, "--library", folder)[0]
    with opened(folder, runs="own") as library:
        record = library.record(bytes.fromhex(dead.replace("-", "")))
        assert (record.status, record.crashes) == ("paused", 1)  # the crash is charged by the next owner, looked at or not


def test_looking_leaves_a_library_closed_as_it_was_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "l"
    left(folder, CliHold())
    said(capsys, "jobs", "list", "--library", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["jobs.db", "library.lock"]
    place = LibraryFolder.open(folder)
    assert place.was_clean
    place.close()


def test_jobs_are_steered_without_an_owner_and_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "l"
    first, second = left(folder, CliEnds(), CliEnds())
    where = ("--library", folder)
    assert said(capsys, "jobs", "pause", first, *where)[0] == f"{first} paused\n"
    assert said(capsys, "jobs", "resume", first, *where)[0].startswith(f"{first} queued: nobody has the library open; `callboard resume`")
    assert said(capsys, "jobs", "cancel", second, *where)[0] == f"{second} cancelled\n"
    assert json.loads(said(capsys, "jobs", "retry", "--json", "--keep-done", second, *where)[0])["id"] == second
    listed = json.loads(said(capsys, "jobs", "list", "--json", *where)[0])
    assert [(each["status"], each["started_at"]) for each in listed] == [("queued", None), ("queued", None), ("cancelled", None)]
    assert said(capsys, "jobs", "watch", first, *where, code=1) == (
        "queued\n", "nobody has the library open; `callboard resume` runs its jobs\n",
    )  # fmt: skip


def test_a_job_whose_type_is_not_known_says_why_it_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [job_id] = left(tmp_path / "l", CliEnds())
    try:
        REGISTRY.remove("test_cli.ends")
        assert "is not registered in this process" in shown(capsys, tmp_path / "l", job_id)["passed_over"]
    finally:
        REGISTRY.add(CliEnds)


def test_a_command_waits_for_one_that_passes_and_tells_who_keeps_it_busy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "PATIENCE", SECONDS)
    left(tmp_path / "l", CliHold())
    place = LibraryFolder.open(tmp_path / "l", stays=False)
    enter, tries = Visit.enter, []

    def enter_third_time(path: Path, ports: Any) -> Visit:
        tries.append(path)
        if len(tries) == 3:
            place.close()
        return enter(path, ports)

    monkeypatch.setattr(Visit, "enter", enter_third_time)
    assert said(capsys, "jobs", "list", "--library", tmp_path / "l")[0]
    monkeypatch.setattr(reach, "PATIENCE", 0.2)
    with opened(tmp_path / "m", control=False):
        _, err = said(capsys, "jobs", "list", "--library", tmp_path / "m", code=2)
    assert f"({os.getpid()})" in err and err.endswith("it answers no commands\n")


def test_an_owner_that_vanishes_over_a_question_is_followed_by_whoever_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = left(tmp_path / "l", CliHold(), CliHold())
    real, vanished = reach.reach, []

    def reach_a_ghost_first(folder: Path, ports: Any) -> reach.Board:
        if len(vanished) % 2 == 0:
            ours, theirs = socket.socketpair()
            theirs.close()
            vanished.append(ours)
            return Client(ours, ports)
        vanished.append(None)
        return real(folder, ports)

    monkeypatch.setattr(reach, "reach", reach_a_ghost_first)
    where = ("--library", tmp_path / "l")
    assert ids[0] in said(capsys, "jobs", "list", *where)[0]
    assert shown(capsys, tmp_path / "l", ids[0])["status"] == "queued"
    assert said(capsys, "jobs", "cancel", *ids, *where)[0].count("cancelled") == 2
    assert "queued\n" not in said(capsys, "jobs", "watch", ids[0], *where, code=1)[0]
    vanished.append(None)  # now it vanishes at the retry itself, which may have been carried out
    assert "try again" in said(capsys, "jobs", "retry", ids[0], *where, code=1)[1]


def test_an_owner_that_does_not_answer_is_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.actors.frontends.client.ANSWER_SECONDS", 0.1)
    (tmp_path / "l").mkdir()
    stopped = listen(tmp_path / "l", 5)
    for _ in range(2):
        assert "has not answered within 0.1 s" in said(capsys, "jobs", "list", "--library", tmp_path / "l", code=1)[1]
    stopped.close()


@pytest.mark.parametrize("command", ["list", "show 1", "watch 1", "pause 1", "retry 1", "log 1"])
def test_no_library_is_made_by_looking_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    _, err = said(capsys, "jobs", *command.split(), "--library", tmp_path / "l", code=2)
    assert f"there is no library '{tmp_path / 'l'}'" in err
    (tmp_path / "l").mkdir()
    _, err = said(capsys, "jobs", *command.split(), "--library", tmp_path / "l", code=2)
    assert "it is no library yet" in err
    assert list((tmp_path / "l").iterdir()) == []


# --- naming jobs and listing them ---------------------------------------------------------------------------------------


def test_a_job_is_named_by_so_much_of_its_id_as_means_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "l"
    ids = left(folder, CliHold(), CliHold(), CliHold())
    said(capsys, "jobs", "cancel", ids[2], "--library", folder)
    for job_id in ids:
        for length in (12, 13, 20, 35):
            assert shown(capsys, folder, job_id[:length])["id"] == job_id
        assert shown(capsys, folder, job_id.replace("-", "").upper())["id"] == job_id
    _, err = said(capsys, "jobs", "show", "018", "--library", folder, code=1)
    assert "more than one job's id begins with '018': " in err and all(job_id in err for job_id in ids)
    for text, why in (("0190", "no job's id begins with '0190'"), ("00", "no job's id"), ("ff", "no job's id"), ("xyz", "'xyz' is no job id")):
        assert why in said(capsys, "jobs", "show", text, "--library", folder, code=1)[1]


def test_a_list_is_filtered_limited_and_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.actors.frontends.jobs_list.PAGE", 2)
    folder = tmp_path / "l"
    ids = left(folder, *(Submission(CliHold(), group="g" if number % 2 else None, tags=("t",) * (number == 3)) for number in range(7)))
    said(capsys, "jobs", "cancel", ids[0], ids[5], "--library", folder)

    def listed(*how: str) -> list[int]:
        return [ids.index(each["id"]) for each in json.loads(said(capsys, "jobs", "list", "--json", *how, "--library", folder)[0])]

    assert listed() == [1, 2, 3, 4, 6, 5, 0]
    assert listed("--live") == [1, 2, 3, 4, 6]
    assert listed("--ended") == listed("--status", "cancelled") == [5, 0]
    assert listed("--status", "queued", "--status", "paused") == [1, 2, 3, 4, 6]
    assert listed("--group", "g") == [1, 3, 5]
    assert listed("--tag", "t") == [3]
    assert listed("--name", "other") == []
    assert listed("--limit", "6") == [1, 2, 3, 4, 6, 5]
    assert said(capsys, "jobs", "list", "--limit", "7", "--library", folder)[1] == ""
    assert "more than 6; --limit 0 lists all" in said(capsys, "jobs", "list", "--limit", "6", "--library", folder)[1]
    assert listed("--limit", "0") == [1, 2, 3, 4, 6, 5, 0]
    refusal = "'no' is not one of queued, waiting, awaiting_children, running"
    assert refusal in said(capsys, "jobs", "list", "--status", "no", "--library", folder, code=2)[1]


@pytest.mark.parametrize(("jobs", "pages"), [(3, False), (60, True)])
def test_a_table_that_is_longer_than_the_terminal_goes_through_the_pager(tmp_path: Path, jobs: int, pages: bool) -> None:
    left(tmp_path / "l", *(CliHold() for _ in range(jobs)))
    main_end, terminal = pty.openpty()
    environment = {**os.environ, "PAGER": "sed 's/^/paged /'", "LINES": "24", "COLUMNS": "200", "TERM": "xterm"}
    command = [*CLI, "jobs", "list", "--library", str(tmp_path / "l")]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=subprocess.DEVNULL, env=environment):
        os.close(terminal)
        out = b""
        with contextlib.suppress(OSError):  # how a terminal says that the other end is closed
            while data := os.read(main_end, 65_536):
                out += data
    os.close(main_end)
    lines = out.decode().splitlines()
    assert len(lines) == jobs + 1
    assert all(line.startswith("paged ") == pages for line in lines)


def test_who_stops_reading_ends_the_list_quietly(tmp_path: Path) -> None:
    left(tmp_path / "l", *(CliHold() for _ in range(2_000)))
    with subprocess.Popen(
        [*CLI, "jobs", "list", "--limit", "0", "--library", str(tmp_path / "l")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1


# --- the way in ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", ["jobs", "jobs nothing", "copy", "copy a", "jobs show", "copy a b --on-conflict x", "jobs list --limit x", "copy a b --workers 0"]
)
def test_a_command_that_is_wrong_ends_with_two(capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    assert said(capsys, *arguments.split(), code=2)[1]


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom callboard.actors.frontends.cli import main; sys.exit(main(['copy', '/nowhere', '/x']))"
    main_end, terminal = pty.openpty()  # rich is wanted on a terminal only
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=terminal, timeout=SECONDS)
    os.close(terminal)
    err = os.read(main_end, 65_536).decode()
    os.close(main_end)
    assert done.returncode == 2
    assert "pip install 'callboard[cli]'" in err and "Traceback" not in err


def test_a_state_folder_that_is_not_absolute_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for state, folder in (("state", tmp_path / ".local/state"), ("", tmp_path / ".local/state"), (f"{tmp_path}/s", tmp_path / "s")):
        monkeypatch.setenv("XDG_STATE_HOME", state)
        assert reach.default_library() == folder / "callboard"
