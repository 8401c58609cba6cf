"""`callboard copy`, `resume` and `jobs` as processes: signals, terminals, owners that die, and whoever takes their place."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callboard.actors.frontends.cli import main

CLI = [sys.executable, "-m", "callboard.actors.frontends.cli"]
SECONDS = 100.0

HELD = """
import threading
from pathlib import Path
from callboard.jobs.files.copying import FileCopy

fill = FileCopy.fill

def filled_when_it_may(copy):
    while copy.entry.path.endswith(b"/held") and not Path("go").exists():
        copy.events.between(0)
        threading.Event().wait(0.002)
    return fill(copy)

FileCopy.fill = filled_when_it_may
from callboard.actors.frontends.cli import main
raise SystemExit(main())
"""
"""The command, in whose copies the file `held` waits for a file `go` in the working folder, and looks whether it is to stop."""

HOST = '''
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path
from callboard.actors.runtime import Runtime
from callboard.jobs.job import Job
from callboard.jobs.submission import Submission
from callboard.jobs.task import Task

@dataclass
class Gate(Task):
    path: Path
    def run(self, ctx):
        return self.path.read_text()

@dataclass
class Block(Job, name="host.block"):
    """Keeps a worker busy until somebody writes to the FIFO."""
    path: Path
    def run(self, ctx):
        return ctx.dispatcher.dispatch(Gate(self.path)).result()

@dataclass
class Hold(Job, name="host.hold"):
    """Runs until it is interrupted."""
    steps: int = 0
    def run(self, ctx):
        while True:
            self.steps += 1
            ctx.report_count(self.steps, 10**9)
            ctx.sleep(0.001)

@dataclass
class Count(Job, name="host.count"):
    goal: int
    steps: int = 0
    def run(self, ctx):
        while self.steps < self.goal:
            self.steps += 1
            ctx.check_interrupt()
            ctx.checkpoint()
        return self.steps

@dataclass
class Asks(Job, name="host.asks"):
    """Pauses itself the first time."""
    def run(self, ctx):
        if not ctx.resumed:
            from callboard.jobs.errors import Interrupted
            raise Interrupted("the network is away")
        return "done"
'''

OWNER = """
from hostjobs import *
with Runtime(workers=1) as runtime:
    library = runtime.open_library(sys.argv[1])
    print("open", flush=True)
    for line in sys.stdin:
        print(eval(line), flush=True)
"""


class Child:
    """A process whose lines are waited for."""

    def __init__(self, command: list[str], folder: Path) -> None:
        streams: dict[str, Any] = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        self.process = subprocess.Popen(command, cwd=folder, text=True, **streams)
        self._changed = threading.Condition()
        self.lines: dict[str, list[str]] = {"out": [], "err": []}
        self._seen = {"out": 0, "err": 0}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        for reader in self._readers:
            reader.join(SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read(self, name: str, stream: Any) -> None:
        for line in stream:
            with self._changed:
                self.lines[name].append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self.lines[name].append("(end)")
            self._changed.notify_all()

    def until(self, text: str, stream: str = "err") -> str:
        """The next line with this text; fails if the stream ends first."""
        lines = self.lines[stream]
        with self._changed:
            while True:
                for at in range(self._seen[stream], len(lines)):
                    self._seen[stream] = at + 1
                    if text in lines[at]:
                        return lines[at]
                    assert lines[at] != "(end)", f"it ended without {text!r}: {self.lines}"
                assert self._changed.wait(SECONDS), f"no {text!r} in {self.lines}"

    def eval(self, expression: str) -> str:
        """Of an owner: what it prints of an expression."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.until("", "out")

    def ends(self, code: int) -> tuple[str, str]:
        """(standard output, standard error) of a process that ends with `code`."""
        assert self.process.wait(SECONDS) == code, self.lines
        for reader in self._readers:
            reader.join(SECONDS)
        return "\n".join(self.lines["out"][:-1]), "\n".join(self.lines["err"][:-1])


class Place:
    """A folder with a library and the files of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "library"
        (folder / "hostjobs.py").write_text(HOST)
        self._stack = contextlib.ExitStack()

    def cli(self, *arguments: object) -> Child:
        return self._stack.enter_context(Child([*CLI, *map(str, arguments), "--library", "library"], self.folder))

    def held(self, *arguments: object) -> Child:
        return self._stack.enter_context(Child([sys.executable, "-c", HELD, *map(str, arguments), "--library", "library"], self.folder))

    def run(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        return self.cli(*arguments).ends(code)

    def owner(self) -> Child:
        child = self._stack.enter_context(Child([sys.executable, "-c", OWNER, "library"], self.folder))
        child.until("open", "out")
        return child

    def tree(self, files: int) -> Path:
        for number in range(files):
            path = self.folder / "source" / f"d{number % 50}" / f"f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d " % number * 50)
        return self.folder / "source"

    def held_tree(self) -> None:
        """60 small files, and one that is too large to be copied together with them."""
        (self.tree(60) / "d0" / "held").write_bytes(b"held" * 2**19)

    def gate(self) -> Path:
        os.mkfifo(self.folder / "gate")
        return self.folder / "gate"

    def quick(self, *arguments: str, code: int = 0) -> str:
        """Standard output of a command that is carried out by this process, which is quicker than to start one; of one that fails, the errors."""
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            assert main([*arguments, "--library", str(self.library)]) == code
        return err.getvalue() if code and not out.getvalue() else out.getvalue()

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.quick("jobs", "list", "--json"))
        return found

    def equal(self) -> bool:
        """No difference, and nothing left over."""
        return subprocess.run(["diff", "-r", self.folder / "source", self.folder / "target"]).returncode == 0

    def close(self) -> None:
        self._stack.close()


@contextlib.contextmanager
def place_at(folder: Path) -> Iterator[Place]:
    place = Place(folder)
    try:
        yield place
    finally:
        place.close()


# --- copying alone ------------------------------------------------------------------------------------------------------


def test_a_copy_is_equal_and_its_record_says_so(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.tree(60)
        out, err = place.run("copy", "source", "target")
        assert out.startswith("copied 60 files, 51 folders, ")
        assert err.splitlines()[:2] == ["queued", "started"] and err.splitlines()[-1] == "completed"
        assert place.equal()
        [job] = place.jobs()
        assert (job["name"], job["status"], job["progress"]["done"]) == ("copy_files", "completed", 60)
        (tmp_path / "into").mkdir()
        out, _ = place.run("copy", "--json", "source", "target", "into")
        events = [json.loads(line) for line in out.splitlines()]
        assert {"job_queued", "job_started", "progress", "job_completed", "result"} <= {event["event"] for event in events}
        assert events[-1]["result"]["files"] == 120 and events[-1]["exit_code"] == 0
        assert sorted(path.name for path in (tmp_path / "into").iterdir()) == ["source", "target"]


@pytest.mark.parametrize("on_conflict", ["replace", "skip", "rename", "error"])
def test_what_lies_at_the_target_meets_what_the_option_says(tmp_path: Path, on_conflict: str) -> None:
    with place_at(tmp_path) as place:
        (place.tree(3) / "d0").joinpath("f0").write_bytes(b"new")
        old = tmp_path / "target" / "source" / "d0" / "f0"
        old.parent.mkdir(parents=True)
        old.write_bytes(b"old")
        _, err = place.run("copy", "source", "target", "--on-conflict", on_conflict, "--verify", code=int(on_conflict == "error"))
        assert old.read_bytes() == (b"new" if on_conflict == "replace" else b"old")
        assert ("f0" in err) == (on_conflict == "error")
        beside = sorted(path.name for path in old.parent.iterdir() if path.name != "f0")
        assert len(beside) == int(on_conflict == "rename") and all(old.with_name(name).read_bytes() == b"new" for name in beside)
        assert (tmp_path / "target" / "source" / "d2" / "f2").read_bytes() == b"2 " * 50


def test_what_could_not_be_copied_is_listed_and_ends_with_one(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        os.mkfifo(place.tree(3) / "pipe\x1b[2J\n")
        out, err = place.run("copy", "source", "target", code=1)
        assert "copied 3 files" in out and "1 failed" in out
        assert "failed: pipe\\x1b[2J\\x0a: " in err
        view = json.loads(place.run("copy", "--json", "source", "target2", code=1)[0].splitlines()[-1])
        assert (view["exit_code"], view["errors"], view["failed"][0]["item"]) == (1, 1, "pipe\\x1b[2J\\x0a")


def test_a_copy_that_cannot_begin_ends_with_two_and_leaves_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with place_at(tmp_path) as place:
        place.tree(1)
        for arguments, text in (
            (("missing", "target"), "missing: No such file or directory"),
            (("source", "source/inside"), "would be copied into itself"),
            (("source", "source", "nowhere"), "is no folder, and 2 sources can only go into one"),
            (("source", "no/where"), "is no folder; make it first"),
        ):
            assert text in place.quick("copy", *arguments, code=2)
        assert json.loads(place.quick("copy", "--json", "missing", "target", code=2))["event"] == "not_started"
        assert place.jobs() == []
        assert not (tmp_path / "target").exists()


def test_a_copy_runs_its_own_job_and_no_other(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.tree(3)
        owner = place.owner()
        owner.eval("[library.submit(Count(10**9)).pause(wait=True) for _ in range(2)]")
        owner.process.kill()
        owner.process.wait(SECONDS)
        first = place.jobs()[0]["id"]
        place.run("jobs", "resume", first)
        place.run("copy", "source", "target")
        assert [(job["status"], job["attempt"]) for job in place.jobs()] == [("queued", 1), ("paused", 1), ("completed", 1)]
        assert place.equal()


# --- interrupted --------------------------------------------------------------------------------------------------------


def on_a_terminal(command: list[str], folder: Path, until: bytes, send: bytes) -> tuple[int, bytes]:
    """Run on a terminal of its own; send the keys once `until` is seen. (exit code, all it showed)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(command[0], command)
    out, sent = b"", False
    while select.select([terminal], [], [], SECONDS)[0]:
        try:
            data = os.read(terminal, 65_536)
        except OSError:
            break
        out += data
        if until in out and not sent:
            sent = True
            os.write(terminal, send)
        if not data:
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out


def test_ctrl_c_pauses_the_copy_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.held_tree()
        command = [sys.executable, "-c", HELD, "copy", "source", "target", "--library", "library"]
        code, out = on_a_terminal(command, tmp_path, b" done", b"\x03")
        assert code == 130, out
        assert b"the same command goes on where it stopped:" in out and b"callboard copy source target --library library" in out
        [job] = place.jobs()
        assert (job["status"], job["paused_by"], job["crashes"]) == ("paused", ["user"], 0)
        assert (job["progress"]["done"] or 0) <= 60
        out_again, err = place.run("copy", "source", "target")
        assert re.match(r"copied \d\d files, ", out_again)  # those in flight at the interruption may be counted again
        assert "resumed" in err and "goes on" in err
        assert place.equal()
        assert [each["id"] for each in place.jobs()] == [job["id"]]


def test_a_bar_is_shown_on_a_terminal(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.tree(500)
        code, out = on_a_terminal([*CLI, "copy", "source", "target", "--library", "library"], tmp_path, b"%", b"")
        assert code == 0
        assert "━".encode() in out and b"/s" in out and b" left" in out and b"copied 500 files" in out


def test_sigterm_brings_the_copy_to_a_checkpoint_and_pauses_nothing(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.held_tree()
        copy = place.held("copy", "source", "target")
        copy.until(" done")
        copy.process.terminate()
        _, err = copy.ends(143)
        assert "stopped; the same command goes on" in err
        [job] = place.jobs()
        assert (job["status"], job["paused_by"], job["crashes"]) == ("queued", [], 0)
        (tmp_path / "other").write_text("x")
        place.run("copy", "other", "copied")  # its own job and no other
        assert [(each["status"], each["attempt"]) for each in place.jobs()] == [("queued", 1), ("completed", 1)]
        assert place.jobs()[0]["progress"] == job["progress"]
        assert "goes on" in place.run("copy", "source", "target")[1]
        assert place.equal()


def test_a_second_terminal_pauses_resumes_and_cancels_a_copy(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.held_tree()
        copy = place.held("copy", "source", "target")
        copy.until(" done")
        [job] = place.jobs()
        assert job["status"] == "running"
        place.run("jobs", "pause", job["id"])
        assert f"`callboard jobs resume {job['id']}` lets it go on" in copy.until("lets it go on")
        assert place.jobs()[0]["status"] == "paused"
        place.run("jobs", "resume", job["id"])
        copy.until("goes on")
        place.run("jobs", "cancel", job["id"])
        out, err = copy.ends(1)
        assert out == "cancelled" and err.endswith("cancelled")


# --- with an owner ------------------------------------------------------------------------------------------------------


def test_a_copy_runs_in_the_owner_if_there_is_one_and_is_watched(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.tree(30)
        owner = place.owner()
        out, err = place.run("copy", "source", "target")
        assert out.startswith("copied 30 files") and err.endswith("completed")
        assert place.equal()
        assert owner.eval("[(r.name, r.requested_by) for r in library.history().records]") == "[('copy_files', 'callboard copy')]"


def test_ctrl_c_of_a_watcher_pauses_its_own_job_and_the_owner_goes_on(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.tree(3)
        gate = place.gate()
        owner = place.owner()
        owner.eval(f"library.submit(Block(Path({str(gate)!r})))")
        copy = place.cli("copy", "source", "target")
        copy.until("started")
        copy.process.send_signal(signal.SIGINT)
        copy.ends(130)
        assert {job["name"]: job["status"] for job in place.jobs()} == {"host.block": "running", "copy_files": "paused"}
        gate.write_text("open")
        place.run("copy", "source", "target")
        assert place.equal()
        watched = place.cli("copy", "source", "target")
        watched.process.terminate()  # at any time, also before it has begun
        assert watched.process.wait(SECONDS) in (143, -signal.SIGTERM, 0)
        assert owner.eval("1 + 1") == "2"


def test_a_watcher_whose_owner_is_killed_takes_its_place(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.tree(30)
        owner = place.owner()
        owner.eval(f"library.submit(Block(Path({str(place.gate())!r})))")
        copy = place.cli("copy", "source", "target")
        copy.until("started")
        owner.process.kill()
        copy.until("going on with it here")
        out, _ = copy.ends(0)
        assert out.startswith("copied 30 files")
        assert place.equal()
        jobs = {job["name"]: job for job in place.jobs()}
        assert jobs["copy_files"]["status"] == "completed"
        assert (jobs["host.block"]["status"], jobs["host.block"]["crashes"]) == ("queued", 1)  # not its own: left alone


def test_of_two_copies_one_goes_on_when_the_other_is_done(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.held_tree()
        first = place.held("copy", "source", "first", "--workers", "2")
        first.until(" done")
        [job] = place.jobs()
        place.quick("jobs", "pause", job["id"])
        first.until("lets it go on")
        second = place.held("copy", "source", "target", "--workers", "2")
        second.until(" done")  # in the first one's process
        place.quick("jobs", "cancel", job["id"])
        first.ends(1)
        assert "going on with it here" in second.until("going on")
        (tmp_path / "go").touch()
        assert re.match(r"copied \d\d files, ", second.ends(0)[0])
        assert place.equal()
        assert [each["status"] for each in place.jobs()] == ["completed", "cancelled"]
        assert [each["crashes"] for each in place.jobs()] == [0, 0]


def test_watching_a_job_whose_owner_is_killed_says_that_it_was_interrupted(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        owner = place.owner()
        job_id = owner.eval("library.submit(Hold()).id_text")
        watch = place.cli("jobs", "watch", job_id[:13])
        watch.until("of 1,000,000,000")
        assert place.run("jobs", "show", job_id)[0].count("running")
        owner.process.kill()
        out, err = watch.ends(1)
        assert (out, "`callboard resume` runs its jobs" in err) == ("interrupted", True), err
        stopped = place.cli("jobs", "watch", job_id)
        assert stopped.ends(1)[0] == "interrupted"


def test_ctrl_c_ends_the_watching_and_not_the_job(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        owner = place.owner()
        job_id = owner.eval("library.submit(Hold()).id_text")
        watch = place.cli("jobs", "watch", "--json", job_id)
        watch.until('"progress"', "out")
        watch.process.send_signal(signal.SIGINT)
        watch.ends(130)
        assert owner.eval("str(library.jobs().records[0].status)") == "running"


# --- resume -------------------------------------------------------------------------------------------------------------


def test_resume_runs_what_is_known_and_lists_what_it_passes_over(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        place.tree(20)
        owner = place.owner()
        owner.eval(f"library.submit(Block(Path({str(place.gate())!r})))")
        ids = {name: owner.eval(f"library.submit({name}).id_text") for name in ("Hold()", "Asks()")}
        owner.eval(f"library.pause(bytes.fromhex({ids['Hold()']!r}.replace('-', '')))")
        copy = place.cli("copy", "source", "target")
        copy.until("started")
        owner.process.kill()
        copy.process.kill()
        copy.process.wait(SECONDS)
        _, err = place.run("resume", code=1)
        over = [line for line in err.splitlines() if line.startswith("passed over: ")]
        assert [line.split(": ")[1].split()[1] for line in over] == ["host.block", "host.hold", "host.asks"], err
        assert "host.block: job type 'host.block' is not registered" in over[0] and over[1].endswith("host.hold: paused by a user")
        assert place.equal()
        assert [job["status"] for job in place.jobs()] == ["queued", "paused", "queued", "completed"]
        threading.Thread(target=(tmp_path / "gate").write_text, args=("open",), daemon=True).start()
        out, err = place.run("resume", "--import", "hostjobs", "--json", code=1)
        result = json.loads(out.splitlines()[-1])
        assert result["ended"]["completed"] == 2
        assert [each["why"] for each in result["passed_over"]] == ["paused by a user"]
        place.run("jobs", "cancel", ids["Hold()"])
        assert place.run("resume")[0] == "no job ended"


def test_resume_lets_a_job_go_on_that_paused_itself(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        owner = place.owner()
        owner.eval("next(status for status in library.submit(Asks()).updates() if status == 'paused')")
        owner.process.stdin.close()  # type: ignore[union-attr]
        owner.ends(0)
        [job] = place.jobs()
        assert (job["status"], job["paused_by"], job["error"]) == ("paused", ["job"], "the network is away")
        assert "1 job ended: 1 completed" in place.run("resume", "--import", "hostjobs")[0]


def test_resume_is_stopped_by_a_signal_and_pauses_nothing(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        owner = place.owner()
        owner.eval("library.submit(Hold()).id_text")
        _, err = place.run("resume", code=2)
        assert f"process {owner.process.pid}" in err
        owner.process.kill()
        owner.process.wait(SECONDS)
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            resume = place.cli("resume", "--import", "hostjobs")
            resume.until("of 1,000,000,000")
            resume.process.send_signal(number)
            assert "go on where they stopped" in resume.ends(code)[1]
            [job] = place.jobs()
            assert (job["status"], job["paused_by"]) == ("queued", [])


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    with place_at(tmp_path) as place:
        (tmp_path / "broken.py").write_text("raise ValueError('not today')")
        _, err = place.run("resume", "--import", "broken", code=2)
        assert err == "callboard: --import broken: ValueError: not today"


def test_the_default_library_is_in_the_users_state_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "a/b")}
    done = subprocess.run([*CLI, "copy", "file", "copied"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a/b/callboard/jobs.db").exists()
    assert (tmp_path / "copied").read_text() == "x"
    shutil.rmtree(tmp_path / "a")


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path, locale: str) -> None:
    (tmp_path / "file\u00e9\udcff").write_text("x")
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*CLI, "copy", "nothing\u00e9\udcff", "copied", "--library", "library"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 2
    assert b"No such file" in done.stderr and b"Traceback" not in done.stderr
