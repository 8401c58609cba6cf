"""What a kill loses: a process submits one job after the other and is killed; then its store is opened again.

Counted: jobs that had been acknowledged and are not there. What a power cut would lose no kill can show; for that stand the settings that each
system answers about itself, in the column of its durability. Limit: none lost.
"""

from __future__ import annotations

from functools import partial

from callboard.benchmarks.rivals import lose
from callboard.benchmarks.scenario import Case, Contender, Figure, Goal

CASES = (
    Case(
        "kills",
        "kills of a process that submits",
        (Figure("lost", "jobs", False, least=1.0), Figure("acknowledged", "jobs", True)),
        (Contender("callboard", partial(lose, "callboard")),),
        full=(1,),
        goals=(Goal("lost", 0.0),),
        peers="killed",
        warm_up=lambda size: 0,
        most_repeats=3,
    ),
)
