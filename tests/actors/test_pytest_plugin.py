"""The pytest plugin: its fixtures work in a stranger's tests, the clock stands still until it is moved, and who does not use it pays nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from callboard import Job, JobContext, Library, RetryLater, RetryPolicy, Runtime, Status, Submission
from callboard.actors.testing import FrozenClock
from callboard.actors.testing.plugin import drain, frozen_clock, library, runtime

__all__ = ["drain", "frozen_clock", "library", "runtime"]

DAY = 86_400.0


@dataclass
class Adds(Job, name="plugin.adds"):
    a: int
    b: int

    def run(self, ctx: JobContext) -> int:
        return self.a + self.b


@dataclass
class Naps(Job, name="plugin.naps", retry=RetryPolicy(max_attempts=3)):
    def run(self, ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise RetryLater(after=DAY)
        ctx.sleep(DAY)
        return ctx.attempt


def test_a_library_is_drained_when_all_has_ended_that_can(library: Library, drain: Callable[..., None]) -> None:
    handles = [library.submit(Adds(number, 1)) for number in range(50)]
    later = library.submit(Submission(Adds(1, 1), delay=DAY))
    paused = library.submit(Submission(Adds(1, 1), delay=DAY))
    paused.pause(wait=True)
    drain(library)
    assert [handle.wait(30) for handle in handles] == [number + 1 for number in range(50)]
    assert (later.status, paused.status) == (Status.QUEUED, Status.PAUSED)


def test_the_clock_stands_still_until_it_is_moved(frozen_clock: FrozenClock, library: Library, drain: Callable[..., None]) -> None:
    delayed = library.submit(Submission(Adds(1, 2), delay=DAY))
    drain(library)
    assert delayed.status is Status.QUEUED
    frozen_clock.advance(DAY - 1)
    drain(library)
    assert delayed.status is Status.QUEUED
    frozen_clock.advance(1)
    assert delayed.wait(30) == 3
    record = delayed.record()
    assert (record.created_at, record.started_at) == (1_800_000_000.0, pytest.approx(1_800_000_000.0 + DAY, abs=0.01))


def test_backoff_and_sleep_follow_the_clock(frozen_clock: FrozenClock, library: Library, drain: Callable[..., None]) -> None:
    naps = library.submit(Naps())
    drain(library)
    assert (naps.status, naps.record().attempt) == (Status.QUEUED, 2)
    frozen_clock.advance(DAY)
    for update in naps.updates(timeout=None):
        if update is Status.RUNNING:
            break
    with pytest.raises(TimeoutError, match="1 running"):
        drain(library, timeout=0.01)
    while naps.status is Status.RUNNING:  # it may have begun to sleep after the first of these
        frozen_clock.advance(DAY)
    assert naps.wait(30) == 2


def test_timers_fire_in_order_at_their_times() -> None:
    clock, fired = FrozenClock(wall=0.0), list[tuple[str, float]]()
    clock.call_later(2.0, lambda: fired.append(("two", clock.wall())))
    clock.call_later(1.0, lambda: (fired.append(("one", clock.wall())), clock.call_later(0.5, lambda: fired.append(("half", clock.wall())))))
    clock.call_later(1.0, lambda: fired.append(("never", 0.0))).cancel()
    clock.advance(1.9)
    assert fired == [("one", 1.0), ("half", 1.5)]
    clock.set_wall(1_000.0)
    clock.advance(1.0)
    assert fired[2:] == [("two", pytest.approx(1_000.1))]
    with pytest.raises(ValueError, match="0 or more"):
        clock.advance(-1)
    clock.close()


def test_a_runtime_without_the_frozen_clock_has_the_real_one(runtime: Runtime) -> None:
    assert not isinstance(runtime.ports, FrozenClock)


# --- in a stranger's tests ------------------------------------------------------------------------------------------------

PLUGIN = "callboard.actors.testing.plugin"

STRANGER = """
from dataclasses import dataclass
from callboard import Job

@dataclass
class Doubles(Job):
    number: int
    def run(self, ctx):
        return 2 * self.number

def test_it(library, drain, frozen_clock, runtime):
    handle = library.submit(Doubles(21))
    drain(library)
    assert handle.wait(30) == 42 and runtime.ports is frozen_clock
"""


def test_a_strangers_test_uses_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_stranger.py").write_text(STRANGER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    own = ("--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "temp"))  # without the latter it would clear away what earlier runs left
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", *own, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_to_load_it_imports_nothing_of_callboard() -> None:
    file = Path(sys.modules[PLUGIN].__file__ or "")
    code = (
        "import sys, importlib.util as u, pytest\nbefore = set(sys.modules)\n"
        f"spec = u.spec_from_file_location('callboard_pytest', {str(file)!r}); module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(sorted(set(sys.modules) - before - {'__future__'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout == "[]\n", done.stdout + done.stderr
