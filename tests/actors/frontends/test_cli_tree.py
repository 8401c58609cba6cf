"""Trees of jobs in the command line: drawn as far as they fit, with and without an owner of the library."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard.actors.door import Library
from callboard.actors.frontends import job_tree
from callboard.actors.frontends.cli import main
from callboard.actors.runtime import Runtime
from callboard.jobs.context import JobContext
from callboard.jobs.identity import id_text
from callboard.jobs.job import Job

SECONDS = 100.0


@dataclass
class Level(Job, name="test_cli_tree.level"):
    """As many children at each level as `wide` says; `holds`: the last ones wait for the gate."""

    wide: tuple[int, ...] = ()
    holds: bool = False

    def run(self, ctx: JobContext) -> None:
        if self.wide:
            ctx.wait_for_children(ctx.spawn_children([Level(self.wide[1:], self.holds)] * self.wide[0], max_running=3))
        while self.holds and not self.wide and not ctx.services.is_set():
            ctx.sleep(0.005)


def until_spawned(library: Library, job_id: bytes) -> None:
    pause, left = threading.Event(), SECONDS
    while not library.children(job_id)[0] and left > 0:
        pause.wait(0.005)
        left -= 0.005


@contextmanager
def family(folder: Path, *wide: int, live: bool) -> Iterator[tuple[Library | None, str]]:
    """A library with one tree, open or not, and the root's id."""
    gate = threading.Event()
    with Runtime(workers=1) as runtime:
        library = runtime.open_library(folder, services=gate, running_jobs=4)
        handle = library.submit(Level(wide, live))
        if live:
            until_spawned(library, handle.id)
            yield library, handle.id_text
            gate.set()
        handle.wait(SECONDS)
    if not live:
        yield None, handle.id_text


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr()
    return capsys.readouterr().out


def found(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


@pytest.mark.parametrize("live", [True, False], ids=["with an owner", "without one"])
def test_show_draws_the_tree_and_says_how_many_more_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str], live: bool) -> None:
    with family(tmp_path / "l", 12, live=live) as (_, root):
        out = said(capsys, "jobs", "show", root, "--library", tmp_path / "l")
        lines = out.splitlines()
        counts = "12 live, 0 ended" if live else "0 live, 12 ended"
        first = next(at for at, line in enumerate(lines) if line.startswith("children:"))
        assert lines[first].split(None, 1)[1] == counts
        drawn = lines[first + 1 : first + 1 + job_tree.OF_EACH]
        assert len({line.split()[0] for line in drawn}) == job_tree.OF_EACH and all("test_cli_tree.level" in line for line in drawn)
        assert lines[first + 1 + job_tree.OF_EACH] == "  … and 2 more"
        child = found(capsys, "jobs", "show", drawn[0].split()[0], "--library", tmp_path / "l")
        assert child["parent"] == root and child["tree"] == []
        assert f"parent:       {root}" in said(capsys, "jobs", "show", child["id"], "--library", tmp_path / "l")


def test_a_deep_tree_is_drawn_down_to_its_end_and_a_large_one_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with family(tmp_path / "l", 1, 1, 1, 2, live=False) as (_, root):
        where = "--library", tmp_path / "l"
        tree = found(capsys, "jobs", "show", root, *where)["tree"]
        assert [node["depth"] for node in tree] == [1, 2, 3, 4, 4]
        assert [node["parent"] for node in tree] == [root, tree[0]["id"], tree[1]["id"], tree[2]["id"], tree[2]["id"]]
        monkeypatch.setattr(job_tree.Tree.__init__, "__kwdefaults__", {"lines": 4, "of_each": 10})
        tree = found(capsys, "jobs", "show", root, *where)["tree"]
        assert [node.get("more", 0) for node in tree] == [0, 0, 0, 0, 1] and tree[-1]["depth"] == 4


@pytest.mark.parametrize("live", [True, False], ids=["with an owner", "without one"])
def test_list_as_a_tree_has_each_job_below_its_parent(tmp_path: Path, capsys: pytest.CaptureFixture[str], live: bool) -> None:
    with family(tmp_path / "l", 2, 11, live=live) as (library, root):
        where = "--library", tmp_path / "l"
        if library is not None:
            second = library.jobs(parent=bytes.fromhex(root.replace("-", ""))).records
            for each in second:
                until_spawned(library, each.id)
        rows = found(capsys, "jobs", "list", "--tree", *where)
        assert [row["depth"] for row in rows] == [0, *[1, *[2] * 11] * 2]
        assert [row.get("more", 0) for row in rows] == [0, *[0, *[0] * 10, 1] * 2]
        by_id = {row["id"]: row for row in rows if "id" in row}
        assert rows[0]["id"] == root and rows[0]["parent"] is None
        assert all(by_id[row["parent"]]["depth"] == row["depth"] - 1 for row in rows[1:])
        assert len(found(capsys, "jobs", "list", "--tree", "--limit", "0", *where)) == 1 + 2 + 22
        assert len(found(capsys, "jobs", "list", "--tree", "--limit", "5", *where)) == 5
        text = said(capsys, "jobs", "list", "--tree", *where).splitlines()
        assert text[1].startswith(root) and text[2].startswith("  ") and text[3].startswith("    ") and "    … and 1 more" in text
        ended = found(capsys, "jobs", "list", "--tree", "--ended", *where)
        assert len(ended) == (0 if live else len(rows))


def test_children_are_counted_and_pages_leave_them_out(tmp_path: Path) -> None:
    with family(tmp_path / "l", 3, live=True) as (library, root):
        assert library is not None
        [only] = library.jobs(parent=b"").records
        assert id_text(only.id) == root
        assert library.children(only.id) == (3, 0) and library.children(bytes(16)) == (0, 0)
