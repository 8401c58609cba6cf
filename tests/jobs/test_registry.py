"""Which class a stored name stands for, why a job is passed over, and how old fields become new ones."""

from __future__ import annotations

from types import new_class
from typing import Any

import pytest

from callboard.jobs.errors import NewerVersion, NotDecodable, UnknownJobType
from callboard.jobs.job import Job
from callboard.jobs.registry import Fields, Registry, upgrade


def rename(fields: Fields) -> Fields:
    return {"room": fields["place"]}


def add_floor(fields: Fields) -> Fields:
    fields["floor"] = 0
    return fields


def forgets_to_return(fields: Fields) -> Any:
    fields["floor"] = 0


def raises(fields: Fields) -> Fields:
    raise KeyError("place")


def job_type(name: str = "sweep", version: int = 1, upgrades: dict[int, Any] | None = None) -> type[Job]:
    """A class with these settings that no registry has."""
    made: type[Job] = new_class(name.title(), (Job,), {"abstract": True, "name": name, "version": version, "upgrades": upgrades})
    return made


def registry(*types: type[Job]) -> Registry:
    made = Registry()
    for each in types:
        made.add(each)
    return made


def test_a_name_finds_its_class_and_names_are_listed_in_order() -> None:
    sweep, cook = job_type("sweep"), job_type("cook")
    known = registry(sweep, cook)
    assert known.get("sweep") is sweep
    assert known.names() == ("cook", "sweep")


def test_an_unknown_name_is_told_what_to_import_and_what_was_perhaps_meant() -> None:
    known = registry(job_type("sweep"))
    with pytest.raises(UnknownJobType) as caught:
        known.get("swepe")
    assert str(caught.value) == "no job type 'swepe' is registered here: import the module that defines it; did you mean 'sweep'?"
    with pytest.raises(UnknownJobType, match="import the module that defines it$"):
        known.get("launch")


def test_a_job_of_this_version_or_an_older_one_is_known_and_a_newer_one_is_not() -> None:
    known = registry(job_type(version=2))
    assert [known.knows("sweep", version) for version in (1, 2, 3)] == [True, True, False]
    assert not known.knows("cook", 1)


def test_why_a_job_is_passed_over_says_what_to_do() -> None:
    known = registry(job_type(version=2))
    assert known.why_not("sweep", 2) is None
    assert known.why_not("sweep", 3) == "stored as version 3 of 'sweep', this process has version 2; upgrade the code"
    assert known.why_not("cook", 1) == "job type 'cook' is not registered in this process; import the module that defines it"


def test_what_is_known_and_why_not_agree() -> None:
    known = registry(job_type(version=2))
    for name in ("sweep", "cook"):
        for version in range(1, 5):
            assert known.knows(name, version) == (known.why_not(name, version) is None)


def test_a_class_that_is_removed_is_passed_over_from_then_on() -> None:
    known = registry(job_type())
    before = known.generation
    known.remove("sweep")
    known.remove("sweep")
    assert not known.knows("sweep", 1)
    assert known.generation == before + 1


def test_every_class_that_is_added_is_told_to_who_listens() -> None:
    known, heard = Registry(), []
    known.listen("first", lambda: heard.append(("first", known.names())))
    known.listen("second", lambda: heard.append(("second", known.names())))
    known.add(job_type("sweep"))
    known.unlisten("first")
    known.unlisten("nobody")
    known.add(job_type("cook"))
    assert heard == [("first", ("sweep",)), ("second", ("sweep",)), ("second", ("cook", "sweep"))]


def test_a_listener_may_leave_while_it_is_told() -> None:
    known, heard = Registry(), []

    def once() -> None:
        heard.append(known.names())
        known.unlisten("once")

    known.listen("once", once)
    known.add(job_type("sweep"))
    known.add(job_type("cook"))
    assert heard == [("sweep",)]


# --- upgrades -----------------------------------------------------------------------------------------------------------


def test_old_fields_go_through_every_step_in_order() -> None:
    sweep = job_type(version=3, upgrades={1: rename, 2: add_floor})
    assert upgrade(sweep, 1, {"place": "hall"}) == {"room": "hall", "floor": 0}
    assert upgrade(sweep, 2, {"room": "hall"}) == {"room": "hall", "floor": 0}


def test_fields_of_the_present_version_stay_as_they_are_and_what_is_given_is_not_changed() -> None:
    given: Fields = {"room": "hall"}
    assert upgrade(job_type(version=3), 3, given) == given
    upgrade(job_type(version=3, upgrades={2: add_floor}), 2, given)
    assert given == {"room": "hall"}


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(NewerVersion, match="^'sweep': stored as version 4, this code has version 3$"):
        upgrade(job_type(version=3), 4, {})


@pytest.mark.parametrize(
    ("upgrades", "text"),
    [
        ({}, "'sweep' has no upgrade from version 1; add upgrades={1: function} to the class"),
        ({1: rename}, "'sweep' has no upgrade from version 2; add upgrades={2: function} to the class"),
        ({1: raises}, "'sweep': the upgrade from version 1 raised KeyError: 'place'"),
        ({1: forgets_to_return}, "'sweep': the upgrade from version 1 returned NoneType, not a dict"),
    ],
)
def test_a_step_that_is_missing_or_fails_is_named(upgrades: dict[int, Any], text: str) -> None:
    with pytest.raises(NotDecodable) as caught:
        upgrade(job_type(version=3, upgrades=upgrades), 1, {"place": "hall"})
    assert str(caught.value) == text


def test_a_step_that_leaves_the_process_is_not_taken_for_damage() -> None:
    def leaves(fields: Fields) -> Fields:
        raise SystemExit

    with pytest.raises(SystemExit):
        upgrade(job_type(version=2, upgrades={1: leaves}), 1, {})
