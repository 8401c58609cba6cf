"""Packed rows: many rows as one parameter, cut apart inside SQLite.

SQLite's Python binding lets go of the GIL around each step of a statement. A statement a row asks for it back a thousand times, and beside
one busy thread each time costs a switch interval (5 ms): 361,000 rows/s fell to 4,600. One statement over `carray` of packed rows kept
208,000 (20,000 rows; measured on 2 cores). So whatever is written in numbers is written this way.

A packed row is one blob: an ASCII head of fixed width, then the values of variable length. The head has 20 digits for each integer, and
for each variable value its place and length (10 digits each; length -1 for NULL). `Layout` writes the blob and the SQL that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import apsw

Kind = Literal["int", "text", "blob"]


class Layout:
    """The columns of a packed row, in order: name → kind. Each may be NULL."""

    def __init__(self, **columns: Kind) -> None:
        self.columns = columns
        width, expressions = 0, {}
        for name, kind in columns.items():
            if kind == "int":
                expressions[name] = f"CAST(nullif(substr(value, {width + 1}, 20), x'{b'-'.rjust(20).hex()}') AS INTEGER)"
            else:
                cut = f"substr(value, CAST(substr(value, {width + 1}, 10) AS INTEGER), CAST(substr(value, {width + 11}, 10) AS INTEGER))"
                typed = f"CAST({cut} AS TEXT)" if kind == "text" else cut
                expressions[name] = f"CASE WHEN substr(value, {width + 19}, 2) <> x'2d31' THEN {typed} END"
            width += 20
        self._width = width
        self._kinds = tuple(columns.values())
        self._expressions = expressions

    def sql(self, name: str) -> str:
        """The expression that cuts this column out of `value`."""
        return self._expressions[name]

    def select(self) -> str:
        """All columns, named, for `SELECT … FROM carray(?)`."""
        return ", ".join(f"{expression} AS {name}" for name, expression in self._expressions.items())

    def pack(self, values: Sequence[int | str | bytes | None]) -> bytes:
        """One row, its values in the order of the columns."""
        head: list[bytes] = []
        tail: list[bytes] = []
        place = self._width + 1  # SQL counts from 1
        for kind, value in zip(self._kinds, values, strict=True):
            if kind == "int":
                head.append(b"%20d" % value if value is not None else b"                   -")
            elif value is None:
                head.append(b"         1        -1")
            else:
                raw = value.encode() if isinstance(value, str) else value
                assert isinstance(raw, bytes)
                head.append(b"%10d%10d" % (place, len(raw)))
                tail.append(raw)
                place += len(raw)
        return b"".join(head) + b"".join(tail)


def bound(blobs: Iterable[bytes]) -> apsw.carray:
    """Blobs as one parameter for `carray(?)`."""
    return apsw.carray(tuple(blobs))
