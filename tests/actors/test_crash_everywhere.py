"""An author's job, killed at every place: what is done twice or missing is found and said, what is safe passes, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from callboard import Interrupted, Job, JobContext, RetryLater, RetryPolicy, Status, Task, TaskContext
from callboard.actors.testing import UnsafeToRepeat, crash_everywhere, simulate
from callboard.actors.testing.crash_words import differences

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Outside:
    """What stands for the world."""

    charged: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def outside(_folder: Path) -> Outside:
    return Outside()


def charges(world: Outside) -> list[str]:
    return sorted(world.charged)


@dataclass
class Charge(Task):
    who: str

    def run(self, ctx: TaskContext) -> str:
        ctx.services.charged.append(self.who)
        return self.who


@dataclass
class ChargeOnce(Charge):
    def run(self, ctx: TaskContext) -> str:
        if ctx.token in ctx.services.seen:
            return self.who
        ctx.services.seen.add(ctx.token)
        return super().run(ctx)


@dataclass
class ChargeAll(Job, name="crashes.charge_all"):
    who: tuple[str, ...]
    by_token: bool

    def run(self, ctx: JobContext) -> int:
        return sum(1 for _ in ctx.map(ChargeOnce if self.by_token else Charge, self.who, name="charges"))


@dataclass
class Appends(Job, name="crashes.appends"):
    lines: int
    done: int = 0

    def run(self, ctx: JobContext) -> int:
        for number in range(self.done, self.lines):
            with (ctx.services / "log").open("a") as log:
                log.write(f"line {number}\n")
            self.done = number + 1
            ctx.checkpoint()
        return self.done


@dataclass
class Forgets(Job, name="crashes.forgets"):
    """Notes that it is done before it is: what a kill in between takes, is never done."""

    noted: bool = False

    def run(self, ctx: JobContext) -> None:
        if not self.noted:
            self.noted = True
            ctx.checkpoint()
            ctx.services.charged.append("late")


@dataclass
class Leaf(Job, name="crashes.leaf"):
    number: int

    def run(self, ctx: JobContext) -> int:
        return self.number


@dataclass
class Parent(Job, name="crashes.parent"):
    def run(self, ctx: JobContext) -> list[Any]:
        ids = ctx.spawn_children([Leaf(number) for number in range(3)], name="leaves")
        return [end.result for end in ctx.wait_for_children(ids)]


@dataclass
class Sleeper(Job, name="crashes.sleeper", retry=RetryPolicy(max_attempts=3)):
    def run(self, ctx: JobContext) -> int:
        ctx.sleep(60)
        if ctx.attempt == 1:
            raise RetryLater(after=30)
        return ctx.attempt


@dataclass
class Fragile(Job, name="crashes.fragile", resumable=False):
    def run(self, ctx: JobContext) -> str:
        ctx.checkpoint()
        return "done"


@dataclass
class Broken(Job, name="crashes.broken"):
    def run(self, ctx: JobContext) -> None:
        raise ValueError("broken")


@dataclass
class Stops(Job, name="crashes.stops"):
    def run(self, ctx: JobContext) -> None:
        raise Interrupted("no network")


def unsafe(*given: Any, **how: Any) -> UnsafeToRepeat:
    with pytest.raises(UnsafeToRepeat) as caught:
        crash_everywhere(*given, **how)
    return caught.value


def test_what_is_done_twice_is_found_at_the_first_place_with_its_line(tmp_path: Path) -> None:
    found = unsafe(Appends(3), folder=tmp_path)
    assert "before checkpoint 1 was on disk" in found.point.what
    assert "done twice: 'line 0' is there 2 times, and once when nobody kills it" in str(found)
    assert any(line.endswith("ctx.checkpoint()") and "test_crash_everywhere.py" in line for line in found.point.lines)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_after_a_kill_is_found(tmp_path: Path) -> None:
    found = unsafe(Forgets(), services=outside, check=charges, folder=tmp_path)
    assert "checkpoint 1 was on disk" in found.point.what and found.point.what.startswith("when")
    assert "missing: 'late' is there not at all, and once when nobody kills it" in str(found)


def test_a_task_that_ends_and_is_not_heard_of_runs_again(tmp_path: Path) -> None:
    found = unsafe(ChargeAll(("ann", "bob", "cem"), False), services=outside, check=charges, folder=tmp_path)
    assert found.point.what.startswith("after task Charge(") and "done twice" in str(found)
    assert any("ctx.map(" in line for line in found.point.lines)


def test_the_token_of_a_task_makes_it_safe(tmp_path: Path) -> None:
    report = crash_everywhere(ChargeAll(("ann", "bob", "cem"), True), services=outside, check=charges, folder=tmp_path)
    assert report.tried == report.points >= 7
    assert report.uninterrupted.result == 3 and report.uninterrupted.outside == ["ann", "bob", "cem"]


def test_a_family_is_safe_at_each_place_of_parent_and_children(tmp_path: Path) -> None:
    report = crash_everywhere(Parent(), folder=tmp_path)
    assert report.uninterrupted.result == [0, 1, 2] and report.tried >= 8


def test_a_job_that_fails_by_itself_is_no_test_of_kills(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="failed when nobody killed it: ValueError: broken") as caught:
        crash_everywhere(Broken(), folder=tmp_path)
    assert not isinstance(caught.value, UnsafeToRepeat)


def test_a_job_that_is_not_resumable_is_told_to_be_so(tmp_path: Path) -> None:
    assert "it ended failed" in str(unsafe(Fragile(), folder=tmp_path))


def test_only_so_many_places_are_tried_as_are_wanted(tmp_path: Path) -> None:
    report = crash_everywhere(Appends(0), most=3, folder=tmp_path)
    assert report.tried == min(3, report.points)


def test_a_job_may_be_made_for_the_folder_of_each_run(tmp_path: Path) -> None:
    @dataclass
    class Writes(Job, name="crashes.writes"):
        where: Path

        def run(self, ctx: JobContext) -> None:
            (self.where / "file").write_text("whole")

    try:
        assert crash_everywhere(Writes, folder=tmp_path).uninterrupted.outside == {"file": ["whole"]}
    finally:
        from callboard.jobs.registry import REGISTRY

        REGISTRY.remove("crashes.writes")


# --- simulate -----------------------------------------------------------------------------------------------------------------


def test_a_simulated_job_takes_no_time_and_its_seed_is_its_history(tmp_path: Path) -> None:
    one, two, other = (simulate(Sleeper(), seed=seed, folder=tmp_path) for seed in (1, 1, 2))
    assert (one.status, one.result) == (Status.COMPLETED, 2)
    assert one.seconds >= 150
    assert one.trace_hash == two.trace_hash != other.trace_hash and one.trace


def test_a_job_that_stops_without_an_end_is_told_as_such(tmp_path: Path) -> None:
    ended = simulate(Stops(), folder=tmp_path)
    assert ended.status is Status.PAUSED and "no network" in (ended.error or "")


def test_nothing_of_a_killed_run_is_left_for_the_exit_of_the_process(tmp_path: Path) -> None:
    code = (
        "from dataclasses import dataclass\nfrom callboard import Job\nfrom callboard.actors.testing import crash_everywhere\n"
        "@dataclass\nclass J(Job):\n    def run(self, ctx): ctx.checkpoint()\n"
        "print(crash_everywhere(J()).tried)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "") and int(done.stdout) >= 5


def test_without_its_extra_it_says_how_to_get_it() -> None:
    code = (
        "import sys\nsys.modules['greenlet'] = None\nimport callboard.actors.testing as testing\n"
        "try: testing.crash_everywhere\nexcept ImportError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert "pip install 'callboard[testing]'" in done.stdout, done.stderr


def test_the_example_finds_the_bug_and_passes_the_mended_job() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "examples/crash_tested.py")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "done twice: 'ann' is there 2 times" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("CarefulNewsletter: safe at each of ")


# --- words --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "found", "text"),
    [
        ([1, 2], [1, 1, 2], "at: done twice: 1 is there 2 times, and once when nobody kills it"),
        ([1, 2], [1], "at: missing: 2 is there not at all, and once when nobody kills it"),
        ([1, 2], [2, 1], "at: the same things are there in another order (if they have none, let check() sort them)"),
        ({"a": 1}, {"a": 2}, "at: 'a': it is 2, and 1 when nobody kills it"),
        ({"a": 1}, {}, "at: 'a' is missing"),
        ({}, {"a": 1}, "at: 'a' is there, and is not when nobody kills it: 1"),
        (Counter("ab"), Counter("abb"), "at: done twice: b is there 2 times, and once when nobody kills it"),
        ("a\nb\n", "a\nb\nb\n", "at: done twice: 'b' is there 2 times, and once when nobody kills it"),
        (1, None, "at: it is None, and 1 when nobody kills it"),
        (1, [1], "at: it is [1], and 1 when nobody kills it"),
    ],
)
def test_a_difference_is_said_in_words(expected: object, found: object, text: str) -> None:
    assert differences(expected, found, "at") == [text]
    assert differences(expected, expected, "at") == []
