"""What no commit may leave behind is seen in one look: each contradiction, put into rows that are otherwise as they should be."""

from __future__ import annotations

from typing import Any

import pytest
from commits import contradictions
from disk import BatchRow, Look, Row, Stored

from callboard.jobs.lifecycle import Status


def job(number: int, **what: Any) -> Row:
    fields: dict[str, Any] = dict.fromkeys(Row._fields) | {"id": bytes([number]), "name": "n", "status": Status.QUEUED} | what
    return Row(**fields)


def batch(**what: Any) -> BatchRow:
    """Of jobs 1 and 2, in two chunks."""
    chunks = (0, 2, b"\1", b"\1"), (2, 1, b"\2", b"\2")
    fields = {"id": b"b", "sealed": True, "items": 3, "members": 2, "open": 1, "has_last": False, "completed_at": None, "completed_by": None}
    return BatchRow(**({**fields, "chunks": chunks} | what))


ENDED = job(1, status=Status.FAILED, ended_at=5)
OVER = {"open": 0, "completed_at": 7}


class NoSets:
    def execute(self, sql: str) -> Any:
        return self

    def fetchall(self) -> list[Any]:
        return []


def found(rows: list[Row], batches: list[BatchRow], made: int = 1) -> list[str]:
    stored = Stored({row.id: row for row in rows}, {each.id: each for each in batches})
    return contradictions(NoSets(), Look(stored, [], [(each.id, start, made) for each in batches for start, *_ in each.chunks], {}))


@pytest.mark.parametrize(
    ("rows", "batches"),
    [
        ([job(1, key=b"k"), job(2, key=b"k", status=Status.WAITING, after_id=b"\1"), job(3, key=b"l")], []),
        ([job(1, key=b"k", status=Status.FAILED, ended_at=5), job(2, key=b"k"), job(3, parent=b"\2")], []),
        ([ENDED, job(2)], [batch()]),
        ([ENDED, ENDED._replace(id=b"\2"), job(3)], [batch(**OVER), batch(id=b"c", **OVER, has_last=True, completed_by=b"\3")]),
    ],
)
def test_what_does_not_contradict_itself_is_none(rows: list[Row], batches: list[BatchRow]) -> None:
    assert found(rows, batches) == []


@pytest.mark.parametrize(
    ("rows", "batches", "text"),
    [
        ([job(1, key=b"k"), job(2, key=b"k")], [], "two jobs of one key"),
        ([job(1, key=b"k"), *(job(n, key=b"k", status=Status.WAITING, after_id=b"\1") for n in (2, 3))], [], "two successors"),
        ([job(1, status=Status.FAILED, ended_at=5, key=b"k"), job(2, key=b"k", status=Status.WAITING, after_id=b"\1")], [], "waits for nobody"),
        ([job(1, key=b"l"), job(2, key=b"k", status=Status.WAITING, after_id=b"\1")], [], "waits for nobody"),
        ([ENDED, job(2, parent=b"\1")], [], "its parent does not"),
        ([job(2, parent=b"\1")], [], "its parent does not"),
        ([ENDED], [batch()], "a chunk of 1 jobs has 0"),
        ([ENDED, job(2)], [batch(open=2)], "does not add up"),
        ([ENDED, job(2)], [batch(items=4)], "does not add up"),
        ([ENDED, job(2)], [batch(members=3)], "does not add up"),
        ([ENDED, job(2)], [batch(completed_at=7)], "does not add up"),
        ([ENDED, ENDED._replace(id=b"\2")], [batch(open=0)], "does not add up"),
        ([ENDED, ENDED._replace(id=b"\2")], [batch(**OVER, has_last=True)], "does not add up"),
        ([ENDED, ENDED._replace(id=b"\2")], [batch(**OVER, has_last=True, completed_by=b"\3")], "is not there"),
    ],
)
def test_each_contradiction_is_found(rows: list[Row], batches: list[BatchRow], text: str) -> None:
    assert any(text in each for each in found(rows, batches))


def test_a_chunk_of_another_number_of_jobs_and_one_that_is_live_and_ended_are_found() -> None:
    assert any("a chunk of 2 jobs has 1" in each for each in found([ENDED, job(2)], [batch()], made=2))
    assert contradictions(NoSets(), Look(Stored({}, {}), [b"\1"], [], {})) == ["a job is live and ended: 01"]
