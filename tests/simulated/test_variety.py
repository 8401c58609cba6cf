"""What some histories have beside the ordinary comes to a share of them, and never to the seeds that are kept for what they found."""

from __future__ import annotations

from collections import Counter

from deaths import Deaths
from rare_paths import PATHS, RarePaths
from variety import FAIR_UNTIL, Variety

TRAITS = ("crowded", "brooding", "lineages", "planning")


def found(seed: int) -> list[str]:
    variety = Variety(seed)
    return [*(trait for trait in TRAITS if getattr(variety, trait)), *(["deaths"] if Deaths(seed).wanted else []), *RarePaths(seed).taken]


def test_the_kept_seeds_have_nothing_of_it() -> None:
    assert not any(found(seed) for seed in range(FAIR_UNTIL))


def test_everything_comes_to_a_share_of_the_others() -> None:
    seen = Counter(each for seed in range(FAIR_UNTIL, FAIR_UNTIL + 2_000) for each in found(seed))
    assert seen.keys() == {*TRAITS, "deaths", *PATHS}
    assert all(15 <= count <= 250 for count in seen.values()), seen
