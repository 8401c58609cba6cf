"""`callboard submit` and `callboard batches`: the same with an owner, which takes the items, and without one, when they are written and wait."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard import Job, JobContext, Library, Runtime, Submission
from callboard.actors.frontends import submit_run
from callboard.actors.frontends.cli import main
from callboard.jobs.identity import id_from_text

SECONDS = 100.0
ID = "01234567-89ab-7cde-8f01-23456789abcd"


@dataclass
class Line(Job, name="test_cli_batches.line"):
    path: str = ""
    size: int = 0

    def run(self, ctx: JobContext) -> str:
        return self.path


@contextmanager
def opened(folder: Path) -> Iterator[Library]:
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(folder)


@contextmanager
def owner_or_none(folder: Path, owned: bool) -> Iterator[None]:
    with opened(folder):
        if owned:
            yield
    if not owned:
        yield


def lines(folder: Path, *items: object) -> Path:
    file = folder / "items.jsonl"
    file.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in items))
    return file


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code, capsys.readouterr()
    return capsys.readouterr()


def submitted(capsys: pytest.CaptureFixture[str], folder: Path, file: Path | str, *more: str, code: int = 0) -> dict[str, Any]:
    out, _ = said(capsys, "submit", "test_cli_batches.line", "--from", file, "--library", folder, "--json", *more, code=code)
    found: dict[str, Any] = json.loads(out)
    return found


def waiting(n: int, **options: Any) -> dict[str, Any]:
    """A line of a job whose time is far away."""
    return {"path": f"p{n}", "size": n, "@": {"delay": 1e6, **options}}


@pytest.mark.parametrize("owned", [True, False])
def test_lines_become_jobs_with_their_options_and_a_bad_line_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], owned: bool) -> None:
    file = lines(
        tmp_path, waiting(0, key="a", priority=3, tags=["t"]), "{no json", [1], {"pth": "x"}, {"path": "x", "@": {"kex": "k"}}, "",
        {"path": 5, "size": "x"}, waiting(6, key="a", on_duplicate="reject"), waiting(7),
    )  # fmt: skip
    with owner_or_none(tmp_path / "l", owned):
        told = submitted(capsys, tmp_path / "l", file, "--group", "g", "--priority", "9", code=1)
        assert told["count"] == 8 and told["complete"] and not told["planned"]
        assert told["counts"] == {"submitted": 2, "failed": 5, "overridden": 1}
        why = {item["index"]: item["why"] for item in told["items"]}
        assert "no JSON" in why[1] and "no JSON object" in why[2] and "pth" in why[3] and "kex" in why[4] and "path" in why[5]
        assert [item["outcome"] for item in told["items"]] == ["overridden", "failed", "failed", "failed", "failed", "failed"]
        found = json.loads(said(capsys, "jobs", "list", "--library", tmp_path / "l", "--json")[0])
        assert [(job["id"], job["priority"], job["group"]) for job in found] == [(job_id, 9, "g") for job_id in told["submitted"]]


@pytest.mark.parametrize("owned", [True, False])
def test_the_same_lines_under_the_same_id_store_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], owned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_run, "PART_ITEMS", 10)
    file = lines(tmp_path, *(waiting(n, key=f"k{n}") for n in range(35)))
    with owner_or_none(tmp_path / "l", owned):
        first = submitted(capsys, tmp_path / "l", file, "--batch-id", ID)
        again = submitted(capsys, tmp_path / "l", file, "--batch-id", ID)
        assert first == again and first["counts"] == {"submitted": 35} and first["batch_id"] == ID
        other = submitted(capsys, tmp_path / "l", file)
        assert other["counts"] == {"deduplicated": 35} and {item["id"] for item in other["items"]} == set(first["submitted"])
        lines(tmp_path, *(waiting(n, key=f"k{n}") for n in range(34)))
        _, err = said(capsys, "submit", "test_cli_batches.line", "--from", file, "--library", tmp_path / "l", "--batch-id", ID, code=1)
        assert "stopped after 30 items" in err and ID in err


@pytest.mark.parametrize("owned", [True, False])
def test_a_plan_says_what_would_become_of_them_and_stores_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], owned: bool) -> None:
    with opened(tmp_path / "l") as library:
        library.submit(Submission(Line(), key="k1", delay=1e6))
    file = lines(tmp_path, *(waiting(n, key=f"k{n}") for n in range(3)))
    with owner_or_none(tmp_path / "l", owned):
        told = submitted(capsys, tmp_path / "l", file, "--plan")
        assert told["planned"] and told["counts"] == {"submitted": 2, "deduplicated": 1} and told["submitted"] == []
        out, err = said(capsys, "submit", "test_cli_batches.line", "--from", file, "--library", tmp_path / "l", "--plan")
        assert out == "would be: 2 submitted, 1 deduplicated\n" and "item 1: deduplicated: key" in err
        assert len(json.loads(said(capsys, "jobs", "list", "--library", tmp_path / "l", "--json")[0])) == 1


@pytest.mark.parametrize("owned", [True, False])
def test_batches_are_listed_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], owned: bool) -> None:
    where = ("--library", tmp_path / "l")
    with opened(tmp_path / "l") as library:
        done = library.submit_batch([Line("a"), Line("b")], requested_by="me")
        library.batch(done.batch_id).wait(SECONDS)
    file = lines(tmp_path, *(waiting(n) for n in range(3)))
    with owner_or_none(tmp_path / "l", owned):
        told = submitted(capsys, tmp_path / "l", file)
        found = json.loads(said(capsys, "batches", "list", *where, "--json")[0])
        assert [(each["id"], each["count"], each["open"], each["sealed"]) for each in found][0] == (told["batch_id"], 3, 3, True)
        assert found[1]["requested_by"] == "me" and found[1]["completed_at"] is not None
        assert [each["id"] for each in json.loads(said(capsys, "batches", "list", *where, "--json", "--limit", "1")[0])] == [told["batch_id"]]
        text = said(capsys, "batches", "list", *where)[0].splitlines()
        assert text[0].startswith(told["batch_id"]) and "3 to go" in text[0] and "ended" in text[1]
        one = json.loads(said(capsys, "batches", "show", found[1]["id"], *where, "--json")[0])
        assert one["states"] == {"completed": 2} and one["counts"] == {"submitted": 2}
        assert "2 jobs, ended: 2 completed" in said(capsys, "batches", "show", found[1]["id"], *where)[0]
        assert "no id of a batch" in said(capsys, "batches", "show", "x", *where, code=1)[1]
        assert ID in said(capsys, "batches", "show", ID, *where, code=1)[1]


def test_what_an_owner_is_sent_runs_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"path": "from stdin"}\n'))
    with opened(tmp_path / "l") as library:
        told = submitted(capsys, tmp_path / "l", "-")
        assert library.job(id_from_text(told["submitted"][0])).wait(SECONDS) == "from stdin"
        assert library.batch(id_from_text(told["batch_id"])).wait(SECONDS).states == {"completed": 1}


def test_what_is_wrong_with_the_command_is_said_before_anything_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--library", tmp_path / "l")
    file = lines(tmp_path, {"path": "x"})
    with opened(tmp_path / "l"):
        assert "no_such_type" in said(capsys, "submit", "no_such_type", "--from", file, *where, code=2)[1]
        assert "No such file" in said(capsys, "submit", "test_cli_batches.line", "--from", tmp_path / "gone", *where, code=2)[1]
        assert "no UUID" in said(capsys, "submit", "test_cli_batches.line", "--from", file, "--batch-id", "x", *where, code=2)[1]
        file.write_bytes(b"\xff\xfe\n")
        assert "cannot be read" in said(capsys, "submit", "test_cli_batches.line", "--from", file, *where, code=2)[1]
        assert said(capsys, "batches", "list", *where) == ("", "no batches\n")
    assert "no library" in said(capsys, "batches", "list", "--library", tmp_path / "none", code=2)[1]
