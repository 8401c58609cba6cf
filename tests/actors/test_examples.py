"""The example applications run as they stand, in processes of their own, and print what they say they do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PUBLIC = {"callboard", "callboard.actors.messages", "callboard.jobs.events"}


def test_three_actors_submit_hear_pause_cancel_and_outlive_their_runtime() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLES / "three_actors.py")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    first, second = done.stdout.split("a runtime opens the library\n")[1:]

    def heard_of(album: str, part: str) -> list[str]:
        return [line.split(": ")[1] for line in part.splitlines() if line.startswith(f"  {album}: ")]

    assert heard_of("Oslo", first) == ["JobQueued", "JobStarted", "JobCancelling", "JobCancelled"] and heard_of("Oslo", second) == []
    assert heard_of("Paris", first) == ["JobQueued", "JobStarted", "JobPausing", "JobPaused"]
    assert heard_of("Paris", second) == ["JobResumed", "JobStarted", "JobCompleted"]
    assert heard_of("Rome", first)[:2] == ["JobQueued", "JobStarted"] and heard_of("Rome", first + second)[-1] == "JobCompleted"


def test_a_sync_engine_supersedes_what_has_changed_again() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLES / "sync_engine.py"), "400"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1] for line in lines if line and line[0] == "submitted"][0] == "400"
    counted = [int(line[1].replace(",", "")) for line in lines if len(line) == 2 and line[0] in ("submitted", "superseded")]
    assert sum(counted) == 600, "every action of both listings has an outcome"


@pytest.mark.parametrize(("name", "lines"), [("three_actors.py", 60), ("sync_engine.py", 90)])
def test_it_is_short_and_uses_public_names_only(name: str, lines: int) -> None:
    source = (EXAMPLES / name).read_text()
    assert source.count("\n") <= lines
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module}
    assert {module for module in imported if module.startswith("callboard")} <= PUBLIC
