"""`callboard doctor` and `callboard salvage`: what they print, and their exit codes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from callboard import Job, JobContext, Runtime, Submission
from callboard.actors.frontends.cli import main


@dataclass
class Waiting(Job, name="test_cli_repair.waiting"):
    n: int

    def run(self, ctx: JobContext) -> int:
        return self.n


def library_of(path: Path, *numbers: int) -> list[bytes]:
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(path)
        return [library.submit(Submission(Waiting(n), delay=1e6)).id for n in numbers]


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> tuple[str, str]:
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def test_G15_doctor_and_salvage_say_what_is_wrong_and_save_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library, new = tmp_path / "library", tmp_path / "new"
    first, _ = library_of(library, 1, 2)
    assert said(capsys, 0, "doctor", "--library", library) == ("whole\n", "")
    assert json.loads(said(capsys, 0, "doctor", "--json", "--library", library)[0]) == {"library": str(library), "whole": True, "findings": []}
    with closing(sqlite3.connect(library / "jobs.db")) as connection:
        connection.execute("UPDATE jobs SET data = x'c1' WHERE id = ?", (first,))
        connection.commit()
    out, _ = said(capsys, 1, "doctor", "--library", library)
    assert out == f"jobs: {first.hex()} is damaged: its checksum differs\ndamaged: `callboard salvage` saves what is whole\n"
    [finding] = json.loads(said(capsys, 1, "doctor", "--json", "--library", library)[0])["findings"]
    assert finding == {"where": "jobs", "text": f"{first.hex()} is damaged: its checksum differs", "damage": True}
    out, _ = said(capsys, 1, "salvage", library, new)
    assert out == f"jobs: {first.hex()} is damaged: its checksum differs\nkept: 1 jobs\n"
    assert said(capsys, 0, "doctor", "--library", new)[0] == "whole\n"
    assert json.loads(said(capsys, 0, "salvage", "--json", new, tmp_path / "newer")[0])["kept"]["jobs"] == 1
    assert "exists" in said(capsys, 2, "salvage", library, new)[1]


def test_doctor_that_cannot_look_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no library" in said(capsys, 2, "doctor", "--library", tmp_path / "nowhere")[1]
    with Runtime(workers=1) as runtime:
        runtime.open_library(tmp_path / "own")
        assert "open in this process" in said(capsys, 2, "doctor", "--library", tmp_path / "own")[1]


def test_names_in_a_damaged_library_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library_of(tmp_path / "library")
    with closing(sqlite3.connect(tmp_path / "library/jobs.db")) as connection:
        connection.execute('CREATE TABLE "\x1b[2J" (x)')
    out, _ = said(capsys, 1, "doctor", "--library", tmp_path / "library")
    assert "\x1b" not in out and "x1b[2J" in out
