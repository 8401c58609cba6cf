"""Each command that a page gives to try a promise selects tests: a test that is renamed does not leave the promise without one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("GUARANTEES.md", "SECURITY.md")


def selections(text: str) -> list[str]:
    """The words of each `-k`, without the pages' own example."""
    return [word for words in re.findall(r'`-k "?([^"`]+)"?`', text) for word in re.split(r" or ", words)]


def names() -> str:
    found: list[str] = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        found += [path.stem, *re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)]
    for path in (ROOT / "tests").rglob("rows_*.py"):
        found += re.findall(r"^(?:def )?(row_\d\d\w*)", path.read_text(), re.MULTILINE | re.IGNORECASE)
    return " ".join(found).lower()


@pytest.mark.parametrize("page", PAGES)
def test_each_selection_of_a_page_selects_tests(page: str) -> None:
    words = selections((ROOT / page).read_text())
    assert len(words) > 10
    known = names()
    assert [word for word in words if word.lower() not in known] == []


def test_a_selection_that_selects_nothing_is_found() -> None:
    assert selections('| x | `-k "hostile or no_such_test"` | `-k histories` |') == ["hostile", "no_such_test", "histories"]
    assert "hostile" in names() and "no_such_test_" + "at_all" not in names()
