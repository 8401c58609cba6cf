"""Packed rows: what goes in comes out of SQLite, of every kind, in any combination."""

from __future__ import annotations

from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.persistence.rows import INT_MAX, INT_MIN, Layout, bound

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(["", "\0", "a\0b", "\0\0", "💾", "-", "-1", "1 -"])
BLOBS = st.binary(max_size=30) | st.sampled_from([b"", b"\0", b"-", b"-1", b" " * 20, b"\xff\xfe", b"x" * 70_000])
INTS = st.integers(INT_MIN, INT_MAX) | st.sampled_from([INT_MIN, INT_MAX, 0, -1])
FIXED = st.binary(min_size=4, max_size=4)
OF_KIND: dict[Any, st.SearchStrategy[Any]] = {"int": st.none() | INTS, "text": st.none() | TEXTS, "blob": st.none() | BLOBS, 4: FIXED}
CON = apsw.Connection(":memory:")


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    kinds = tuple(draw(st.lists(st.sampled_from(list(OF_KIND)), min_size=1, max_size=6)))
    rows = draw(st.lists(st.tuples(*(OF_KIND[kind] for kind in kinds)), min_size=1, max_size=5))
    return kinds, rows


def through_sqlite(kinds: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> list[Any]:
    layout = Layout(**{f"column_{index}": kind for index, kind in enumerate(kinds)})
    return CON.execute(f"SELECT {layout.select()} FROM carray(?)", (bound(map(layout.pack, rows)),)).fetchall()


@settings(max_examples=200, deadline=None)
@given(tables())
def test_rows_come_out_as_they_went_in(table: tuple[tuple[Any, ...], list[tuple[Any, ...]]]) -> None:
    kinds, rows = table
    found = through_sqlite(kinds, rows)
    assert found == rows
    assert [[type(value) for value in row] for row in found] == [[type(value) for value in row] for row in rows]


def test_one_column_can_be_cut_out_alone() -> None:
    layout = Layout(id=4, name="text", size="int")
    packed = bound([layout.pack((b"abcd", "é", -5)), layout.pack((b"efgh", None, None))])
    assert CON.execute(f"SELECT {layout.sql('size')}, {layout.sql('id')} FROM carray(?)", (packed,)).fetchall() == [(-5, b"abcd"), (None, b"efgh")]


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int", INT_MAX + 1), ("int", INT_MIN - 1), (4, b"abc"), (4, b"abcde"), (4, None), ("text", "\ud800"), ("text", 5), ("blob", "x")],
    ids=repr,
)
def test_a_value_that_does_not_fit_is_refused_rather_than_written_as_another(kind: Any, value: Any) -> None:
    layout = Layout(first="text", column=kind)
    with pytest.raises((ValueError, TypeError, AttributeError)):
        layout.pack(("x", value))


def test_too_few_and_too_many_values_are_refused() -> None:
    layout = Layout(first="int", second="int")
    for values in ((1,), (1, 2, 3)):
        with pytest.raises(ValueError):
            layout.pack(values)
