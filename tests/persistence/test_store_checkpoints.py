"""Checkpoints: only what changed, all at once, never an older one, and never another job's."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import Bench, parts_of, save

from callboard.jobs.errors import NotAccepted, NotDecodable
from callboard.jobs.lifecycle import Event, Status
from callboard.persistence.checkpoints import NO_HEAD, WARNINGS_KEPT, StoredCheckpoint, encode_head
from callboard.persistence.writes import End, Leave, SaveCheckpoint

HEAD = ("head", "", 0, encode_head(None, 0))
PARTS = "SELECT kind, name, page, sequence, value FROM job_checkpoints ORDER BY 1, 2, 3"


def test_only_the_parts_that_changed_are_written(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.do(save(claimed, 1, HEAD, ("field", "a", 0, b"1"), ("field", "b\0💾", 0, b""), ("done", "map", 2**40, b"\0\xff")))
        head = encode_head(b"reading", 3)
        bench.do(save(claimed, 2, ("field", "a", 0, b"2"), ("head", "", 0, head)))
        assert bench.rows(PARTS) == [
            ("done", "map", 2**40, 1, b"\0\xff"), ("field", "a", 0, 2, b"2"), ("field", "b\0💾", 0, 1, b""), ("head", "", 0, 2, head),
        ]  # fmt: skip
        stored = bench.reader().checkpoint(claimed.job_id)
        assert (stored.sequence, stored.head(), stored.fields()) == (2, (b"reading", 3), {"a": b"2", "b\0💾": b""})
        bench.do(save(claimed, 3, HEAD, ("field", "a", 0, None), ("note", "never", 1, None)))
        assert ("field", "a", 0) not in parts_of(bench, claimed.job_id)


def test_a_job_without_a_checkpoint_has_an_empty_one(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        stored = bench.reader().checkpoint(bench.add())
        assert (stored.sequence, stored.parts, stored.head(), stored.fields()) == (0, [], (None, 0), {})


def test_a_checkpoint_that_has_no_head_gets_one_that_can_be_read(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.do(save(claimed, 1))
        assert bench.rows(PARTS) == [("head", "", 0, 1, NO_HEAD)]
        assert bench.reader().checkpoint(claimed.job_id).head() == (None, 0)


def test_a_head_may_hold_a_reading_as_large_as_readings_may_be(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed, reading = bench.start(), bytes(1_048_576)
        bench.do(save(claimed, 1, ("head", "", 0, encode_head(reading, 1))))
        assert bench.reader().checkpoint(claimed.job_id).head() == (reading, 1)


@pytest.mark.parametrize("older", [1, 2])
def test_a_checkpoint_that_is_not_newer_is_refused_and_leaves_the_newer_whole(tmp_path: Path, older: int) -> None:
    with Bench(tmp_path) as bench:
        claimed, other = bench.start(), bench.start()
        bench.do(save(claimed, 2, HEAD, ("field", "a", 0, b"new")))
        before = bench.contents()["job_checkpoints"]
        refused, stored = bench.commit(save(claimed, older, HEAD, ("field", "a", 0, b"old"), ("field", "b", 0, b"old")), save(other, 1, HEAD))
        assert isinstance(refused, NotAccepted) and "not newer" in str(refused)
        assert stored is None
        assert [row for row in bench.contents()["job_checkpoints"] if row[0] == claimed.job_id] == before


def test_several_checkpoints_of_a_job_in_a_group_end_as_the_last_one(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed, other = bench.start(), bench.start()
        bench.do(save(claimed, 1, HEAD, ("field", "gone", 0, b"1")))
        answers = bench.commit(
            save(claimed, 2, HEAD, ("field", "a", 0, b"2"), ("field", "gone", 0, b"2"), ("field", "back", 0, None)),
            save(other, 1, HEAD, ("field", "a", 0, b"other")),
            save(claimed, 3, HEAD, ("field", "a", 0, b"3"), ("field", "gone", 0, None), ("field", "back", 0, b"3")),
        )
        assert answers == [None] * 3
        assert bench.reader().checkpoint(claimed.job_id).fields() == {"a": b"3", "back": b"3"}
        assert bench.reader().checkpoint(other.job_id).fields() == {"a": b"other"}
        refused = bench.commit(save(claimed, 5, HEAD), save(claimed, 4, HEAD, ("field", "a", 0, b"4")))
        assert refused[0] is None and isinstance(refused[1], NotAccepted)


def test_a_group_of_checkpoints_is_a_few_statements(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = [bench.start() for _ in range(40)]
        for one in claimed:
            bench.change(one.job_id, crashes=1)
        with bench.traced() as statements:
            bench.commit(*(save(one, 1, HEAD, *(("field", f"f{index}", 0, b"x") for index in range(5))) for one in claimed))
        assert len(statements) == 3  # BEGIN, parts, COMMIT
        with bench.traced() as statements:
            parts = ("field", "f1", 0, b"y"), ("field", "f2", 0, None)
            bench.commit(*(save(one, 2, HEAD, *parts, warnings=((1, None, "w"), (2, None, "w")), charged=True) for one in claimed))
        assert len(statements) == 6  # and those deleted, warnings, crashes
        assert {bench.row(one.job_id)["crashes"] for one in claimed} == {0}


def test_stale_and_good_checkpoints_of_one_job_in_a_group_are_told_apart(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        stale = bench.start()
        bench.do(Leave(stale.job_id, stale.claim, Event.RELEASE))
        [good] = bench.claim()
        answers = bench.commit(
            save(stale, 9, HEAD, ("field", "a", 0, b"stale"), ("field", "b", 0, None), warnings=((1, None, "stale"),)),
            save(good, 1, HEAD, ("field", "a", 0, b"good"), ("field", "b", 0, b"good"), warnings=((2, None, "good"),)),
        )
        assert (type(answers[0]).__name__, answers[1]) == ("Fenced", None)
        assert bench.reader().checkpoint(good.job_id).fields() == {"a": b"good", "b": b"good"}
        assert bench.rows("SELECT n FROM job_warnings") == [(2,)]


def test_a_checkpoint_and_the_end_in_one_group_leave_what_the_end_says(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        answers = bench.commit(End(claimed.job_id, claimed.claim, Event.RETURN, drop_checkpoint=True), save(claimed, 1, HEAD))
        assert answers == [Status.COMPLETED, None]
        assert bench.rows(PARTS) == []


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [("value", "x'00'"), ("sequence", "9"), ("checksum", "x'0011223344556677'"), ("page", "7"), ("kind", "'done'"), ("name", "CAST(x'ff' AS TEXT)")],
)
def test_a_damaged_part_is_refused_by_name(tmp_path: Path, column: str, value: str) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.do(save(claimed, 1, HEAD, ("field", "photo", 0, b"x"), ("field", "other", 0, b"y")))
        bench.con.execute(f"UPDATE job_checkpoints SET {column} = {value} WHERE name = 'photo'")
        with pytest.raises(NotDecodable, match=r"part (field|done):(photo|\\xff):[07] is damaged"):
            bench.reader().checkpoint(claimed.job_id)


def test_a_part_of_another_job_or_of_another_place_is_refused(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        one, other = bench.start(), bench.start()
        for claimed in (one, other):
            bench.do(save(claimed, 1, HEAD, ("field", "a", 0, b"%d" % claimed.claim), ("done", "a", 0, b"x")))
        bench.con.execute("UPDATE job_checkpoints SET checksum = (SELECT checksum FROM job_checkpoints AS o WHERE o.job_id = ? AND o.kind = 'field')"
                          " WHERE job_id = ? AND kind = 'field'", (other.job_id, one.job_id))  # fmt: skip
        with pytest.raises(NotDecodable, match="part field:a:0"):
            bench.reader().checkpoint(one.job_id)
        bench.reader().checkpoint(other.job_id)


def test_a_part_whose_columns_are_of_no_type_at_all_is_refused() -> None:
    with pytest.raises(NotDecodable, match="part field:a:None"):
        StoredCheckpoint(b"x" * 16, [(b"field", b"a", None, None, None, None)])  # type: ignore[list-item]


# --- warnings ---------------------------------------------------------------------------------------------------------


def test_warnings_are_kept_in_order_up_to_a_bound_and_all_are_counted(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        for sequence, start in enumerate(range(1, 12_001, 4_000), 1):
            warnings = tuple((n, f"item {n}" if n % 2 else None, "bad\0") for n in range(start, start + 4_000))
            bench.do(save(claimed, sequence, HEAD, warnings=warnings))
        bench.do(Leave(claimed.job_id, claimed.claim, Event.STOP, warned=12_000))
        assert bench.rows("SELECT count(*), min(n), max(n) FROM job_warnings") == [(WARNINGS_KEPT, 1, WARNINGS_KEPT)]
        assert bench.row(claimed.job_id)["warnings"] == 12_000
        reader = bench.reader()
        assert [(one.n, one.item, one.message) for one in reader.warnings(claimed.job_id, 4_997, 2)] == [
            (4_998, None, "bad\0"), (4_999, "item 4999", "bad\0"),
        ]  # fmt: skip
        assert len(reader.warnings(claimed.job_id)) == 1_000


def test_a_warning_that_is_there_already_is_not_an_error(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        for sequence in (1, 2):
            bench.do(SaveCheckpoint(claimed.job_id, claimed.claim, sequence, (HEAD,), ((1, None, f"from {sequence}"),)))
        assert bench.rows("SELECT message FROM job_warnings") == [("from 1",)]
