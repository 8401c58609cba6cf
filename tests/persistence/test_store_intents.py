"""Pause, resume, cancel: every status with every command, and who keeps a job paused."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import NOBODY, START_MS, Bench, ids

from callboard.jobs.errors import NoSuchJob, NotAllowed
from callboard.jobs.lifecycle import LIVE, PAUSER_BITS, RESUMED_BY_USER, SUSPECT_CRASHES, Event, Pauser, Status, transition
from callboard.persistence.writes import Claim, End, IntentSet, Leave, SetIntent

USER, JOB, PARENT, DISK = (PAUSER_BITS[who] for who in (Pauser.USER, Pauser.JOB, Pauser.PARENT, Pauser.DISK))
COMMANDS = {Event.PAUSE: USER, Event.RESUME: RESUMED_BY_USER, Event.CANCEL: 0}

@pytest.mark.parametrize("event", COMMANDS)
@pytest.mark.parametrize("before", sorted(LIVE))
def test_every_command_follows_the_table(tmp_path: Path, before: Status, event: Event) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(before).job_id
        bits = bench.row(job_id)["pausers"]
        after = transition(before, event)
        answer = bench.do(SetIntent(job_id, event, COMMANDS[event]))
        assert answer == IntentSet("work", before, after, alone=before is Status.QUARANTINED and after is Status.QUEUED)
        assert bench.status(job_id) == after
        if not after.ended:
            row = bench.row(job_id)
            wanted = bits if after is Status.CANCELLING else {Event.PAUSE: USER, Event.RESUME: 0}[event]
            assert row["pausers"] == wanted
            assert row["intent"] == ("cancel" if after is Status.CANCELLING else "pause" if wanted else "run")


@pytest.mark.parametrize("event", COMMANDS)
@pytest.mark.parametrize("before", sorted(LIVE))
def test_every_command_survives_a_crash_and_twice_is_harmless(tmp_path: Path, before: Status, event: Event) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(before).job_id
        first = bench.do(SetIntent(job_id, event, COMMANDS[event]))
        if first.after.ended:
            assert isinstance(bench.commit(SetIntent(job_id, event, COMMANDS[event]))[0], NotAllowed)
            return
        assert bench.do(SetIntent(job_id, event, COMMANDS[event])).after is first.after
        intent = bench.row(job_id)["intent"]
        bench.reopen()
        if intent == "cancel":
            assert bench.status(job_id) == "cancelled"
        else:
            assert bench.row(job_id)["intent"] == intent
            waits = (Status.QUARANTINED, Status.WAITING, Status.AWAITING, Status.ENDING)
            assert (bench.status(job_id) == "paused") == (intent == "pause" and before not in waits)


@pytest.mark.parametrize("event", COMMANDS)
@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_an_ended_job_takes_no_command(tmp_path: Path, status: Status, event: Event) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(status).job_id
        with pytest.raises(NotAllowed, match=f"is {status}: it has ended.*" + ("retry" if event is Event.RESUME else "")):
            bench.do(SetIntent(job_id, event, COMMANDS[event]))


def test_an_unknown_job_takes_no_command(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        for event in COMMANDS:
            with pytest.raises(NoSuchJob):
                bench.do(SetIntent(NOBODY, event))


def test_a_job_that_is_not_resumable_is_not_paused_while_it_runs(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        running, waiting = bench.start(resumable=False).job_id, bench.add(resumable=False)
        refused, paused = bench.commit(SetIntent(running, Event.PAUSE), SetIntent(waiting, Event.PAUSE))
        assert isinstance(refused, NotAllowed) and "cancelled" in str(refused)
        assert (bench.status(running), paused.after) == ("running", Status.PAUSED)
        assert bench.do(SetIntent(running, Event.CANCEL)).after is Status.CANCELLING


# --- who keeps it paused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [PARENT, DISK])
@pytest.mark.parametrize("before", [Status.QUEUED, Status.RUNNING])
def test_what_another_paused_stays_paused_though_the_user_resumes(tmp_path: Path, before: Status, other: int) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(before).job_id
        paused = transition(before, Event.PAUSE)
        bench.do(SetIntent(job_id, Event.PAUSE, other))
        bench.do(SetIntent(job_id, Event.PAUSE, USER))
        assert bench.row(job_id)["pausers"] == other | USER
        assert bench.do(SetIntent(job_id, Event.RESUME, RESUMED_BY_USER)) == IntentSet("work", paused, paused)
        assert (bench.row(job_id)["pausers"], bench.row(job_id)["intent"]) == (other, "pause")
        assert bench.do(SetIntent(job_id, Event.RESUME, other)).after is transition(paused, Event.RESUME)
        assert (bench.row(job_id)["pausers"], bench.row(job_id)["intent"]) == (0, "run")


def test_the_user_resumes_what_the_job_paused_itself(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        claimed = bench.start()
        bench.do(Leave(claimed.job_id, claimed.claim, Event.YIELD, "the network is away", pauser=JOB))
        bench.do(SetIntent(claimed.job_id, Event.RESUME, DISK))
        assert bench.status(claimed.job_id) == "paused"
        assert bench.do(SetIntent(claimed.job_id, Event.RESUME, RESUMED_BY_USER)).after is Status.QUEUED


def test_pausing_twice_by_two_makes_a_set(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(Status.PAUSED).job_id
        for pauser in (USER, DISK, DISK, PARENT):
            bench.do(SetIntent(job_id, Event.PAUSE, pauser))
        assert bench.row(job_id)["pausers"] == USER | DISK | PARENT


def test_a_pause_of_a_job_that_is_cancelling_leaves_no_trace(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(Status.CANCELLING).job_id
        before = bench.contents()
        bench.commit(SetIntent(job_id, Event.PAUSE, DISK), SetIntent(job_id, Event.RESUME, RESUMED_BY_USER))
        assert bench.contents() == before


# --- quarantine -------------------------------------------------------------------------------------------------------


def test_a_quarantined_job_that_is_resumed_runs_alone_with_one_crash_left(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(Status.QUARANTINED).job_id
        bench.change(job_id, crashes=3)
        assert bench.do(SetIntent(job_id, Event.RESUME, RESUMED_BY_USER)).alone
        assert (bench.row(job_id)["crashes"], bench.row(job_id)["alone"]) == (SUSPECT_CRASHES, 1)
        assert bench.claim() == ()
        assert ids(bench.claim(1, alone=True)) == [job_id]
        assert bench.reopen().quarantined == 1


def test_only_a_person_lets_a_job_out_of_quarantine(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(Status.QUARANTINED).job_id
        bench.do(SetIntent(job_id, Event.PAUSE, DISK))
        assert bench.do(SetIntent(job_id, Event.RESUME, DISK)).after is Status.QUARANTINED
        assert bench.do(SetIntent(job_id, Event.RESUME, RESUMED_BY_USER)).after is Status.QUEUED


def test_a_quarantined_job_that_another_keeps_paused_is_paused_when_it_is_let_out(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(Status.QUARANTINED).job_id
        bench.do(SetIntent(job_id, Event.PAUSE, DISK))
        assert bench.do(SetIntent(job_id, Event.RESUME, RESUMED_BY_USER)) == IntentSet("work", Status.QUARANTINED, Status.PAUSED)
        assert bench.row(job_id)["alone"] == 1
        assert bench.do(SetIntent(job_id, Event.RESUME, DISK)) == IntentSet("work", Status.PAUSED, Status.QUEUED, alone=True)


def test_a_suspect_that_was_paused_is_still_one_when_it_is_resumed(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.in_status(Status.QUARANTINED).job_id
        bench.do(SetIntent(job_id, Event.RESUME, RESUMED_BY_USER))
        bench.do(SetIntent(job_id, Event.PAUSE))
        assert bench.store.suspects() == 0
        assert bench.do(SetIntent(job_id, Event.RESUME, RESUMED_BY_USER)).alone  # whoever runs jobs must hear that one waits to run alone


# --- times and damage -------------------------------------------------------------------------------------------------


def test_the_wait_before_a_pause_counts_and_the_pause_does_not(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.add()
        bench.now += 100
        bench.do(SetIntent(job_id, Event.PAUSE))
        bench.now += 1_000
        bench.do(SetIntent(job_id, Event.RESUME))
        bench.do(SetIntent(job_id, Event.RESUME))
        bench.now += 10
        [claimed] = bench.claim()
        assert claimed.waiting_ms == 110


def test_the_wait_of_a_job_that_is_cancelled_in_line_is_in_its_history(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        waiting, late = bench.add(), bench.add(run_at_ms=START_MS + 5_000)
        bench.now += 100
        bench.commit(SetIntent(waiting, Event.CANCEL), SetIntent(late, Event.CANCEL))
        assert [bench.row(job_id, "job_history")["waiting_ms"] for job_id in (waiting, late)] == [100, 0]
        assert bench.row(waiting, "job_history")["ended_at"] == START_MS + 100


def test_a_job_that_waits_for_its_time_still_does_after_a_pause(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.add(run_at_ms=START_MS + 5)
        bench.do(SetIntent(job_id, Event.PAUSE))
        bench.do(SetIntent(job_id, Event.RESUME))
        assert (bench.row(job_id)["run_at"], bench.claim()) == (START_MS + 5, ())


def test_a_job_with_a_damaged_name_can_be_cancelled(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        job_id = bench.add()
        bench.damage(job_id, "name", "CAST(x'ff' AS TEXT)")
        assert bench.do(SetIntent(job_id, Event.CANCEL)).after is Status.CANCELLED


def test_commands_meet_what_else_happens_in_their_group(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        cancelled, paused, returned, waiting = bench.start(), bench.start(), bench.start(), bench.add()
        answers = bench.commit(
            Claim(9), Leave(cancelled.job_id, cancelled.claim, Event.STOP), SetIntent(cancelled.job_id, Event.CANCEL),
            Leave(paused.job_id, paused.claim, Event.RELEASE), SetIntent(paused.job_id, Event.PAUSE),
            End(returned.job_id, returned.claim, Event.RETURN), SetIntent(returned.job_id, Event.CANCEL), SetIntent(waiting, Event.PAUSE),
        )  # fmt: skip
        assert answers[0] == ()  # pauses come before claims
        assert (answers[1], answers[3], answers[5]) == (Status.CANCELLED, Status.PAUSED, Status.COMPLETED)
