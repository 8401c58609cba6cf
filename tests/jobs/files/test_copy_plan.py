"""Where sources go, as `cp -r` has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from callboard.jobs.files.plan import Pair, check_plan, target_for


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("src/sub", "dst", "real"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "to_dst").symlink_to("dst")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("file", "dst", ("file", "dst/file")),
        ("file", "dst/new", ("file", "dst/new")),
        ("file", "dst/", ("file", "dst/file")),
        ("src", "dst", ("src", "dst/src")),
        ("src/", "dst", ("src", "dst/src")),
        ("src", "new", ("src", "new")),
        ("src", "new/", ("src", "new")),
        ("src/.", "dst", ("src", "dst")),
        ("src/sub/..", "dst", ("src", "dst")),
        (".", "dst", ("", "dst")),
        ("link", "dst", ("link", "dst/link")),
        ("link/", "dst", ("real", "dst/link")),
        ("file", "to_dst", ("file", "dst/file")),
        ("to_dst/../file", "dst", ("file", "dst/file")),
    ],
)
def test_a_source_goes_where_cp_would_put_it(top: Path, source: str, target: str, expected: tuple[str, str]) -> None:
    pair = Pair(*(os.fsencode(str(top / path)) for path in expected))
    assert target_for([os.fsencode(source)], os.fsencode(target)) == (pair,)
    assert target_for([os.fsencode(top) + b"/" + os.fsencode(source)], os.fsencode(top) + b"/" + os.fsencode(target)) == (pair,)


def test_a_whole_file_system_is_merged_into_the_folder(top: Path) -> None:
    assert target_for([b"/"], os.fsencode(top / "dst")) == (Pair(b"/", os.fsencode(top / "dst")),)


@pytest.mark.parametrize(
    ("sources", "target"),
    [
        (["file"], "dst"),
        (["file", "src", "link"], "dst"),
        (["src"], "new"),
        (["src/sub"], "."),
        (["link"], "src/sub"),
        (["file"], "dst/new"),
    ],
)
def test_a_sound_plan_has_no_problems(top: Path, sources: list[str], target: str) -> None:
    assert check_plan([os.fsencode(source) for source in sources], os.fsencode(target)) == []


@pytest.mark.parametrize(
    ("sources", "target", "words"),
    [
        ([], "dst", "no source"),
        ([""], "dst", "is no path"),
        (["file"], "", "is no path"),
        (["a\0b"], "dst", "is no path"),
        (["file", "src"], "new", "2 sources can only go into one"),
        (["file"], "no/such/place", "is no folder; make it first"),
        (["file"], "new/", "ends in a slash"),
        (["file"], "file/new", "is no folder; make it first"),
        (["src"], "file", "is a folder, and"),
        (["gone"], "dst", "gone: No such file"),
    ],
)
def test_what_cannot_begin_is_told_with_the_way_out(top: Path, sources: list[str], target: str, words: str) -> None:
    problems = check_plan([os.fsencode(source) for source in sources], os.fsencode(target))
    assert len(problems) == 1 and words in problems[0].text, problems


def test_every_missing_source_is_listed(top: Path) -> None:
    problems = check_plan([b"gone", b"file", b"lost"], b"dst")
    assert [problem.path for problem in problems] == [b"gone", b"lost"]
