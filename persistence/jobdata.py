"""A job as bytes and back: what a submission stores, what a claim restores, what a checkpoint has to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from callboard.jobs.errors import NewerVersion, NotDecodable, NotEncodable, error_text
from callboard.jobs.identity import id_text
from callboard.jobs.job import Job, check_job_type
from callboard.jobs.registry import REGISTRY, Registry, upgrade
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.submission import OnDuplicate, Priority, Submission, key_bytes
from callboard.persistence.checksum import is_jobs_checksum
from callboard.persistence.codec import (
    CHECKPOINT,
    FieldPlan,
    construct,
    decode,
    decode_map,
    decode_value,
    decode_with,
    encode,
    encode_map,
    encode_value,
    plan_of,
)  # fmt: skip
from callboard.persistence.writes import Claimed, Insert


def new_job(submission: Submission | Job) -> Insert:
    """The row of a submission. Raises `NotEncodable` or `BadJobType` with the path to what cannot be stored."""
    job = submission if isinstance(submission, Job) else submission.job
    kind = type(job)
    check_job_type(kind)
    if isinstance(submission, Job):
        return Insert(kind.job_name, kind.job_version, encode(job), resumable=kind.job_resumable)
    return Insert(
        kind.job_name,
        kind.job_version,
        encode(job),
        priority=int(Priority.NORMAL) if submission.priority is None else int(submission.priority),
        key=None if submission.key is None else key_bytes(submission.key),
        group=submission.group,
        run_at_ms=None if submission.run_at is None else round(submission.run_at * 1000),
        delay_ms=None if submission.delay is None else round(submission.delay * 1000),
        resumable=kind.job_resumable,
        retry=None if submission.retry is None else json.dumps(asdict(submission.retry)),
        tags=submission.tags or (),
        requested_by=submission.requested_by,
        on_duplicate=submission.on_duplicate or OnDuplicate.SKIP,
    )


def job_by_name(name: str, fields: Mapping[str, object], registry: Registry = REGISTRY) -> Job:
    """A job from its registered name and plain values, to be submitted as any other, alone or in a batch. Raises `UnknownJobType`, or what the
    codec raises, naming the field."""
    job = construct(registry.get(name), dict(fields))
    assert isinstance(job, Job)
    return job


def retry_policy(claimed: Claimed, job_type: type[Job]) -> RetryPolicy:
    """The submission's own policy, else the class's. Raises `NotDecodable`; not for a job that `restore_job` has restored."""
    if claimed.retry is None:
        return job_type.job_retry
    try:
        return RetryPolicy(**json.loads(claimed.retry))
    except (ValueError, TypeError) as error:
        raise NotDecodable(f"job {id_text(claimed.job_id)}: its retry policy is damaged: {error_text(error, 200)}") from None


SAVED_AS = ""
"""No field has this name. Under it a checkpoint says (version, fields) if it was saved by a newer version than the job was submitted by."""


def restore_job(claimed: Claimed, saved: Mapping[str, bytes], registry: Registry = REGISTRY) -> Job:
    """The job as last saved: its fields as submitted, with those over them that a checkpoint has written.

    After an upgrade the first checkpoint has all fields, and says so; what was submitted, and what an older version saved, is history.
    Raises `NotDecodable` for damage, `UnknownJobType` and `NewerVersion` for what this process cannot run.
    """
    check = claimed.checksum
    if check is not None and not is_jobs_checksum(check, claimed.job_id, claimed.name, claimed.version, claimed.data):
        raise NotDecodable(f"job {id_text(claimed.job_id)}: what is stored of it is damaged (its checksum differs)")
    job_type = registry.get(claimed.name)
    retry_policy(claimed, job_type)
    if claimed.version > job_type.job_version:
        raise NewerVersion(f"{claimed.name!r}: stored as version {claimed.version}, this code has version {job_type.job_version}")
    version, data = claimed.version, claimed.data
    if SAVED_AS in saved:
        version, saved = _newest_fields(claimed, saved)
        data = encode_map({})
    if version > job_type.job_version:
        raise NotDecodable(
            f"job {id_text(claimed.job_id)}: its checkpoint is of version {version} of {claimed.name!r}, this code has version"
            f" {job_type.job_version}; upgrade the code, then resume the job"
        )
    if version < job_type.job_version:
        return _upgraded(claimed, job_type, version, data, saved)
    job = decode_with(job_type, data, saved, CHECKPOINT) if saved else decode(job_type, data, CHECKPOINT)
    assert isinstance(job, Job)
    return job


def _newest_fields(claimed: Claimed, saved: Mapping[str, bytes]) -> tuple[int, dict[str, bytes]]:
    """The version of a checkpoint that has all fields, and these without what an older one left."""
    try:
        version, names = decode_value(saved[SAVED_AS], CHECKPOINT)
        return int(version), {name: saved[name] for name in names}
    except (TypeError, ValueError, KeyError) as error:
        raise NotDecodable(f"job {id_text(claimed.job_id)}: its checkpoint lacks a field that it says it has: {error}") from None


def _upgraded(claimed: Claimed, job_type: type[Job], version: int, data: bytes, saved: Mapping[str, bytes]) -> Job:
    fields = decode_map(data, CHECKPOINT)
    for name, blob in saved.items():
        try:
            fields[name] = decode_value(blob, CHECKPOINT)
        except NotDecodable as error:
            raise NotDecodable(f"job {id_text(claimed.job_id)}: field {name} of its checkpoint: {error}") from None
    try:
        job = construct(job_type, upgrade(job_type, version, fields))
    except NotEncodable as error:
        raise NotDecodable(f"{claimed.name!r}: what its upgrade from version {version} made does not fit: {error}") from error
    assert isinstance(job, Job)
    return job


class SavedFields:
    """Knows which fields of a job have changed since they were last saved.

    A field whose declared type is immutable and that still holds the very same object is not even encoded.
    """

    def __init__(self, job: Job, *, as_stored: bool) -> None:
        """`as_stored`: what is stored is what the job's fields hold now (False after an upgrade: save all of them once)."""
        self._job = job
        self._fields = plan_of(type(job)).fields
        self._objects: dict[str, object] = {}
        self._blobs: dict[str, bytes] = {}
        self._saved_as = b"" if as_stored else encode_value((type(job).job_version, tuple(field.name for field in self._fields)))
        if as_stored:
            self._objects = {field.name: getattr(job, field.name) for field in self._fields if field.immutable}

    def changed(self) -> list[tuple[str, bytes]]:
        """(field, encoded value) of those to be saved; they count as saved from now on. Raises `NotEncodable`; then none does."""
        encoded: list[tuple[FieldPlan, object, bytes]] = []
        for field in self._fields:
            value = getattr(self._job, field.name)
            if field.immutable and field.name in self._objects and self._objects[field.name] is value:
                continue
            encoded.append((field, value, field.encode(value)))
        changes = [(field.name, blob) for field, _, blob in encoded if self._blobs.get(field.name) != blob]
        if self._saved_as and self._blobs.get(SAVED_AS) != self._saved_as:
            changes.append((SAVED_AS, self._saved_as))
        self._objects.update((field.name, value) for field, value, _ in encoded if field.immutable)
        self._blobs.update(changes)
        return changes

    def forget(self) -> None:
        """A save has failed: everything is to be saved again."""
        self._objects.clear()
        self._blobs.clear()


def encode_result(value: object) -> bytes | None:
    """What `run` returned; None stays None. Raises `NotEncodable`."""
    return None if value is None else encode_value(value)


def decode_result(blob: bytes | None) -> object:
    """What `encode_result` stored; a dataclass comes back as a dict of its fields. Raises `NotDecodable`."""
    return None if blob is None else decode_value(blob)
