"""The catalogue of bad inputs, by number: each is refused, or set aside, with words that name the thing, the value and the way out.

Rows 65 to 96, of copies, are beside the copy: `tests/jobs/files/test_bad_inputs.py`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import ModuleType

import pytest
import rows_calls
import rows_content
import rows_open
from stand import TESTS

Row = Callable[..., None] | str
"""What proves it; or, as text, why nothing can."""


def rows_of(module: ModuleType) -> dict[str, Row]:
    return {name.lower(): value for name, value in vars(module).items() if re.match(r"row_\d\d(_|$)", name, re.IGNORECASE)}


ROWS = {name: row for module in (rows_open, rows_calls, rows_content) for name, row in rows_of(module).items()}


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in sorted(ROWS.items())])
def test_a_bad_input_ends_as_the_catalogue_says(row: Row, request: pytest.FixtureRequest) -> None:
    if isinstance(row, str):
        pytest.skip(row)
    fixtures = {"top": "tmp_path"}
    row(**{name: request.getfixturevalue(fixtures.get(name, name)) for name in inspect.signature(row).parameters})


def test_the_catalogue_is_complete() -> None:
    beside_the_copy = re.findall(r"^    (\d\d): ", (TESTS / "jobs/files/test_bad_inputs.py").read_text(), re.MULTILINE)
    numbers = [int(name[4:6]) for name in ROWS] + list(map(int, beside_the_copy))
    assert sorted(numbers) == list(range(1, 97))
