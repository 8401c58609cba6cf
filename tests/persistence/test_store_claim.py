"""Claiming: who is next, at what cost, and that nothing that lies in the queue keeps the others from their turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import NOBODY, START_MS, Bench, ids, save
from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.jobs.lifecycle import Event, Status
from callboard.jobs.submission import Submitted
from callboard.persistence import claiming
from callboard.persistence.checksum import checksum
from callboard.persistence.codec import decode_value, encode_value
from callboard.persistence.damage import WHY
from callboard.persistence.writes import Claim, Claimed, Due, Insert, Leave, MakeDue, SetIntent, Write, WriteProgress

DEEP = 100_000


def test_the_most_urgent_come_first_and_of_one_urgency_in_order_of_arrival(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        wanted: list[tuple[int, bytes]] = []
        for index, priority in enumerate((128, 0, 255, 128, 0, 64)):
            job_id = bench.add(name=f"kind {index % 3}", version=1 + index % 2, priority=priority)
            wanted.append((priority, job_id))
        wanted.sort()
        assert ids(bench.claim(2)) == [job_id for _, job_id in wanted[:2]]
        assert ids(bench.claim(3)) == [job_id for _, job_id in wanted[2:5]]
        assert ids(bench.claim(9)) == [wanted[5][1]]
        assert bench.claim(9) == ()


@pytest.mark.parametrize("read_back", [True, False])
def test_a_claim_says_what_the_job_is(tmp_path: Path, read_back: bool) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.add(name="nämé", version=3, data=b"\0data\xff", requested_by="who\0", retry='{"first": 1}')
        bench.now += 250
        if read_back:
            bench.read_back()
        first = bench.do(Claim(1))[0]
        data_sum = checksum("nämé", 3, b"\0data\xff") + job_id[8:] if read_back else None
        assert first == Claimed(
            job_id, "nämé", 3, 1, 1, 0, False, False, 0, 250, 0, "who\0", '{"first": 1}', START_MS, None, b"\0data\xff", data_sum, False
        )
        row = bench.row(job_id)
        assert (row["status"], row["claim"], row["started_at"], row["waiting_ms"]) == ("running", 1, START_MS + 250, 250)
        progress = encode_value({"done": 3})
        bench.do(Leave(job_id, 1, Event.RETRY, "it broke", START_MS + 400, running_ms=40, warned=2, progress=progress))
        bench.now += 250
        bench.do(MakeDue())
        bench.now += 10
        second = bench.do(Claim(1))[0]
        # It waited from the time it was due, not from the time that was noticed.
        assert second == first._replace(
            checksum=checksum("nämé", 3, b"\0data\xff") + job_id[8:],
            claim=2,
            attempt=2,
            started_before=True,
            running_ms=40,
            waiting_ms=250 + 110,
            warnings=2,
            progress=progress,
        )
        assert bench.row(job_id)["started_at"] == START_MS + 250
        assert bench.row(job_id)["waiting_ms"] == second.waiting_ms


def test_a_claim_says_which_jobs_have_a_checkpoint_to_load(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        [saved, released] = [bench.start() for _ in range(2)]
        bench.do(save(saved, 1, ("field", "done", 0, b"\x01")))
        bench.commit(*(Leave(each.job_id, 1, Event.RELEASE) for each in (saved, released)))
        fresh = bench.add()
        assert {each.job_id: each.has_checkpoint for each in bench.claim()} == {saved.job_id: True, released.job_id: False, fresh: False}


def test_where_checkpoints_cannot_be_read_each_job_claimed_again_may_have_one(tmp_path: Path) -> None:
    """Then the one whose checkpoint it is fails as it loads it, and no other."""
    with Bench(tmp_path) as bench:
        [saved, released] = [bench.start() for _ in range(2)]
        bench.do(save(saved, 1, ("field", "done", 0, b"\x01")))
        bench.commit(*(Leave(each.job_id, 1, Event.RELEASE) for each in (saved, released)))
        [(root,)] = bench.rows("SELECT rootpage FROM sqlite_schema WHERE name = 'job_checkpoints'")
        size = bench.con.pragma("page_size")
        assert bench.folder is not None
        bench.folder.close()
        with open(bench.path / "jobs.db", "r+b") as file:
            file.seek((root - 1) * size)
            file.write(bytes(size))
        bench.open()
        fresh = bench.add()
        assert {each.job_id: each.has_checkpoint for each in bench.claim()} == {saved.job_id: True, released.job_id: True, fresh: False}


def test_a_claim_in_the_group_of_the_insert_gets_the_new_job_wherever_it_stands(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed, submitted = bench.commit(Claim(5), Insert("work", 1, b""))
        assert ids(claimed) == [submitted.job_id]


def test_two_claims_in_one_group_share_the_jobs(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        all_ids = [bench.add() for _ in range(3)]
        first, second = bench.commit(Claim(2), Claim(2))
        assert ids(first) + ids(second) == all_ids


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.QUEUED])
def test_only_what_is_queued_is_claimed(tmp_path: Path, status: Status) -> None:
    with Bench(tmp_path) as bench:
        bench.in_status(status)
        assert bench.claim() == ()


def test_what_is_resumed_released_or_due_is_claimed_again(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        paused = bench.in_status(Status.PAUSED, name="a").job_id
        released = bench.start(name="b")
        late = bench.add(name="c", run_at_ms=START_MS + 10)
        assert bench.claim() == ()
        bench.now += 10
        bench.commit(SetIntent(paused, Event.RESUME), Leave(released.job_id, released.claim, Event.RELEASE), MakeDue())
        bench.knows = {"a", "b", "c"}
        assert ids(bench.claim()) == [paused, released.job_id, late]


# --- times ------------------------------------------------------------------------------------------------------------


def test_due_jobs_wait_in_line_and_the_next_time_is_told(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        assert bench.do(MakeDue()) == Due(0, None, 0)
        assert bench.store.next_due_ms() is None
        first, second, third = (bench.add(run_at_ms=START_MS + after) for after in (10, 20, 20))
        assert bench.store.next_due_ms() == START_MS + 10
        bench.now += 9
        assert bench.do(MakeDue()) == Due(0, START_MS + 10)
        bench.now += 1
        assert bench.do(MakeDue()) == Due(1, START_MS + 20)
        assert ids(bench.claim()) == [first]
        bench.now += 50
        assert bench.do(MakeDue()) == Due(2, None)
        assert bench.row(second)["queued_at"] == START_MS + 20
        assert ids(bench.claim()) == [second, third]


def test_a_suspect_whose_time_has_come_is_told(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        suspect = bench.in_status(Status.QUARANTINED).job_id
        bench.do(SetIntent(suspect, Event.RESUME))
        [claimed] = bench.claim(1, alone=True)
        bench.do(Leave(suspect, claimed.claim, Event.RETRY, "it broke", START_MS + 10))
        assert bench.store.suspects() == 0
        bench.now += 10
        assert bench.do(MakeDue()) == Due(1, None, suspects=1)


# --- suspects ---------------------------------------------------------------------------------------------------------


def test_suspects_are_claimed_alone_one_at_a_time(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        suspects = [bench.in_status(Status.QUARANTINED, name=name).job_id for name in ("x", "y")]
        ordinary = bench.add(name="x", priority=255)
        for job_id in suspects:
            bench.do(SetIntent(job_id, Event.RESUME))
        assert bench.store.suspects() == 2
        assert ids(bench.claim()) == [ordinary]
        bench.knows = {"x"}
        [claimed] = bench.claim(5, alone=True)
        assert (claimed.job_id, claimed.alone, claimed.crashes) == (suspects[0], True, 2)
        assert bench.claim(5, alone=True) == ()
        assert bench.store.suspects() == 1


# --- named ones -------------------------------------------------------------------------------------------------------


def test_of_named_jobs_only_these_are_claimed(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        all_ids = [bench.add(name=f"kind {index}", priority=200 - index) for index in range(6)]
        bench.knows = {f"kind {index}" for index in range(5)}
        only = (all_ids[1], all_ids[4], all_ids[5], NOBODY)
        assert bench.claim(9, only=()) == ()
        assert ids(bench.claim(1, only=only)) == [all_ids[4]]
        assert ids(bench.claim(9, only=only)) == [all_ids[1]]
        assert len(bench.claim(9)) == 3


# --- cost -------------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_unknown_jobs_at_the_head_cost_a_claim_nothing(tmp_path: Path) -> None:
    costs = []
    for name, deep in (("shallow", 1), ("deep", DEEP)):
        with Bench(tmp_path / name) as bench:
            unknown = Insert("unknown", 1, b"", priority=0)
            for _ in range(0, deep, 20_000):
                bench.commit(*[unknown] * min(deep, 20_000))
            bench.commit(*(Insert("known", version, b"", priority=200) for version in (1, 2) for _ in range(20)))
            bench.reopen()
            bench.knows = {"known"}
            with bench.traced() as statements:
                assert len(bench.claim(10)) == 10
            assert sum(statement.scanned for statement in statements) < 100
            costs.append(sum(statement.steps for statement in statements))
    assert costs[1] <= costs[0] + 10


def test_a_claim_costs_no_more_in_a_deep_queue(tmp_path: Path) -> None:
    costs = []
    for deep in (200, 20_000):
        with Bench(tmp_path / str(deep)) as bench:
            bench.commit(*(Insert(f"kind {index % 4}", 1, b"", priority=index % 5) for index in range(deep)))
            bench.claim(1)
            with bench.traced() as statements:
                assert len(bench.claim(10)) == 10
            assert len(statements) == 4  # BEGIN, who is next, the claim, COMMIT
            costs.append(sum(statement.steps for statement in statements))
    assert costs[1] <= costs[0] + 10


def test_more_kinds_than_one_statement_takes_are_merged_by_priority(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        kinds = 2 * claiming.KINDS_AT_ONCE + 7
        answers = bench.commit(*(Insert(f"kind {index}", 1, b"%d" % index, priority=255 - index % 250) for index in range(kinds)))
        wanted = sorted(range(kinds), key=lambda index: (255 - index % 250, index))
        bench.reopen()
        for start in range(0, 30, 10):
            claimed = bench.claim(10)
            assert ids(claimed) == [answers[index].job_id for index in wanted[start : start + 10]]
            assert [one.data for one in claimed] == [b"%d" % index for index in wanted[start : start + 10]]
        assert ids(bench.claim(1_000)) == [answers[index].job_id for index in wanted[30:]]


def test_kinds_that_wait_are_found_by_jumps(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        bench.commit(*(Insert(f"kind {index % 3}", 1 + index % 2, b"") for index in range(3_000)))
        with bench.traced() as statements:
            kinds = claiming.kinds_waiting(bench.con, False)
        assert sorted(kinds) == [(f"kind {index}", version) for index in range(3) for version in (1, 2)]
        assert statements[0].steps < 1_000


# --- payloads ---------------------------------------------------------------------------------------------------------


def test_payloads_too_large_to_be_read_together_are_read_one_by_one(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        data = [bytes([index]) * (1_000_000 if index % 4 else 10) for index in range(12)]
        job_ids = [bench.add(data=one) for one in data]
        claimed = bench.claim(12)
        assert [(one.job_id, one.data) for one in claimed] == list(zip(job_ids, data, strict=True))


def test_a_job_that_finds_the_line_empty_is_written_as_claimed_and_is_as_if_it_had_waited(tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    new = [
        Insert("work", 1, b"low", priority=200, requested_by="who"),
        Insert("work", 1, b"high", priority=5, key=b"k", retry="{}"),
        Insert("work", 1, b"", key=b"k"),
    ]
    with Bench(tmp_path) as bench, Bench(tmp_path / "slow") as slow:
        assert bench.claim(5) == ()
        with bench.traced() as written:
            *answers, claimed = bench.commit(*new, Claim(5))
        assert not any(one.sql.lstrip().startswith("UPDATE") for one in written)
        assert [one.data for one in claimed] == [b"high", b"low"]
        assert [answer.duplicate for answer in answers] == [False, False, True]
        slow.commit(*new)
        waited = slow.claim(5)

        def without_ids(one: Claimed) -> Claimed:
            return one._replace(job_id=b"")

        assert list(map(without_ids, claimed)) == list(map(without_ids, waited))

        def row_without_ids(bench: Bench, one: Claimed) -> dict[str, object]:
            row = bench.row(one.job_id)
            return {**row, "id": 0, "checksum": row["checksum"][:8]}

        assert [row_without_ids(bench, one) for one in claimed] == [row_without_ids(slow, one) for one in waited]


@pytest.mark.parametrize(
    "why", ["one waits", "one is due", "one is given back", "one is resumed", "of another type", "of a type unknown so far", "more than it takes"]
)
def test_a_new_job_does_not_overtake_what_waits_or_may_wait(tmp_path: Path, why: str) -> None:
    with Bench(tmp_path) as bench:
        held, paused = bench.start(), bench.in_status(Status.PAUSED)
        late = bench.do(Insert("work", 1, b"", delay_ms=5)).job_id
        assert bench.claim(5) == ()
        first: bytes | None = None
        group: list[Write] = [Insert("work", 1, b"new"), Claim(1)]
        match why:
            case "one waits":
                first = bench.add()
            case "one is due":
                bench.now += 10
                first, group = late, [*group, MakeDue()]
            case "one is given back":
                first, group = held.job_id, [*group, Leave(held.job_id, held.claim, Event.RELEASE)]
            case "one is resumed":
                first, group = paused.job_id, [*group, SetIntent(paused.job_id, Event.RESUME)]
            case "of another type":
                first = bench.add(name="other")
            case "of a type unknown so far":
                bench.knows = {"work"}
                first = bench.add(name="other")
                assert bench.claim(5) == ()
                bench.knows = None
            case "more than it takes":
                group = [Insert("work", 1, b"first"), *group]
        claimed = next(answer for answer in bench.commit(*group) if isinstance(answer, tuple) and not isinstance(answer, Submitted))
        assert [one.job_id for one in claimed] == [first] if first is not None else claimed[0].data == b"first"


PAYLOADS = st.lists(st.tuples(st.binary(max_size=40), st.none() | st.binary(min_size=1, max_size=40)), min_size=1, max_size=8)


def test_payloads_and_readings_come_back_with_their_own_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench(tmp_path) as bench:

        @settings(max_examples=60, deadline=None)
        @given(PAYLOADS, st.sampled_from([0, 20, 10**6]))
        def check(payloads: list[tuple[bytes, bytes | None]], at_once: int) -> None:
            monkeypatch.setattr(claiming, "BYTES_AT_ONCE", at_once)
            bench.con.execute("DELETE FROM jobs")
            for answer, (_, progress) in zip(bench.commit(*(Insert("work", 1, data) for data, _ in payloads)), payloads, strict=True):
                bench.con.execute("UPDATE jobs SET progress = ? WHERE id = ?", (progress, answer.job_id))
            bench.read_back()
            assert [(one.data, one.progress) for one in bench.claim(20)] == payloads

        check()


# --- damage -----------------------------------------------------------------------------------------------------------


DAMAGE = [
    ("name", "CAST(x'ff6f' AS TEXT)"), ("name", "x'00'"), ("requested_by", "CAST(x'c3' AS TEXT)"), ("requested_by", "x'ff'"),
    ("retry", "'{'"), ("priority", "NULL"), ("priority", "x'00'"), ("created_at", "x'ff'"), ("claim", "'many'"), ("version", "'one'"),
    ("queued_at", "NULL"), ("waiting_ms", "'long'"), ("data", "NULL"), ("data", "'text'"), ("progress", "5"), ("checksum", "NULL"),
    ("status", "'asleep'"), ("run_at", "x'00'"),
]  # fmt: skip


def test_a_damaged_row_does_not_keep_the_others_from_their_turn(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        for column, value in DAMAGE:
            before, damaged, after = bench.add(), bench.add(requested_by="who"), bench.add(data=b"after")
            bench.damage(damaged, column, value)
            bench.read_back()
            claimed = {one.job_id: one for one in bench.claim(3)}
            assert claimed.keys() >= {before, after}, column
            assert claimed[after].data == b"after"
            assert claimed[after].checksum == checksum("work", 1, b"after") + after[8:]
            for one in claimed.values():
                bench.do(Leave(one.job_id, one.claim, Event.POISON))


def test_a_row_that_no_statement_may_change_is_mended_and_quarantined(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        damaged = [bench.add(key=b"%d" % index, data=b"kept", requested_by="who") for index in range(2)]
        due = bench.add(run_at_ms=START_MS + 5)
        for job_id, (column, value) in zip((*damaged, due), (("progress", "5"), ("grp", "x'6162'"), ("claim", "x'31'")), strict=True):
            bench.damage(job_id, column, value)
        bench.now += 10
        assert isinstance(bench.do(MakeDue()), Due)
        assert bench.claim() == ()
        for job_id in (*damaged, due):
            row = bench.row(job_id)
            assert (row["status"], row["error"], row["key"]) == ("quarantined", WHY, None)
        assert (bench.row(damaged[0])["data"], bench.row(damaged[0])["requested_by"], bench.row(due)["claim"]) == (b"kept", "who", 1)
        bench.do(SetIntent(damaged[0], Event.RESUME, 1))
        [claimed] = bench.claim(1, alone=True)
        assert claimed.checksum == checksum("work", 1, b"kept") + claimed.job_id[8:]


def test_a_reading_is_written_only_by_who_holds_the_job(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.commit(WriteProgress(claimed.job_id, claimed.claim, encode_value(5)), WriteProgress(claimed.job_id, claimed.claim + 1, b"other"))
        assert decode_value(bench.row(claimed.job_id)["progress"]) == 5
        bench.do(Leave(claimed.job_id, claimed.claim, Event.RELEASE))
        [again] = bench.claim()
        bench.commit(WriteProgress(again.job_id, again.claim, encode_value(6)), WriteProgress(claimed.job_id, claimed.claim, b"stale"))
        assert decode_value(bench.row(claimed.job_id)["progress"]) == 6
