"""What must be true of every history, on threads and simulated ones alike. A rule that does not stand here is not tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from case import Case
from observed import Counted, Entry, Got, Over, Sent, Spawned, TaskEntered, TaskLeft
from rules_batches import (
    a_resend_makes_no_second_job,
    an_end_is_counted_right,
    an_outcome_is_complete,
    facts_of_batches_are_true,
    the_last_job_comes_at_the_end,
    the_last_of_equal_keys_wins,
)
from rules_children import (
    a_pause_reaches_the_tree,
    children_are_spawned_once,
    no_child_outlives_its_parent,
    nobody_waits_for_himself,
)
from rules_kept import (
    a_checkpoint_is_never_older,
    a_note_is_kept,
    acknowledged_is_stored,
    an_end_is_final,
    crashes_are_counted_right,
    done_items_are_never_done_again,
    the_ledger_fits_the_fields,
)
from rules_keys import (
    a_key_runs_once_at_a_time,
    every_commit_is_whole,
    one_live_job_per_key,
    who_was_replaced_knows_by_whom,
)
from rules_running import nothing_is_stuck, one_runner, tasks_run_within_their_job
from rules_told import every_end_is_told, facts_are_true, facts_have_no_gaps, nothing_is_amiss
from rules_variety import (
    a_brood_gets_ahead,
    a_plan_is_true_and_leaves_nothing,
    no_more_of_a_brood_run_than_may,
    who_is_turned_away_is_not_stored,
)
from rules_wanted import a_resume_is_kept, cancel_wins, paused_stays_paused

Invariant = Callable[[Case], Iterator[str]]

INVARIANTS: tuple[Invariant, ...] = (
    acknowledged_is_stored,
    an_end_is_final,
    a_checkpoint_is_never_older,
    the_ledger_fits_the_fields,
    a_note_is_kept,
    done_items_are_never_done_again,
    crashes_are_counted_right,
    one_runner,
    nothing_is_stuck,
    tasks_run_within_their_job,
    paused_stays_paused,
    cancel_wins,
    a_resume_is_kept,
    facts_are_true,
    facts_have_no_gaps,
    every_end_is_told,
    one_live_job_per_key,
    a_key_runs_once_at_a_time,
    who_was_replaced_knows_by_whom,
    every_commit_is_whole,
    an_outcome_is_complete,
    the_last_of_equal_keys_wins,
    a_resend_makes_no_second_job,
    facts_of_batches_are_true,
    an_end_is_counted_right,
    the_last_job_comes_at_the_end,
    children_are_spawned_once,
    no_child_outlives_its_parent,
    a_pause_reaches_the_tree,
    nobody_waits_for_himself,
    who_is_turned_away_is_not_stored,
    no_more_of_a_brood_run_than_may,
    a_brood_gets_ahead,
    a_plan_is_true_and_leaves_nothing,
    nothing_is_amiss,
)

OF_TASKS = frozenset((the_ledger_fits_the_fields, a_note_is_kept, done_items_are_never_done_again, tasks_run_within_their_job))
OF_BATCHES = frozenset((
    an_outcome_is_complete, the_last_of_equal_keys_wins, a_resend_makes_no_second_job, facts_of_batches_are_true, an_end_is_counted_right,
    the_last_job_comes_at_the_end, children_are_spawned_once,
))  # fmt: skip


def breaches(entries: Sequence[Entry]) -> list[str]:
    """Every breach of every invariant: "the rule: what was seen". Empty: all is well."""
    case = Case(entries)
    idle: frozenset[Invariant] = frozenset()  # of what this log has nothing
    kinds = set(map(type, entries))
    if kinds.isdisjoint((TaskEntered, TaskLeft, Counted)):
        idle |= OF_TASKS
    if not case.batches and kinds.isdisjoint((Sent, Got, Over, Spawned)):
        idle |= OF_BATCHES
    return [f"{invariant.__name__}: {breach}" for invariant in INVARIANTS if invariant not in idle for breach in invariant(case)]
