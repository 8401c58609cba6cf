"""A new job from an ended one: what it inherits, and what it is to skip."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from bench import NOBODY, Bench, parts_of, save

from callboard.jobs.errors import NoSuchJob, NotAccepted, NotAllowed, NotDecodable
from callboard.jobs.ledger import PAGE_BYTES, Bitmap
from callboard.jobs.lifecycle import LIVE, Event, Status
from callboard.jobs.submission import Submitted
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.checksum import checksum
from callboard.persistence.writes import End, Insert, InsertAgain

HEAD = ("head", "", 0, encode_head(None, 0))


def page(*positions: int) -> bytes:
    bitmap = Bitmap()
    bitmap.load(0, bytes(PAGE_BYTES))
    for position in positions:
        bitmap.add(position)
    return bitmap.take_changes()[0][1] if positions else bytes(PAGE_BYTES)


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_the_new_job_is_as_the_old_one_was_submitted(tmp_path: Path, status: Status) -> None:
    with Bench(tmp_path) as bench:
        old = bench.in_status(
            status, name="näme", version=3, data=b"\0data", priority=9, key=b"k", group="g", resumable=False, retry="{}", tags=("a", "b"),
            requested_by="who",
        )  # fmt: skip
        history = bench.row(old.job_id, "job_history")
        bench.now += 100
        answer = bench.do(InsertAgain(old.job_id, "none"))
        assert answer == Submitted(answer.job_id, False, None, "näme")
        new = bench.row(answer.job_id)
        same = ("name", "version", "data", "priority", "key", "grp", "resumable", "retry", "tags", "requested_by", "parent")
        assert {name: new[name] for name in same} == {name: history[name] for name in same}
        assert (new["retry_of"], new["created_at"], new["status"], new["attempt"]) == (old.job_id, bench.now, "queued", 1)
        assert new["checksum"] == checksum("näme", 3, b"\0data") + answer.job_id[8:]
        assert bench.rows("SELECT tag FROM job_tags WHERE job_id = ?", answer.job_id) == [("a",), ("b",)]
        assert bench.row(old.job_id, "job_history") == history
        [claimed] = bench.claim()
        assert (claimed.job_id, claimed.has_checkpoint, claimed.started_before) == (answer.job_id, False, False)


def test_it_says_who_asked_if_that_is_known(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        old = bench.in_status(Status.FAILED, requested_by="first")
        answer = bench.do(InsertAgain(old.job_id, "none", requested_by="second"))
        assert bench.row(answer.job_id)["requested_by"] == "second"


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_live_job_is_not_retried(tmp_path: Path, status: Status) -> None:
    with Bench(tmp_path) as bench:
        with pytest.raises(NotAllowed, match=f"is {status}, it has not ended"):
            bench.do(InsertAgain(bench.in_status(status).job_id, "none"))
        with pytest.raises(NoSuchJob):
            bench.do(InsertAgain(NOBODY, "none"))


def test_a_key_that_another_has_taken_answers_with_that_one(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        old = bench.in_status(Status.FAILED, key=b"k")
        live = bench.add(key=b"k")
        assert bench.do(InsertAgain(old.job_id, "rest")) == Submitted(live, True, None, "work")


def test_a_retry_meets_the_end_and_a_submission_in_its_own_group(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start(key=b"k")
        again, new, ended = bench.commit(
            InsertAgain(claimed.job_id, "none"), Insert("work", 1, b"", key=b"k"), End(claimed.job_id, claimed.claim, Event.FAIL)
        )
        assert ended is Status.FAILED
        assert again == Submitted(new.job_id, True, None, "work")


def test_a_retried_job_is_claimed_though_its_kind_was_not_among_those_that_wait(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        old = bench.in_status(Status.FAILED)
        bench.reopen()
        bench.claim()
        again = bench.do(InsertAgain(old.job_id, "none"))
        assert [one.job_id for one in bench.claim()] == [again.job_id]


# --- the ledger -------------------------------------------------------------------------------------------------------


def ended_with_ledger(bench: Bench, *more: tuple[str, str, int, bytes]) -> bytes:
    """Map `m`: 0–9 done, 3 and 5000 failed. Map `whole`: all well. Map `begun`: recorded, nothing done."""
    claimed = bench.start()
    second = page(5000 % 4096)
    parts = (
        HEAD, ("field", "count", 0, b"\x05"), ("done", "m", 0, page(*range(10))), ("done", "m", 1, second), ("failed", "m", 0, page(3)),
        ("failed", "m", 1, second), ("note", "m", 11, b"half"), ("done", "whole", 0, page(0, 1)), ("items", "begun", 0, b"items"),
        ("source", "begun", 0, b"source"), *more,
    )  # fmt: skip
    bench.do(save(claimed, 5, *parts))
    bench.do(End(claimed.job_id, claimed.claim, Event.RETURN_WITH_ERRORS))
    return claimed.job_id


def test_without_the_ledger_it_starts_from_nothing(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        answer = bench.do(InsertAgain(ended_with_ledger(bench), "none"))
        assert parts_of(bench, answer.job_id) == {}


def test_the_rest_is_all_that_is_not_well_done(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        old = ended_with_ledger(bench, ("only", "limited", 0, page(7)))
        before = parts_of(bench, old)
        answer = bench.do(InsertAgain(old, "rest"))
        assert parts_of(bench, answer.job_id) == {
            ("done", "m", 0): page(0, 1, 2, 4, 5, 6, 7, 8, 9), ("done", "m", 1): page(), ("done", "whole", 0): page(0, 1),
            ("items", "begun", 0): b"items", ("source", "begun", 0): b"source", ("only", "limited", 0): page(7),
        }  # fmt: skip
        assert parts_of(bench, old) == before
        assert bench.reader().checkpoint(answer.job_id).sequence == 0


def test_failed_only_is_just_these(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        answer = bench.do(InsertAgain(ended_with_ledger(bench), "failed"))
        assert parts_of(bench, answer.job_id) == {
            ("only", "m", 0): page(3), ("only", "m", 1): page(5000 % 4096), ("only", "whole", 0): page(), ("only", "begun", 0): page(),
            ("items", "begun", 0): b"items", ("source", "begun", 0): b"source",
        }  # fmt: skip


def test_the_first_checkpoint_of_the_new_job_is_newer_than_what_it_inherited(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.do(InsertAgain(ended_with_ledger(bench), "rest"))
        [claimed] = bench.claim()
        bench.do(save(claimed, 1, HEAD, ("done", "m", 0, page(*range(12)))))
        assert parts_of(bench, claimed.job_id)["done", "m", 0] == page(*range(12))


def test_a_completed_job_has_nothing_left_to_do(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        old = bench.in_status(Status.COMPLETED).job_id
        ledger: Literal["rest", "failed"]
        for ledger in ("rest", "failed"):
            with pytest.raises(NotAllowed, match="all of it is done|no item of it has failed"):
                bench.do(InsertAgain(old, ledger))
        bench.do(InsertAgain(old, "none"))


def test_a_job_that_failed_before_its_first_checkpoint_starts_from_nothing(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        answer = bench.do(InsertAgain(bench.in_status(Status.FAILED).job_id, "rest"))
        assert parts_of(bench, answer.job_id) == {}


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_ledger_is_not_handed_down_under_a_new_checksum(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        old = ended_with_ledger(bench)
        bench.con.execute("UPDATE job_checkpoints SET value = x'ff' WHERE kind = 'failed'")
        ledger: Literal["rest", "failed"]
        for ledger in ("rest", "failed"):
            with pytest.raises(NotDecodable, match="part failed:m:0"):
                bench.do(InsertAgain(old, ledger))
        assert bench.rows("SELECT * FROM jobs") == []
        bench.do(InsertAgain(old, "none"))


@pytest.mark.parametrize(("column", "value"), [("data", "x'00'"), ("name", "'other'"), ("version", "9"), ("name", "CAST(x'ff' AS TEXT)")])
def test_damaged_data_is_not_run_again_under_a_new_checksum(tmp_path: Path, column: str, value: str) -> None:
    with Bench(tmp_path) as bench:
        old = bench.in_status(Status.FAILED).job_id
        bench.con.execute(f"UPDATE job_history SET {column} = {value} WHERE id = ?", (old,))
        with pytest.raises(NotAllowed, match="damaged"):
            bench.do(InsertAgain(old, "none"))


def test_damaged_labels_are_not_worth_an_error(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        for damaged in ("'[\"a\"'", "'5'", "'[5]'", "CAST(x'ff' AS TEXT)"):
            old = bench.in_status(Status.FAILED).job_id
            bench.con.execute(f"UPDATE job_history SET tags = {damaged} WHERE id = ?", (old,))
            answer, other = bench.commit(InsertAgain(old, "none"), Insert("other", 1, b""))
            assert not isinstance(answer, NotAccepted) and isinstance(other, Submitted)
            assert bench.rows("SELECT * FROM job_tags") == []
