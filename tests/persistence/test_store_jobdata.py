"""A job as bytes and back: over versions, over damage, and only what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from bench import Bench, save

from callboard.jobs.errors import BadSubmission, NewerVersion, NotDecodable, NotEncodable, UnknownJobType
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import Event
from callboard.jobs.registry import REGISTRY, Registry
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.submission import Submission
from callboard.persistence.checkpoints import encode_head
from callboard.persistence.checksum import checksum
from callboard.persistence.codec import encode_value
from callboard.persistence.jobdata import (
    SAVED_AS,
    SavedFields,
    decode_result,
    encode_result,
    job_by_name,
    new_job,
    restore_job,
    retry_policy,
)
from callboard.persistence.writes import Claimed, Insert, Leave

HEAD = ("head", "", 0, encode_head(None, 0))
JOB_ID = b"j" * 16


class Mode(Enum):
    FAST = 1
    SLOW = 2


@dataclass(frozen=True)
class Place:
    path: Path
    size: int = 0


class Silent(Job, abstract=True):
    def run(self, ctx: object) -> object:
        return None


@dataclass
class Sort(Silent, name="test_store_jobdata.sort", version=1, retry=RetryPolicy(max_attempts=3)):
    photos: tuple[Path, ...]
    mode: Mode = Mode.FAST
    place: Place = Place(Path("/x"))
    seen: set[int] = field(default_factory=set)
    notes: dict[str, list[int]] = field(default_factory=dict)
    done: int = 0


def claimed_of(write: Insert, **more: Any) -> Claimed:
    data_sum = checksum(write.name, write.version, write.data)
    whole = Claimed(JOB_ID, write.name, write.version, 1, 1, 0, False, False, 0, 0, 0, None, write.retry, 0, None, write.data, data_sum, False)
    return whole._replace(**more)


def only(*types: type[Job]) -> Registry:
    registry = Registry()
    for job_type in types:
        registry.add(job_type)
    return registry


# --- submitting -------------------------------------------------------------------------------------------------------


def test_a_submission_becomes_a_row(tmp_path: Path) -> None:
    job = Sort((Path("a"),))
    policy = RetryPolicy(max_attempts=2, first=0.5)
    write = new_job(
        Submission(job, key="ké", group="g", priority=3, run_at=1.0005, retry=policy, tags=("a", "a", "b"), requested_by="who")
    )
    assert write == Insert(
        "test_store_jobdata.sort", 1, new_job(job).data, priority=3, key="ké".encode(), group="g", run_at_ms=1000,
        retry='{"max_attempts": 2, "first": 0.5, "factor": 2.0, "longest": 3600.0, "jitter": 0.5}', tags=("a", "b"), requested_by="who",
    )  # fmt: skip
    assert new_job(Submission(job, delay=2.5)).delay_ms == 2500
    assert new_job(job) == Insert("test_store_jobdata.sort", 1, write.data)
    assert retry_policy(claimed_of(write), Sort) == policy
    assert retry_policy(claimed_of(new_job(job)), Sort) is Sort.job_retry


def test_a_job_that_cannot_be_stored_is_refused_by_the_path_to_what_cannot() -> None:
    with pytest.raises(NotEncodable, match=r"\$\.photos\[0\]"):
        new_job(Sort(("no path",)))  # type: ignore[arg-type]
    with pytest.raises(BadSubmission, match="key"):
        Submission(Sort(()), key="")


def test_a_job_by_name_is_made_of_plain_values() -> None:
    job = job_by_name("test_store_jobdata.sort", {"photos": ["a", "b"], "mode": "SLOW", "place": {"path": "/y"}})
    assert job == Sort((Path("a"), Path("b")), Mode.SLOW, Place(Path("/y")))
    with pytest.raises(UnknownJobType, match="did you mean"):
        job_by_name("test_store_jobdata.sor", {})
    with pytest.raises(NotEncodable, match="phots"):
        job_by_name("test_store_jobdata.sort", {"phots": []})


# --- restoring --------------------------------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_was_submitted_with_what_was_saved_over_it() -> None:
    job = Sort((Path("a"),), seen={1}, notes={"n": [1]})
    claimed = claimed_of(new_job(job))
    assert restore_job(claimed, {}) == job
    saved = SavedFields(job, as_stored=True)
    job.done, job.mode = 5, Mode.SLOW
    job.seen.add(2)
    job.notes["n"].append(2)
    assert restore_job(claimed, dict(saved.changed())) == job


@pytest.mark.parametrize("change", [{"data": b"\x80"}, {"version": 2}, {"name": "other"}, {"checksum": b"00000000"}])
def test_a_damaged_row_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(NotDecodable, match="damaged"):
        restore_job(claimed_of(new_job(Sort(())), **change), {})


def test_a_payload_that_has_got_into_another_jobs_row_is_refused(tmp_path: Path) -> None:
    """As when two overflow pages of rows that begin alike are swapped: name, version, data and checksum fit one another."""
    with Bench(tmp_path) as bench:
        one, other = bench.do(new_job(Sort((Path("a"),)))).job_id, bench.do(new_job(Sort((Path("b"),)))).job_id
        rows = {job_id: (bench.row(job_id)["data"], bench.row(job_id)["checksum"]) for job_id in (one, other)}
        for job_id, (data, check) in zip((other, one), rows.values(), strict=True):
            bench.con.execute("UPDATE jobs SET data = ?, checksum = ? WHERE id = ?", (data, check, job_id))
        bench.read_back()
        swapped = bench.claim()
        for claimed in swapped:
            with pytest.raises(NotDecodable, match="its checksum differs"):
                restore_job(claimed, {})
        claimed = swapped[0]
        # A row of before the id was looked at is what it was.
        assert restore_job(claimed._replace(checksum=claimed.checksum[:8] if claimed.checksum else b""), {})


@pytest.mark.parametrize("retry", ["{", "5", "[]", '{"max_attempts": 0}', '{"what": 1}', '{"first": "soon"}', "\ufffd"])
def test_a_damaged_retry_policy_is_refused_before_the_job_runs(retry: str) -> None:
    with pytest.raises(NotDecodable, match="retry policy is damaged"):
        restore_job(claimed_of(new_job(Sort(())), retry=retry), {})


def test_a_saved_field_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(NotDecodable, match=r"\$\.done"):
        restore_job(claimed_of(new_job(Sort(()))), {"done": encode_value("five")})
    with pytest.raises(NotDecodable, match=r"\$\.done"):
        restore_job(claimed_of(new_job(Sort(()))), {"done": b"\xc1"})


def test_what_this_process_cannot_run_is_told_from_what_is_damaged() -> None:
    write = new_job(Sort(()))
    with pytest.raises(UnknownJobType):
        restore_job(claimed_of(write), {}, Registry())
    with pytest.raises(NewerVersion, match="stored as version 2, this code has version 1"):
        restore_job(claimed_of(write._replace(version=2)), {})


# --- upgrades ---------------------------------------------------------------------------------------------------------

NAME = "test_store_jobdata.moving"


def moving(version: int) -> type[Job]:
    """The class as it was in each version, and how it gets there from the one before."""

    def to_two(old: dict[str, Any]) -> dict[str, Any]:
        old["total"] = old.pop("count") * 10
        old["paths"] = [[path, 0] for path in old.pop("files")]
        return old

    def to_three(old: dict[str, Any]) -> dict[str, Any]:
        assert set(old) == {"total", "paths", "mode", "marks"}, "what an older version left has come along"
        return {**old, "count": f"{old['total']} in all", "paths": [path for path, _ in old["paths"]]}

    @dataclass
    class One(Silent, name="test_store_jobdata.one"):
        files: tuple[Path, ...]
        count: int = 0
        mode: Mode = Mode.FAST
        marks: set[int] = field(default_factory=set)

    @dataclass
    class Two(Silent, name="test_store_jobdata.two"):
        paths: list[tuple[Path, int]]
        total: int = 0
        mode: Mode = Mode.FAST
        marks: set[int] = field(default_factory=set)

    @dataclass
    class Three(Silent, name="test_store_jobdata.three"):
        paths: tuple[Path, ...]
        count: str
        total: int = 0
        mode: Mode = Mode.FAST
        marks: set[int] = field(default_factory=set)

    found: type[Job] = (One, Two, Three)[version - 1]
    found.job_name, found.job_version = NAME, version
    found.job_upgrades = {step: function for step, function in {1: to_two, 2: to_three}.items() if step < version}
    return found


def values(job: Job) -> dict[str, Any]:
    return {one.name: getattr(job, one.name) for one in fields(job)}  # type: ignore[arg-type]


FILES = (Path("a"), Path("b\udcff"))


def test_what_was_submitted_and_saved_by_an_older_version_is_upgraded_together() -> None:
    one = moving(1)(FILES, marks={1})  # type: ignore[call-arg]
    claimed = claimed_of(new_job(one))
    saved = SavedFields(one, as_stored=True)
    one.count, one.mode, one.marks = 7, Mode.SLOW, {1, 2}  # type: ignore[attr-defined]
    blobs = dict(saved.changed())
    two = restore_job(claimed, blobs, only(moving(2)))
    assert values(two) == {"paths": [(path, 0) for path in FILES], "total": 70, "mode": Mode.SLOW, "marks": {1, 2}}
    three = restore_job(claimed, blobs, only(moving(3)))
    assert values(three) == {"paths": FILES, "count": "70 in all", "total": 70, "mode": Mode.SLOW, "marks": {1, 2}}


def test_a_checkpoint_after_an_upgrade_is_read_as_of_its_own_version(tmp_path: Path) -> None:
    """The row stays of the version that submitted it; renamed fields must not come back as they were before the upgrade."""
    with Bench(tmp_path) as bench:
        one = moving(1)(FILES)  # type: ignore[call-arg]
        job_id = bench.do(new_job(one)).job_id

        def run(sequence: int, version: int, **changes: Any) -> dict[str, Any]:
            """One run by code of that version; what it found."""
            [claimed] = bench.claim()
            saved = bench.reader().checkpoint(job_id).fields()
            job = restore_job(claimed, saved, only(moving(version)))
            found = values(job)
            fields_saved = SavedFields(job, as_stored=claimed.version == version)
            for name, value in changes.items():
                setattr(job, name, value)
            bench.do(save(claimed, sequence, HEAD, *(("field", name, 0, blob) for name, blob in fields_saved.changed())))
            bench.do(Leave(job_id, claimed.claim, Event.RELEASE))
            return found

        assert run(1, 1, count=7)["count"] == 0
        assert run(2, 2, total=75)["total"] == 70
        assert run(3, 2, marks={9})["total"] == 75
        assert run(4, 3, total=80) == {
            "paths": FILES,
            "count": "75 in all",
            "total": 75,
            "mode": Mode.FAST,
            "marks": {9},
        }
        assert run(5, 3) == {"paths": FILES, "count": "75 in all", "total": 80, "mode": Mode.FAST, "marks": {9}}
        # Code that is older than the checkpoint must not run it, nor pass it over for ever: a person is told.
        [claimed] = bench.claim()
        with pytest.raises(NotDecodable, match="its checkpoint is of version 3.*upgrade the code, then resume"):
            restore_job(claimed, bench.reader().checkpoint(job_id).fields(), only(moving(1)))


def test_upgrades_that_go_wrong_say_which() -> None:
    claimed = claimed_of(new_job(moving(1)(FILES)))  # type: ignore[call-arg]

    def upgraded_by(upgrades: Mapping[int, Any]) -> None:
        kind = moving(2)
        kind.job_upgrades = upgrades
        restore_job(claimed, {}, only(kind))

    for upgrades, why in [
        ({}, "no upgrade from version 1"), ({1: lambda old: 1 / 0}, "from version 1 raised ZeroDivisionError"), ({1: lambda old: None}, "not a dict"),
        ({1: lambda old: old}, "from version 1 made does not fit.*files"), ({1: lambda old: {"paths": "x"}}, r"does not fit.*\$\.paths"),
    ]:  # fmt: skip
        with pytest.raises(NotDecodable, match=why):
            upgraded_by(upgrades)


def test_a_saved_field_that_is_damaged_is_named_before_the_upgrade_sees_it() -> None:
    claimed = claimed_of(new_job(moving(1)(FILES)))  # type: ignore[call-arg]
    with pytest.raises(NotDecodable, match="field count of its checkpoint"):
        restore_job(claimed, {"count": b"\xc1"}, only(moving(2)))


@pytest.mark.parametrize("said", [b"\xc1", encode_value(5), encode_value((2, ("total",))), encode_value(("two", ())), encode_value((2, 5))])
def test_a_checkpoint_that_says_nonsense_of_itself_is_refused(said: bytes) -> None:
    claimed = claimed_of(new_job(moving(1)(FILES)))  # type: ignore[call-arg]
    with pytest.raises(NotDecodable):
        restore_job(claimed, {SAVED_AS: said}, only(moving(2)))


# --- what has changed -------------------------------------------------------------------------------------------------


class Counted:
    """Counts how often each field is encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from callboard.persistence.plan import FieldPlan

        self.encoded: list[str] = []
        encode = FieldPlan.encode

        def counting(plan: FieldPlan, value: object) -> bytes:
            self.encoded.append(plan.name)
            return encode(plan, value)

        monkeypatch.setattr(FieldPlan, "encode", counting)

    def of(self, saved: SavedFields) -> tuple[list[str], list[str]]:
        """(fields to be saved, fields encoded to find that out)"""
        self.encoded.clear()
        return [name for name, _ in saved.changed()], self.encoded.copy()


MUTABLE = ["seen", "notes"]


def test_what_cannot_have_changed_is_not_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Sort((Path("a"),), seen={1})
    saved, counted = SavedFields(job, as_stored=True), Counted(monkeypatch)
    assert counted.of(saved) == (MUTABLE, MUTABLE)  # what is stored of these is not known
    assert counted.of(saved) == ([], MUTABLE)
    job.done = 1
    job.seen.add(2)
    assert counted.of(saved) == (["seen", "done"], [*MUTABLE, "done"])
    assert counted.of(saved) == ([], MUTABLE)


def test_an_equal_value_in_another_object_is_encoded_once_and_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Sort(tuple([Path("a")]))
    saved, counted = SavedFields(job, as_stored=True), Counted(monkeypatch)
    job.photos = tuple([Path("b")])
    assert counted.of(saved) == (["photos", *MUTABLE], ["photos", *MUTABLE])
    job.photos = tuple([Path("b")])
    assert counted.of(saved) == ([], ["photos", *MUTABLE])
    assert counted.of(saved) == ([], MUTABLE)
    job.seen, job.notes = set(), {}
    assert counted.of(saved) == ([], MUTABLE)


def test_after_a_save_that_failed_everything_is_saved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Sort((Path("a"),))
    everything = [one.name for one in fields(job)]
    for as_stored in (True, False):
        saved, counted = SavedFields(job, as_stored=as_stored), Counted(monkeypatch)
        saved.changed()
        saved.forget()
        assert counted.of(saved)[0] == everything + ([] if as_stored else [SAVED_AS])
        assert counted.of(saved) == ([], MUTABLE)


def test_a_value_that_cannot_be_stored_leaves_all_to_be_saved() -> None:
    job = Sort((Path("a"),))
    saved = SavedFields(job, as_stored=True)
    saved.changed()
    job.photos, job.done = (Path("b"),), "many"  # type: ignore[assignment]
    with pytest.raises(NotEncodable, match=r"\$\.done"):
        saved.changed()
    job.done = 1
    assert [name for name, _ in saved.changed()] == ["photos", "done"]


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 5, "text", (1, 2), {"a": [Path("x")]}, b"", {1, 2}])
def test_a_result_comes_back(value: object) -> None:
    assert decode_result(encode_result(value)) == value


def test_a_result_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(NotEncodable):
        encode_result(object())
    assert decode_result(encode_result(Place(Path("x")))) == {"path": Path("x"), "size": 0}


def test_the_test_types_are_registered_once() -> None:
    assert REGISTRY.get("test_store_jobdata.sort") is Sort
