"""The example application runs as it stands, in a process of its own, and prints what it says it does."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "three_actors.py"
PUBLIC = {"callboard", "callboard.actors.messages", "callboard.jobs.events"}


def test_three_actors_submit_hear_pause_cancel_and_outlive_their_runtime() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    first, second = done.stdout.split("a runtime opens the library\n")[1:]

    def heard_of(album: str, part: str) -> list[str]:
        return [line.split(": ")[1] for line in part.splitlines() if line.startswith(f"  {album}: ")]

    assert heard_of("Oslo", first) == ["JobQueued", "JobStarted", "JobCancelling", "JobCancelled"] and heard_of("Oslo", second) == []
    assert heard_of("Paris", first) == ["JobQueued", "JobStarted", "JobPausing", "JobPaused"]
    assert heard_of("Paris", second) == ["JobResumed", "JobStarted", "JobCompleted"]
    assert heard_of("Rome", first)[:2] == ["JobQueued", "JobStarted"] and heard_of("Rome", first + second)[-1] == "JobCompleted"


def test_it_is_short_and_uses_public_names_only() -> None:
    source = EXAMPLE.read_text()
    assert source.count("\n") <= 60
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module}
    assert {module for module in imported if module.startswith("callboard")} == PUBLIC
