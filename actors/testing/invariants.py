"""What must be true of every history, on threads and simulated ones alike. A rule that does not stand here is not tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from callboard.actors.testing.case import Case
from callboard.actors.testing.observed import Entry
from callboard.actors.testing.rules_kept import (
    a_checkpoint_is_never_older,
    a_note_is_kept,
    acknowledged_is_stored,
    an_end_is_final,
    crashes_are_counted_right,
    done_items_are_never_done_again,
    one_live_job_per_key,
    the_ledger_fits_the_fields,
)
from callboard.actors.testing.rules_running import nothing_is_stuck, one_runner, tasks_run_within_their_job
from callboard.actors.testing.rules_told import every_end_is_told, facts_are_true, facts_have_no_gaps, nothing_is_amiss
from callboard.actors.testing.rules_wanted import a_resume_is_kept, cancel_wins, paused_stays_paused

Invariant = Callable[[Case], Iterator[str]]

INVARIANTS: tuple[Invariant, ...] = (
    acknowledged_is_stored,
    an_end_is_final,
    one_live_job_per_key,
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
    nothing_is_amiss,
)


def breaches(entries: Sequence[Entry]) -> list[str]:
    """Every breach of every invariant: "the rule: what was seen". Empty: all is well."""
    case = Case(entries)
    return [f"{invariant.__name__}: {breach}" for invariant in INVARIANTS for breach in invariant(case)]
