"""A job as bytes and back: what a submission stores, what a claim restores, what a checkpoint has to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from callboard.jobs.errors import NewerVersion, NotDecodable
from callboard.jobs.identity import id_text
from callboard.jobs.job import Job
from callboard.jobs.registry import REGISTRY, Registry, upgrade
from callboard.jobs.retry import RetryPolicy
from callboard.jobs.submission import Submission, key_bytes
from callboard.persistence.checksum import checksum
from callboard.persistence.codec import (
    CHECKPOINT,
    FieldPlan,
    construct,
    decode,
    decode_map,
    decode_value,
    decode_with,
    encode,
    encode_value,
    plan_of,
)  # fmt: skip
from callboard.persistence.writes import Claimed, Insert


def new_job(submission: Submission | Job) -> Insert:
    """The row of a submission. Raises `NotEncodable` or `BadJobType` with the path to what cannot be stored."""
    job = submission if isinstance(submission, Job) else submission.job
    kind = type(job)
    plain = Insert(kind.job_name, kind.job_version, encode(job), resumable=kind.job_resumable)
    if isinstance(submission, Job):
        return plain
    return Insert(
        plain.name,
        plain.version,
        plain.data,
        priority=int(submission.priority),
        key=None if submission.key is None else key_bytes(submission.key),
        group=submission.group,
        run_at_ms=None if submission.run_at is None else round(submission.run_at * 1000),
        delay_ms=None if submission.delay is None else round(submission.delay * 1000),
        resumable=plain.resumable,
        retry=None if submission.retry is None else json.dumps(asdict(submission.retry)),
        tags=submission.tags,
        requested_by=submission.requested_by,
    )


def job_by_name(name: str, fields: Mapping[str, object], registry: Registry = REGISTRY) -> Job:
    """A job from its registered name and plain values. Raises `UnknownJobType`, or what the codec raises, naming the field."""
    job = construct(registry.get(name), dict(fields))
    assert isinstance(job, Job)
    return job


def retry_policy(claimed: Claimed, job_type: type[Job]) -> RetryPolicy:
    """The submission's own policy, else the class's."""
    return job_type.job_retry if claimed.retry is None else RetryPolicy(**json.loads(claimed.retry))


def restore_job(claimed: Claimed, saved: Mapping[str, bytes], registry: Registry = REGISTRY) -> Job:
    """The job as last saved: its fields as submitted, with those over them that a checkpoint has written.

    Raises `NotDecodable` for damage, `UnknownJobType` and `NewerVersion` for what this process cannot run.
    """
    if claimed.checksum != checksum(claimed.job_id, claimed.name, claimed.version, claimed.data):
        raise NotDecodable(f"job {id_text(claimed.job_id)}: what is stored of it is damaged (its checksum differs)")
    job_type = registry.get(claimed.name)
    if claimed.version == job_type.job_version:
        job = decode_with(job_type, claimed.data, saved, CHECKPOINT) if saved else decode(job_type, claimed.data, CHECKPOINT)
    elif claimed.version > job_type.job_version:
        raise NewerVersion(f"{claimed.name!r}: stored as version {claimed.version}, this code has version {job_type.job_version}")
    else:
        fields = decode_map(claimed.data, CHECKPOINT)
        fields.update((name, decode_value(blob, CHECKPOINT)) for name, blob in saved.items())
        job = construct(job_type, upgrade(job_type, claimed.version, fields))
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
        if as_stored:
            self._objects = {field.name: getattr(job, field.name) for field in self._fields if field.immutable}

    def changed(self) -> list[tuple[str, bytes]]:
        """(field, encoded value) of those to be saved; they count as saved from now on. Raises `NotEncodable`; then none does."""
        changes: list[tuple[FieldPlan, object, bytes]] = []
        for field in self._fields:
            value = getattr(self._job, field.name)
            if field.immutable and field.name in self._objects and self._objects[field.name] is value:
                continue
            blob = field.encode(value)
            if self._blobs.get(field.name) != blob:
                changes.append((field, value, blob))
        for field, value, blob in changes:
            self._blobs[field.name] = blob
            if field.immutable:
                self._objects[field.name] = value
        return [(field.name, blob) for field, _, blob in changes]

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
