"""New jobs: what is written of them, which id they get, and whose key it is."""

from __future__ import annotations

import os
from pathlib import Path

from bench import NOBODY, START_MS, Bench

from callboard.jobs.identity import ID_BYTES
from callboard.jobs.lifecycle import Event
from callboard.jobs.submission import Submitted
from callboard.persistence.checksum import checksum
from callboard.persistence.store import Store
from callboard.persistence.writes import Claim, End, Insert

WEIRD = "a\0b\n'\"💾"


def test_a_new_job_has_all_that_was_said_of_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        said = Insert(
            "name " + WEIRD, 7, b"\0\xff data", priority=3, key=b"\0key\xff", group=WEIRD, run_at_ms=START_MS + 5, resumable=False, retry="{}",
            tags=("one", WEIRD), requested_by=WEIRD, parent=NOBODY,
        )  # fmt: skip
        answer = bench.do(said)
        assert answer == Submitted(answer.job_id, False, START_MS + 5, said.name)
        row = bench.row(answer.job_id)
        assert row.pop("tags") == '["one", "a\\u0000b\\n\'\\"\\ud83d\\udcbe"]'
        assert row.pop("checksum") == checksum(said.name, 7, said.data) + answer.job_id[8:]
        assert row == {
            "id": answer.job_id, "name": said.name, "version": 7, "status": "queued", "intent": "run", "pausers": 0, "priority": 3,
            "key": said.key, "grp": WEIRD, "parent": NOBODY, "retry_of": None, "run_at": START_MS + 5, "resumable": 0, "retry": "{}",
            "requested_by": WEIRD, "created_at": START_MS, "queued_at": START_MS, "started_at": None, "claim": 0, "attempt": 1, "crashes": 0,
            "alone": 0, "excused": 0, "running_ms": 0, "waiting_ms": 0, "warnings": 0, "unresponsive": None, "error": None, "progress": None,
            "after_id": None, "after_batch": None, "superseded_by": None, "limited": None,
            "kept_back": 0, "data": said.data,
        }  # fmt: skip


def test_a_plain_job_is_null_where_nothing_was_said(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        row = bench.row(bench.do(Insert("", 1, b"")).job_id)
        empty = [name for name, value in row.items() if value is None]
        assert empty == [
            "key", "grp", "parent", "retry_of", "run_at", "retry", "tags", "requested_by", "started_at", "unresponsive",
            "after_id", "after_batch", "superseded_by", "limited", "error", "progress",
        ]  # fmt: skip
        assert (row["name"], row["data"], row["priority"], row["resumable"]) == ("", b"", 128, 1)


def test_a_group_of_any_size_takes_the_same_few_statements(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.add()  # the first group of a WAL writes one more
        counts = []
        for size in (1, 500):
            with bench.traced() as statements:
                bench.commit(*(Insert("work", 1, b"", key=os.urandom(8), tags=("a", "b")) for _ in range(size)))
            counts.append(len(statements))
        assert counts == [4, 4]  # BEGIN, jobs, tags, COMMIT
        keys = [b"%d" % (index // 2) for index in range(500)]
        with bench.traced() as statements:
            answers = bench.commit(*(Insert("work", 1, b"", key=key) for key in keys))
        assert len(statements) == 4  # BEGIN, jobs, who has the keys, COMMIT
        assert [answer.duplicate for answer in answers] == [False, True] * 250


def test_chance_is_asked_for_once_a_group(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        asked: list[int] = []

        def random_bytes(size: int) -> bytes:
            asked.append(size)
            return os.urandom(size)

        store = Store(bench.place, now_ms=lambda: bench.now, random_bytes=random_bytes, knows=lambda *_: True)
        store.commit([Insert("work", 1, b"")])
        asked.clear()
        store.commit([Insert("work", 1, b"") for _ in range(1000)])
        assert len(asked) == 1  # each call lets go of the GIL


# --- ids --------------------------------------------------------------------------------------------------------------


def test_ids_rise_in_order_of_arrival(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        given: list[bytes] = []
        for size, later in ((3, 0), (1, 0), (2, 1), (2, -5_000), (2, 6_000)):
            bench.now += later
            given += [answer.job_id for answer in bench.commit(*(Insert("work", 1, b"") for _ in range(size)))]
        assert given == sorted(set(given))
        assert all(len(job_id) == ID_BYTES for job_id in given)


def test_ids_are_not_reused_after_a_reopening_though_all_jobs_have_ended_and_the_clock_was_set_back(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        last = b""
        for ends in (True, False, True):
            claimed = bench.start()
            assert claimed.job_id > last
            last = claimed.job_id
            if ends:
                bench.do(End(claimed.job_id, claimed.claim, Event.RETURN))
            bench.now -= 3_600_000
            bench.reopen()
        assert bench.add() > last


def test_an_id_that_was_given_in_a_group_that_failed_is_not_given_again(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        first = bench.add()
        bench.commit(Insert("bad", 1, b"", priority=999))
        second = bench.add()
        bench.commit(Insert("bad", 1, b"", priority=999), Insert("bad", 1, b"", priority=999))
        assert first < second < bench.add()
        assert len(bench.rows("SELECT id FROM jobs")) == 3


def test_a_damaged_id_does_not_use_up_all_that_could_be_given(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.change(bench.add(), id=b"\xff" * 16)
        before = bench.add()
        bench.reopen()
        assert before < bench.add() < b"\x02"


# --- keys -------------------------------------------------------------------------------------------------------------


def test_of_several_with_one_key_in_a_group_the_first_stays(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        writes = [
            Insert("work", 1, b"1", key=b"k"), Insert("work", 1, b"2"), Insert("work", 2, b"3", key=b"k", tags=("t",)),
            Insert("other", 1, b"4", key=b"k"), Insert("work", 1, b"5", key=b"K"), Insert("work", 1, b"6", key=b"k", run_at_ms=START_MS + 9),
        ]  # fmt: skip
        answers = bench.commit(*writes)
        assert [answer.duplicate for answer in answers] == [False, False, True, False, False, True]
        assert answers[2] == Submitted(answers[0].job_id, True, None, "work") == answers[5]
        assert [data for (data,) in bench.rows("SELECT data FROM jobs ORDER BY id")] == [b"1", b"2", b"4", b"5"]
        assert bench.rows("SELECT * FROM job_tags") == []


def test_a_key_is_taken_while_its_job_lives_and_free_when_it_has_ended(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        again = Insert("work", 1, b"again", key=b"k")
        claimed = bench.start(key=b"k")
        assert bench.do(again) == Submitted(claimed.job_id, True, None, "work")
        bench.do(End(claimed.job_id, claimed.claim, Event.FAIL))
        successor = bench.do(again)
        assert not successor.duplicate and successor.job_id > claimed.job_id


def test_a_key_is_free_for_what_comes_in_the_same_group_as_the_end(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start(key=b"k")
        new, ended = bench.commit(Insert("work", 1, b"", key=b"k"), End(claimed.job_id, claimed.claim, Event.RETURN))
        assert not new.duplicate and ended == "completed"


def test_jobs_without_a_key_are_never_duplicates(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        answers = bench.commit(*(Insert("work", 1, b"same") for _ in range(3)), Insert("work", 1, b"", key=b"k"), Insert("work", 1, b"", key=b"k"))
        assert [answer.duplicate for answer in answers] == [False, False, False, False, True]


# --- tags and times ---------------------------------------------------------------------------------------------------


def test_labels_are_written_once_each(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        first, second = bench.add(tags=("b", "a", "b")), bench.add(tags=("a",))
        assert bench.rows("SELECT tag, job_id FROM job_tags") == [("a", first), ("a", second), ("b", first)]


def test_a_time_that_has_come_is_no_time_to_wait_for(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        writes = (Insert("work", 1, b"", run_at_ms=START_MS), Insert("work", 1, b"", run_at_ms=START_MS - 1), Insert("work", 1, b"", delay_ms=0))
        for write in writes:
            answer = bench.do(write)
            assert answer.run_at_ms is None
            assert bench.row(answer.job_id)["run_at"] is None
        assert len(bench.do(Claim(9))) == 3


def test_a_delay_counts_from_the_commit(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.now += 500
        answer = bench.do(Insert("work", 1, b"", delay_ms=1_000))
        assert answer.run_at_ms == START_MS + 1_500 == bench.row(answer.job_id)["run_at"]
        assert bench.claim() == ()
