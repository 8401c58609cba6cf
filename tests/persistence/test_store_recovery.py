"""What an opening makes of jobs that a dead process held."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from bench import START_MS, Bench, save

from callboard.jobs.lifecycle import CLAIMED, MAX_CRASHES, SUSPECT_CRASHES, Event, Status, after_crash
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.recovery import DIED, ENDED, Recovered, recover
from callboard.persistence.writes import Excuse, Insert, Leave, SetIntent

HEAD = ("head", "", 0, encode_head(None, 0))


class Case(NamedTuple):
    status: Status
    resumable: bool
    crashes: int
    excused: bool


CASES = [Case(*case) for case in product(sorted(CLAIMED), (True, False), range(MAX_CRASHES + 1), (False, True))]


@pytest.mark.parametrize("clean", [False, True])
def test_every_claimed_job_becomes_what_the_table_says(tmp_path: Path, clean: bool) -> None:
    with Bench(tmp_path) as bench:
        job_ids: dict[Case, list[bytes]] = {}
        for case in CASES:
            for _ in range(2):
                job_id = bench.start(resumable=True).job_id
                if case.status is not Status.RUNNING:
                    bench.do(SetIntent(job_id, Event.PAUSE if case.status is Status.PAUSING else Event.CANCEL))
                bench.change(job_id, resumable=case.resumable, crashes=case.crashes, excused=case.excused, unresponsive=5)
                job_ids.setdefault(case, []).append(job_id)
        bench.now += 100
        bench.con.execute("BEGIN")
        recovered = recover(bench.con, bench.now, clean)
        bench.con.execute("COMMIT")
        wanted = {"queued": 0, "paused": 0, "cancelled": 0, "failed": 0, "quarantined": 0}
        for case, pair in job_ids.items():
            charged = not (clean or case.excused)
            after = after_crash(case.status, case.crashes + 1 if charged else 0, case.resumable)
            wanted[after] += len(pair)
            for job_id in pair:
                assert bench.status(job_id) == after, case
                if after.ended:
                    error = {Status.CANCELLED: None, Status.FAILED: DIED if charged else ENDED}[after]
                    assert bench.row(job_id, "job_history")["error"] == error
                    continue
                row, crashes = bench.row(job_id), case.crashes + charged
                assert (row["crashes"], row["alone"]) == (crashes, crashes >= SUSPECT_CRASHES), case
                assert (row["excused"], row["unresponsive"], row["queued_at"]) == (0, None, START_MS + 100)
                assert row["intent"] == ("pause" if case.status is Status.PAUSING else "run")
                assert (row["error"] is not None) == (after is Status.QUARANTINED)
        assert recovered == Recovered(**wanted)
        before = bench.contents()
        assert recover(bench.con, bench.now + 1, clean) == Recovered()
        assert bench.contents() == before


def test_what_nobody_held_is_left_as_it_was(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        for status in Status:
            if status not in CLAIMED:
                bench.in_status(status)
        before = {**bench.contents(), "meta": []}
        assert bench.reopen() == Recovered()
        assert {**bench.contents(), "meta": []} == before


def test_a_job_is_quarantined_at_its_third_death_and_the_others_go_on(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        poison, other = bench.add(name="poison"), bench.add(name="other")
        bench.knows = {"poison"}
        for crashes in (1, 2, 3):
            alone = crashes > SUSPECT_CRASHES
            assert [one.job_id for one in bench.claim(alone=alone)] == [poison]
            bench.reopen()
            assert bench.row(poison)["crashes"] == crashes
            assert bench.store.suspects() == int(crashes == SUSPECT_CRASHES)
        assert bench.status(poison) == "quarantined"
        assert bench.row(poison)["error"] == f"{DIED} 3 times"
        bench.knows = {"other"}
        assert [one.job_id for one in bench.claim()] == [other]


def test_a_checkpoint_since_the_start_resets_the_count(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.add()
        for sequence in range(1, 8):
            [claimed] = bench.claim()
            assert claimed.crashes == (1 if sequence > 1 else 0)
            bench.do(save(claimed, sequence, HEAD, charged=claimed.crashes > 0))
            assert bench.row(job_id)["crashes"] == 0
            bench.reopen()


def test_an_end_that_was_announced_is_no_crash(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        told, untold = bench.start().job_id, bench.start().job_id
        bench.commit(Excuse(()), Excuse((told, bench.add())))
        bench.reopen()
        assert [bench.row(job_id)["crashes"] for job_id in (told, untold)] == [0, 1]
        # It was for that one time.
        assert len(bench.claim()) == 3
        bench.reopen()
        assert bench.row(told)["crashes"] == 1


def test_a_job_that_was_left_before_the_end_is_excused_no_more(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.do(Excuse((claimed.job_id,)))
        bench.do(Leave(claimed.job_id, claimed.claim, Event.RELEASE))
        bench.claim()
        bench.reopen()
        assert bench.row(claimed.job_id)["crashes"] == 1


def test_G10_recovery_looks_only_at_what_is_not_waiting(tmp_path: Path) -> None:
    costs = []
    for waiting in (10, 10_000):
        with Bench(tmp_path / str(waiting)) as bench:
            bench.commit(*(Insert("work", 1, b"") for _ in range(waiting)))
            bench.claim(5)
            with bench.traced() as statements:
                assert recover(bench.con, bench.now, False).queued == 5
            costs.append(sum(statement.steps for statement in statements))
    assert costs[1] <= costs[0] + 10


@pytest.mark.parametrize(("column", "value"), [("started_at", "x'00'"), ("data", "5"), ("created_at", "'when'"), ("error", "x'ff'")])
def test_a_damaged_row_does_not_keep_the_library_closed(tmp_path: Path, column: str, value: str) -> None:
    with Bench(tmp_path) as bench:
        damaged, other, failed = bench.start(), bench.start(), bench.start(resumable=False)
        bench.damage(damaged.job_id, column, value)
        assert bench.reopen() == Recovered(queued=1, failed=1, quarantined=1)
        assert [bench.status(one.job_id) for one in (damaged, other, failed)] == ["quarantined", "queued", "failed"]
        bench.do(SetIntent(damaged.job_id, Event.CANCEL))
        assert bench.status(damaged.job_id) == "cancelled"
