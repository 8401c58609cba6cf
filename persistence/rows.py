"""Packed rows: many rows as one parameter, cut apart inside SQLite.

SQLite's Python binding lets go of the GIL around each step of a statement. A statement a row asks for it back a thousand times, and beside
one busy thread each time costs a switch interval (5 ms): 361,000 rows/s fell to 4,600. One statement over `carray` of packed rows kept
208,000 (20,000 rows; measured on 2 cores). So whatever is written in numbers is written this way.

A packed row is one blob: a head of fixed width, then the values of variable length. The head has, for each column in order, either the
value itself (a blob of fixed size), or 20 digits: of an integer, or of a variable value's place and length (10 each). "-" stands for NULL.
`Layout` writes the blob and the SQL that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import apsw

Kind = Literal["int", "text", "blob"] | int
"""An integer: a blob of exactly that many bytes, never NULL."""

CELL = 20
NULL = b"-"
_FIXED, _INT, _TEXT, _BLOB = range(4)
_CODES = {"int": _INT, "text": _TEXT, "blob": _BLOB}
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


class Layout:
    """The columns of a packed row, in order: name → kind."""

    def __init__(self, **columns: Kind) -> None:
        self.columns = tuple(columns)
        self._kinds = tuple(columns.values())
        self._codes = tuple(_FIXED if isinstance(kind, int) else _CODES[kind] for kind in self._kinds)
        self._expressions: dict[str, str] = {}
        self._width = 0
        for name, kind in columns.items():
            self._expressions[name] = _expression(kind, self._width + 1)
            self._width += kind if isinstance(kind, int) else CELL
        self._head = b"".join(b"%b" if isinstance(kind, int) else b"%%%db" % CELL for kind in self._kinds)

    def sql(self, name: str) -> str:
        """The expression that cuts this column out of `value`."""
        return self._expressions[name]

    def select(self) -> str:
        """All columns, named, for `SELECT … FROM carray(?)`."""
        return ", ".join(f"{expression} AS {name}" for name, expression in self._expressions.items())

    def pack(self, values: Sequence[Any]) -> bytes:
        """One row: int, str, bytes or None, in the order of the columns. Raises ValueError, TypeError, AttributeError for a misfit."""
        cells: list[object] = []
        tail: list[bytes] = []
        place = self._width + 1  # SQL counts from 1
        for code, value in zip(self._codes, values, strict=True):
            if code == _FIXED:
                cells.append(value)
            elif value is None:
                cells.append(NULL)
            elif code == _INT:
                if not INT_MIN <= value <= INT_MAX:
                    raise ValueError(f"{value!r:.60} does not fit in 64 bits")
                cells.append(b"%d" % value)
            else:
                raw: bytes = value.encode() if code == _TEXT else value
                size = len(raw)
                cells.append(b"%d %9d" % (place, size))
                tail.append(raw)
                place += size
        head = self._head % tuple(cells)
        if len(head) != self._width:
            raise ValueError(f"a value of fixed size has another one, or the row is too long: {self._kinds}")
        return head + b"".join(tail)


class Grouped:
    """A statement over rows that have most of their columns in common. These stand once: as parameters if they are the same for all rows,
    else in a table of the connection's own, where each row finds them by the number in its first six digits."""

    def __init__(self, table: str, columns: dict[str, Kind], sql: str, parameters: int) -> None:
        """`sql`: has `{shape}` behind `FROM carray(?1) AS e`; the common columns are those of `s`. `parameters`: how many it has besides."""
        self._layout = Layout(**columns)
        self._create = f"CREATE TEMP TABLE IF NOT EXISTS {table} (n INTEGER PRIMARY KEY, {', '.join(columns)})"
        self._fill = f"DELETE FROM temp.{table}; INSERT INTO temp.{table} SELECT rowid - 1, {self._layout.select()} FROM carray(?)"
        given = ", ".join(f"?{number} AS {name}" for number, name in enumerate(columns, parameters + 1))
        self.sql_one = sql.format(shape=f"CROSS JOIN (SELECT {given}) AS s")
        self.sql_many = sql.format(shape=f"CROSS JOIN temp.{table} AS s ON s.n = CAST(substr(e.value, 1, 6) AS INTEGER)")

    def prepare(self, con: apsw.Connection) -> None:
        """Once a connection, outside any transaction."""
        con.execute(self._create)

    def execute(
        self, con: apsw.Connection, parameters: Sequence[Any], shapes: Sequence[Sequence[Any]], *, filled: bool = False
    ) -> apsw.Cursor:
        """`shapes`: the common columns, by number. `filled`: the last statement over the same table had the same. Raises as `Layout.pack`."""
        if len(shapes) == 1:
            return con.execute(self.sql_one, (*parameters, *shapes[0]))
        if not filled:
            con.execute(self._fill, (bound(map(self._layout.pack, shapes)),))
        return con.execute(self.sql_many, tuple(parameters))


class ByIds:
    """A statement about jobs by their ids: about an array of them, and, at half the cost, about a single one."""

    def __init__(self, sql: str) -> None:
        """`sql`: has `{these}` behind the column of the id; what else it is given begins with ?2."""
        self.sql_one = sql.format(these="= ?1")
        self.sql_many = sql.format(these="IN (SELECT value FROM carray(?1))")

    def execute(self, con: apsw.Connection, ids: Sequence[bytes], *given: Any) -> None:
        """`ids`: one at least."""
        if len(ids) == 1:
            con.execute(self.sql_one, (ids[0], *given))
        else:
            con.execute(self.sql_many, (bound(ids), *given))


def of_one_row(sql: str, columns: Iterable[str], parameters: int, rows: str = "s") -> str:
    """The statement in which each column of `rows`, such as `s.name`, is a parameter, behind so many others: for a single row, which need not be
    cut apart."""
    numbers = {name: number for number, name in enumerate(columns, parameters + 1)}
    return re.sub(rf"\b{rows}\.(\w+)", lambda found: f"?{numbers[found[1]]}", sql)


def _expression(kind: Kind, at: int) -> str:
    if isinstance(kind, int):
        return f"substr(value, {at}, {kind})"
    null = NULL.rjust(CELL).hex()
    if kind == "int":
        return f"CAST(nullif(substr(value, {at}, {CELL}), x'{null}') AS INTEGER)"
    half = CELL // 2
    cut = f"substr(value, CAST(substr(value, {at}, {half}) AS INTEGER), CAST(substr(value, {at + half}, {half}) AS INTEGER))"
    typed = f"CAST({cut} AS TEXT)" if kind == "text" else cut
    return f"CASE WHEN substr(value, {at + half}, {half}) <> x'{NULL.rjust(half).hex()}' THEN {typed} END"


def bound(blobs: Iterable[bytes]) -> Any:
    """Blobs as one parameter for `carray(?)`. Raises ValueError if there are none: SQLite takes no array of nothing."""
    return apsw.carray(tuple(blobs))
