"""What an author may write as a Job class, what is refused and with which words, and what the registry makes of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType, new_class
from typing import Any, Generic, TypeVar

import pytest

from callboard.jobs.errors import BadJobType, UsageError
from callboard.jobs.job import Job, check_job_type, defined_in_module
from callboard.jobs.registry import REGISTRY
from callboard.jobs.retry import NO_RETRY, RetryPolicy
from callboard.persistence.codec import decode, encode, plan_of

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _forget_the_types_of_a_test() -> Iterator[None]:
    before = set(REGISTRY.names())
    yield
    for name in set(REGISTRY.names()) - before:
        REGISTRY.remove(name)


def job_class(body: dict[str, Any] | None = None, /, *bases: type, called: str = "Sweep", **arguments: Any) -> type[Job]:
    """A class made of this body and these class arguments, with a `run` if the body has none."""
    content = {"__module__": __name__, "run": lambda self, ctx: None, **(body or {})}
    made: type[Job] = new_class(called, bases or (Job,), arguments, lambda body: body.update(content))
    return made


# --- the class statement ------------------------------------------------------------------------------------------------


def test_subclassing_registers_the_class_under_its_name() -> None:
    @dataclass
    class Resize(Job, name="resize photos", version=3, resumable=False, retry=RetryPolicy(4)):
        def run(self, ctx: Any) -> None: ...

    assert REGISTRY.get("resize photos") is Resize
    assert (Resize.job_name, Resize.job_version, Resize.job_resumable, Resize.job_retry) == ("resize photos", 3, False, RetryPolicy(4))


def test_by_default_the_name_is_the_classes_own_at_version_one_resumable_and_never_tried_again() -> None:
    made = job_class(called="Sweep")
    assert (made.job_name, made.job_version, made.job_resumable, made.job_retry) == ("Sweep", 1, True, NO_RETRY)
    assert dict(made.job_upgrades) == {}


def test_resumable_and_retry_come_from_the_base_and_name_version_and_upgrades_do_not() -> None:
    base = job_class({}, called="Base", version=2, resumable=False, retry=RetryPolicy(9), upgrades={1: dict})
    derived = job_class({}, base, called="Derived")
    own = job_class({}, base, called="Own", resumable=True, retry=NO_RETRY)
    assert (derived.job_resumable, derived.job_retry) == (False, RetryPolicy(9))
    assert (own.job_resumable, own.job_retry) == (True, NO_RETRY)
    assert (derived.job_name, derived.job_version, dict(derived.job_upgrades)) == ("Derived", 1, {})


def test_upgrades_are_a_copy_that_nobody_changes() -> None:
    upgrades = {1: dict}
    made = job_class(version=2, upgrades=upgrades)
    upgrades.clear()
    assert dict(made.job_upgrades) == {1: dict}
    with pytest.raises(TypeError):
        made.job_upgrades[1] = dict  # type: ignore[index]


def test_a_static_run_and_one_that_is_inherited_will_do() -> None:
    job_class({"run": staticmethod(lambda ctx: None)}, called="Static")
    job_class({"run": Job.__dict__["run"]}, called="Abstract", abstract=True)
    first = job_class(called="First")
    made = new_class("Second", (first,), {})
    assert REGISTRY.get("Second") is made


def test_a_job_may_be_generic_and_have_other_bases() -> None:
    class Mixin:
        def helper(self) -> int:
            return 1

    @dataclass
    class Typed(Mixin, Job, Generic[T], name="typed"):
        value: T

        def run(self, ctx: Any) -> int:
            return self.helper()

    assert REGISTRY.get("typed") is Typed
    assert Typed[int](3).value == 3


async def _async_run(self: Any, ctx: Any) -> None: ...
async def _async_generator_run(self: Any, ctx: Any) -> Any:
    yield 1


def _generator_run(self: Any, ctx: Any) -> Any:
    yield 1


NAME = "is not printable text of 1 to 200 characters"
VERSION = "is not an integer from 1 to 2147483647"
PLAIN = "it must be a plain function run(self, ctx)"
OWN_VERSION = "job_version is set by the class argument version=…; give it there, or name the field otherwise"

REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"name": ""}, f": name='' {NAME}"),
    ({}, {"name": "n" * 201}, f": name='{'n' * 118}… {NAME}"),
    ({}, {"name": "a\nb"}, f": name='a\\nb' {NAME}"),
    ({}, {"name": "\udcff"}, f": name='\\udcff' {NAME}"),
    ({}, {"name": 5}, f": name=5 {NAME}"),
    ({}, {"name": b"x"}, f": name=b'x' {NAME}"),
    ({}, {"version": 0}, f": version=0 {VERSION}"),
    ({}, {"version": 2**31}, f": version=2147483648 {VERSION}"),
    ({}, {"version": True}, f": version=True {VERSION}"),
    ({}, {"version": "1"}, f": version='1' {VERSION}"),
    ({}, {"version": None}, f": version=None {VERSION}"),
    ({}, {"resumable": "no"}, ": resumable='no' is not True or False"),
    ({}, {"abstract": 1}, ": abstract=1 is not True or False"),
    ({}, {"retry": 3}, ": retry=3 is not a RetryPolicy"),
    ({}, {"retry": RetryPolicy}, ": retry=<class 'callboard.jobs.retry.RetryPolicy'> is not a RetryPolicy"),
    ({}, {"upgrades": [dict]}, ": upgrades=[<class 'dict'>] is not a dict {version: function}"),
    ({}, {"version": 2, "upgrades": {2: dict}}, ": upgrades has 2, which is no version before 2"),
    ({}, {"version": 2, "upgrades": {0: dict}}, ": upgrades has 0, which is no version before 2"),
    ({}, {"version": 2, "upgrades": {"1": dict}}, ": upgrades has '1', which is no version before 2"),
    ({}, {"version": 2, "upgrades": {True: dict}}, ": upgrades has True, which is no version before 2"),
    ({}, {"version": 2, "upgrades": {1: "rename"}}, ": upgrades[1]='rename' is not a function dict -> dict"),
    ({"run": Job.run}, {}, " has no run(self, ctx); write it, or pass abstract=True for a base class"),
    ({"run": _async_run}, {}, f": run is async; {PLAIN}"),
    ({"run": _async_generator_run}, {}, f": run is async; {PLAIN}"),
    ({"run": _generator_run}, {}, f": run is a generator; {PLAIN}"),
    ({"run": 5}, {}, f": run is 5, which cannot be called; {PLAIN}"),
    ({"job_version": 3}, {}, f": {OWN_VERSION}"),
    ({"__annotations__": {"job_version": "int"}}, {}, f": {OWN_VERSION}"),
    ({"__slots__": (), "job_version": 3}, {}, f": {OWN_VERSION}"),
    ({"__slots__": (), "job_name": "x"}, {}, ": job_name is set by the class argument name=…; give it there, or name the field otherwise"),
    (
        {},
        {"resumeable": False},
        ": no base takes the class argument resumeable; there are name, version, resumable, retry, upgrades, abstract",
    ),
]


@pytest.mark.parametrize(("body", "arguments", "text"), REFUSED, ids=range(len(REFUSED)))
def test_a_class_that_could_not_work_is_refused_where_it_is_written(body: dict[str, Any], arguments: dict[str, Any], text: str) -> None:
    before = REGISTRY.names()
    with pytest.raises(BadJobType) as caught:
        job_class(body, called="Refused", **arguments)
    assert str(caught.value) == f"{__name__}.Refused{text}"
    assert REGISTRY.names() == before, "a refused class was registered"


def test_whoever_catches_usage_errors_or_type_errors_catches_these() -> None:
    assert issubclass(BadJobType, UsageError)
    assert issubclass(BadJobType, TypeError)


# --- names --------------------------------------------------------------------------------------------------------------


def test_two_classes_of_one_name_are_refused_and_the_first_keeps_it() -> None:
    first = job_class(called="First", name="sweep")
    with pytest.raises(BadJobType) as caught:
        job_class(called="Second", name="sweep")
    assert str(caught.value) == f"job name 'sweep' is taken by {__name__}.First; give {__name__}.Second another name="
    assert REGISTRY.get("sweep") is first


def test_a_script_that_is_imported_by_its_own_name_as_well_is_told_so() -> None:
    job_class({"__module__": "__main__"}, called="Sweep")
    with pytest.raises(BadJobType, match=r"; or, if __main__ and app are one file, import the class from another module than the script$"):
        job_class({"__module__": "app"}, called="Sweep")


def test_a_class_of_the_same_place_takes_the_place_of_the_one_before() -> None:
    first, second = job_class(called="Sweep"), job_class(called="Sweep")
    assert REGISTRY.get("Sweep") is second is not first


SOURCE = """
from dataclasses import dataclass
from callboard.jobs.job import Job

@dataclass{slots}
class Reloaded(Job, name="reloaded", version={version}):
    room: str

    def run(self, ctx):
        return super().__class__.__name__
"""


@pytest.mark.parametrize("slots", ["", "(slots=True)"])
def test_a_module_that_is_reloaded_takes_its_own_names_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file, name = tmp_path / "reloaded_jobs.py", "reloaded_jobs"
    file.write_text(SOURCE.format(slots=slots, version=1))
    try:
        module: ModuleType = importlib.import_module(name)
        file.write_text(SOURCE.format(slots=slots, version=2))
        importlib.invalidate_caches()
        importlib.reload(module)
        assert REGISTRY.get("reloaded") is module.Reloaded
        assert REGISTRY.get("reloaded").job_version == 2
    finally:
        sys.modules.pop(name, None)


# --- dataclass(slots=True) builds the class twice -----------------------------------------------------------------------


@dataclass(slots=True)
class Slotted(Job, name="test_job_types.slotted", version=2, retry=RetryPolicy(3), upgrades={1: dict}):
    room: str
    done: int = 0

    def run(self, ctx: Any) -> None: ...


class House:
    @dataclass(slots=True)
    class Hall(Job, name="test_job_types.hall"):
        done: int = 0

        def run(self, ctx: Any) -> None: ...


def test_of_a_slotted_dataclass_the_final_class_is_the_registered_one() -> None:
    assert REGISTRY.get("test_job_types.slotted") is Slotted
    assert (Slotted.job_version, Slotted.job_retry, dict(Slotted.job_upgrades)) == (2, RetryPolicy(3), {1: dict})
    assert not hasattr(Slotted("hall"), "__dict__")
    assert decode(Slotted, encode(Slotted("hall", 3))) == Slotted("hall", 3)


def test_a_slotted_dataclass_may_be_inside_another_class() -> None:
    assert REGISTRY.get("test_job_types.hall") is House.Hall


def test_a_slotted_dataclass_may_be_inside_a_function_and_be_made_again() -> None:
    def make() -> type[Job]:
        @dataclass(slots=True)
        class Local(Job, name="local"):
            done: int = 0

            def run(self, ctx: Any) -> None: ...

        return Local

    first = make()
    assert REGISTRY.get("local") is first
    second = make()
    assert REGISTRY.get("local") is second is not first


def test_a_slotted_abstract_base_is_not_registered_even_if_a_job_has_its_name() -> None:
    job = job_class(called="Base")

    @dataclass(slots=True)
    class Base(Job, abstract=True):
        done: int = 0

    assert REGISTRY.get("Base") is job


def test_a_class_with_slots_of_its_own_is_an_ordinary_one() -> None:
    made = job_class({"__slots__": ()}, called="OwnSlots", version=7)
    assert REGISTRY.get("OwnSlots") is made
    assert made.job_version == 7


# --- bases --------------------------------------------------------------------------------------------------------------


@dataclass
class Errand(Job, abstract=True, resumable=False):
    room: str


def test_an_abstract_base_needs_no_run_and_is_not_registered() -> None:
    assert "Errand" not in REGISTRY.names()


def test_a_subclass_of_an_abstract_base_has_its_fields_and_settings() -> None:
    @dataclass
    class Fetch(Errand, name="fetch"):
        what: str = "tea"

        def run(self, ctx: Any) -> None: ...

    assert [each.name for each in fields(Fetch)] == ["room", "what"]
    assert REGISTRY.get("fetch").job_resumable is False
    check_job_type(Fetch)


@pytest.mark.parametrize(("job_type", "name"), [(Errand, f"{__name__}.Errand"), (Job, "callboard.jobs.job.Job")])
def test_of_an_abstract_class_no_job_can_be_submitted(job_type: type[Job], name: str) -> None:
    with pytest.raises(BadJobType) as caught:
        check_job_type(job_type)
    assert str(caught.value) == f"{name} is abstract; submit a job of a subclass without abstract=True"


def test_a_concrete_subclass_can_be_a_base_of_an_abstract_one() -> None:
    first = job_class(called="First")
    second = job_class({}, first, called="Second", abstract=True)
    check_job_type(first)
    with pytest.raises(BadJobType):
        check_job_type(second)


def test_run_of_an_abstract_class_says_that_it_is_missing() -> None:
    with pytest.raises(BadJobType, match=r"^Errand has no run\(self, ctx\)$"):
        Errand("hall").run(None)  # type: ignore[arg-type]


# --- the forgotten decorator: the codec refuses the job when it is submitted ---------------------------------------------


def test_a_class_without_the_decorator_is_refused_when_a_job_of_it_is_encoded() -> None:
    class Undecorated(Job):
        room: str = "hall"

        def run(self, ctx: Any) -> None: ...

    with pytest.raises(BadJobType, match=r"Undecorated is not a dataclass; decorate it with @dataclass$"):
        encode(Undecorated())


def test_a_field_added_without_the_decorator_is_refused_and_not_silently_lost() -> None:
    @dataclass
    class Decorated(Job):
        room: str = "hall"

        def run(self, ctx: Any) -> None: ...

    class Extended(Decorated):
        done: int = 0

    with pytest.raises(BadJobType, match=r"Extended\.done is no field, since the class is not decorated; decorate it with @dataclass$"):
        plan_of(Extended)


def test_a_subclass_without_fields_of_its_own_needs_no_decorator() -> None:
    @dataclass
    class Decorated(Job):
        rooms: list[str] = field(default_factory=list)

        def run(self, ctx: Any) -> None: ...

    class Quicker(Decorated):
        limit = 3

    assert decode(Quicker, encode(Quicker(["hall"]))) == Quicker(["hall"])


# --- being found ----------------------------------------------------------------------------------------------------------


def test_a_class_is_found_again_by_module_and_name_unless_it_is_local_or_shadowed() -> None:
    class Local: ...

    shadowed = type("Slotted", (), {"__module__": __name__})
    assert defined_in_module(Slotted)
    assert defined_in_module(House.Hall)
    assert not defined_in_module(Local)
    assert not defined_in_module(shadowed)
    assert not defined_in_module(type("Gone", (), {"__module__": "no_such_module"}))
