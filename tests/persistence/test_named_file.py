"""A file that is asked at every commit whether it still has its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from callboard.persistence.named_file import NamedFile


@pytest.fixture(params=["by /proc", "without /proc"])
def named(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NamedFile]:
    if request.param == "without /proc":

        def missing(_: str) -> str:
            raise FileNotFoundError

        monkeypatch.setattr(os, "readlink", missing)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"first")
    with closing(NamedFile(str(tmp_path / "folder" / "file"))) as named:
        yield named


def replaced(path: Path) -> None:
    (path.parent / "other").write_bytes(b"second")
    (path.parent / "other").rename(path)


def folder_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def test_a_file_that_is_written_to_is_in_place(named: NamedFile, tmp_path: Path) -> None:
    (tmp_path / "folder" / "file").write_bytes(b"more")
    assert named.in_place()


@pytest.mark.parametrize("what", [Path.unlink, lambda path: path.rename(path.with_name("new")), replaced, folder_moved])
def test_one_that_has_lost_its_name_is_not(named: NamedFile, tmp_path: Path, what: Callable[[Path], object]) -> None:
    what(tmp_path / "folder" / "file")
    assert not named.in_place()


def test_a_closed_one_answers_all_the_same_and_is_closed_once(named: NamedFile, tmp_path: Path) -> None:
    named.close()
    named.close()
    assert named.in_place()
    (tmp_path / "folder" / "file").unlink()
    assert not named.in_place()
