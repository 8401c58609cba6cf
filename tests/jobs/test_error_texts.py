"""Errors say whose turn it is, survive a process boundary, and their texts fit a row whatever an author does."""

from __future__ import annotations

import ast
import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs import errors
from callboard.jobs.errors import TEXT_LIMIT, error_text, plain_text, shown, traceback_text

ROOT = Path(__file__).resolve().parents[2]
ALL = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, BaseException)]
GROUPS = [errors.UsageError, errors.Refused, errors.StoreError, errors.DataError, errors.JobError]
CONTROL = [errors.Interrupted, errors.Unwound, errors.CriticalError, errors.RetryLater]
TASKS = [errors.TaskFailed, errors.TaskCancelled]
quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)


class Rude:
    def __repr__(self) -> str:
        raise KeyboardInterrupt

    __str__ = __repr__


class RudeError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


def test_every_error_belongs_to_one_group_so_that_it_says_who_must_act() -> None:
    for each in ALL:
        if each not in (errors.CallboardError, *CONTROL, *TASKS):
            assert sum(issubclass(each, group) for group in GROUPS) == 1, each.__name__


def test_every_error_but_control_flow_is_caught_as_a_callboard_error() -> None:
    assert [each for each in ALL if not issubclass(each, errors.CallboardError)] == CONTROL


def test_an_authors_except_exception_does_not_swallow_interrupted() -> None:
    assert not issubclass(errors.Interrupted, Exception)


def test_the_group_classes_are_not_raised_themselves() -> None:
    names = {group.__name__ for group in GROUPS} | {"CallboardError"}
    found = [
        f"{path.name}:{node.lineno}"
        for room in ("jobs", "persistence", "actors")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name) and node.exc.func.id in names
    ]
    assert found == []


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_can_be_sent_to_another_process(kind: type[BaseException]) -> None:
    error = kind("the text")
    for name in ("pid", "token", "job_id", "traceback_text", "after", "by"):
        if hasattr(error, name):
            setattr(error, name, 7)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), str(again), vars(again)) == (kind, "the text", vars(error))


# --- texts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no room"), "ValueError: no room"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "KeyError: 'name'"),
        (RudeError(), "RudeError: (its str() raised SystemExit)"),
        (OSError(2, "No such file", "a\udcff"), r"FileNotFoundError: [Errno 2] No such file: 'a\udcff'"),
        (ValueError("a\udcff"), r"ValueError: a\udcff"),
    ],
)
def test_an_error_is_shown_by_type_and_message(error: BaseException, text: str) -> None:
    assert error_text(error) == text


@given(st.text(st.characters(exclude_categories=())), st.integers(2, 40))
@quick
def test_texts_are_storable_and_no_longer_than_the_limit(text: str, limit: int) -> None:
    for shortened in (error_text(ValueError(text), limit), plain_text(text, limit), shown(text, limit)):
        assert len(shortened) <= limit
        shortened.encode()


def test_a_text_that_was_cut_ends_with_an_ellipsis_and_one_that_fits_does_not() -> None:
    assert plain_text("abcd", 4) == "abcd"
    assert plain_text("abcde", 4) == "abc…"
    assert len(error_text(ValueError("x" * 100_000))) == TEXT_LIMIT


def test_a_value_is_shown_even_if_it_will_not_be() -> None:
    assert shown(Rude()) == "<Rude whose repr() raised KeyboardInterrupt>"
    assert plain_text(Rude()) == "(its str() raised KeyboardInterrupt)"
    assert shown(10**5000) == "<int whose repr() raised ValueError>"
    assert shown("a\udcff") == r"'a\udcff'"


def inner() -> None:
    secret = "local value"
    raise ValueError(len(secret))


def deep(levels: int) -> None:
    if levels:
        deep(levels - 1)
    inner()


def traceback_of(levels: int, limit: int = TEXT_LIMIT) -> str:
    try:
        deep(levels)
    except ValueError as error:
        return traceback_text(error, limit)
    raise AssertionError


def test_a_traceback_ends_with_where_it_was_raised_and_has_no_local_values() -> None:
    text = traceback_of(0)
    assert text.splitlines()[-2].endswith(", in inner")
    assert "local value" not in text


@pytest.mark.parametrize("limit", [40, 400, TEXT_LIMIT])
def test_of_a_deep_traceback_the_innermost_part_is_kept(limit: int) -> None:
    text = traceback_of(300, limit)
    assert len(text) <= limit
    assert text.endswith("raise ValueError(len(secret))\n")


def test_an_error_that_was_never_raised_has_no_traceback() -> None:
    assert traceback_text(ValueError()) == ""
