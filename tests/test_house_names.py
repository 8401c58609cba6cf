"""The public names are the documented ones, and the packages that are built are the ones that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import callboard

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("jobs", "persistence", "actors", "benchmarks")
BEGIN, END = "<!-- public names -->", "<!-- end of public names -->"


def documented_names(page: str) -> set[str]:
    """What is in backticks in the first cell of each table row between the two markers."""
    table = page.split(BEGIN)[1].split(END)[0]
    first_cells = (line.split("|")[1] for line in table.splitlines() if line.lstrip().startswith("|"))
    return {name for cell in first_cells for name in re.findall(r"`(\w+)", cell)}


def test_the_documented_names_are_the_public_ones() -> None:
    readme = ROOT / "README.md"
    if not readme.is_file() or BEGIN not in readme.read_text():
        pytest.skip(f"README.md has no table between {BEGIN} and {END} yet")
    assert documented_names(readme.read_text()) == set(callboard.__all__)


def test_the_public_names_are_there_once_and_in_order() -> None:
    assert list(callboard.__all__) == sorted(set(callboard.__all__))
    assert not [name for name in callboard.__all__ if not hasattr(callboard, name)]


def test_names_are_read_from_the_first_cell_only() -> None:
    page = f"`Before`\n{BEGIN}\n| name | for |\n|---|---|\n| `Job`, `Task(…)` | as `Other` |\n{END}\n| `After` |"
    assert documented_names(page) == {"Job", "Task"}


def test_the_packages_of_the_build_are_the_folders_of_the_rooms() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    with_code = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    there = {"callboard", *("callboard." + folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in with_code)}
    assert there <= set(listed), f"add to packages in pyproject.toml: {sorted(there - set(listed))}"
    assert not [folder for folder in with_code if not (folder / "__init__.py").is_file()], "a package without __init__.py"


def test_no_two_files_of_tests_have_one_name() -> None:
    """They are imported side by side, without packages, and a report names them by it."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if "typing_root" not in path.parts and path.name != "conftest.py"]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
