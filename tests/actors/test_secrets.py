"""A value that its author hides (`field(repr=False)`) is in no text that callboard makes: no error, no traceback, no repr, no log, no record."""

from __future__ import annotations

import logging
import socket
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from callboard import BatchSubmission, Job, JobContext, JobFailed, Library, NotEncodable, RetryPolicy, Runtime, Submission
from callboard.actors.control_socket import connect
from callboard.actors.messages import PlanBatch, Submit, SubmitBatch
from callboard.jobs.errors import NotDecodable
from callboard.jobs.lifecycle import Event
from callboard.persistence.checksum import job_checksum
from callboard.persistence.codec import construct, decode, decode_with, encode, encode_map, plan_of
from callboard.persistence.frames import REPLY, REQUEST, FrameReader, frame
from callboard.persistence.writes import Claimed, End, Insert, SaveCheckpoint

SECONDS = 100.0
CANARY = "hunter2"


@dataclass
class Login:
    user: str = "me"
    password: str = field(default="", repr=False)


@dataclass
class SecretUpload(Job, name="test_secrets.upload"):
    token: str = field(default=CANARY, repr=False)
    login: Login = field(default_factory=Login)
    headers: dict[str, Any] = field(default_factory=dict, repr=False)
    how: str = "returns"

    def run(self, ctx: JobContext) -> object:
        ctx.log.info("begins")
        ctx.warn("slow")
        ctx.report_phase("upload")
        if self.how == "raises":
            raise OSError("the server said no")
        if self.how == "spoils":
            self.headers = {CANARY: object()}
            ctx.checkpoint()
        return None


def texts_of(error: BaseException) -> str:
    """All that a handler could print of it, with the errors behind it."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error.args)


BAD: dict[str, dict[str, Any]] = {
    "a wrong type": {"token": 5, "headers": {}},
    "a lone surrogate": {"token": CANARY + "\ud800"},
    "inside": {"login": Login(password=(CANARY,))},  # type: ignore[arg-type]
    "a key": {"headers": {CANARY: object()}},
    "a key that cannot be": {"headers": {(CANARY,): 1}},
    "deep": {"headers": {CANARY: [[[CANARY + "\ud800"]]]}},
}


@pytest.mark.parametrize("what", BAD)
def test_an_error_of_a_hidden_field_names_the_field_and_not_the_value(what: str) -> None:
    job = SecretUpload(**{"token": CANARY, **BAD[what]})
    with pytest.raises(NotEncodable, match=r"\$\.(token|headers|login\.password): its value cannot be kept as .*declared with repr=False") as caught:
        encode(job)
    assert CANARY not in texts_of(caught.value)
    name = str(caught.value).partition("$.")[2].partition(":")[0].partition(".")[0]
    [plan] = [each for each in plan_of(SecretUpload).fields if each.name == name]
    with pytest.raises(NotEncodable) as caught:
        plan.encode(getattr(job, name))
    assert CANARY not in texts_of(caught.value)


def test_so_does_one_of_what_is_stored_or_said_by_name() -> None:
    stored = encode_map({"token": [CANARY], "how": "x"})
    with pytest.raises(NotDecodable, match=r"\$\.token: its value cannot be kept as str") as caught:
        decode(SecretUpload, stored)
    assert CANARY not in texts_of(caught.value)
    with pytest.raises(NotDecodable) as caught:
        decode_with(SecretUpload, encode(SecretUpload()), {"token": encode_map({CANARY: 1})})
    assert CANARY not in texts_of(caught.value)
    for fields in ({"token": [CANARY]}, {"login": {"password": [CANARY]}}, {"headers": [CANARY]}):
        with pytest.raises(NotEncodable) as caught:
            construct(SecretUpload, fields)
        assert CANARY not in texts_of(caught.value)


def test_what_is_not_hidden_is_still_shown() -> None:
    with pytest.raises(NotEncodable, match=r"\$\.how: expected str, got int 7"):
        encode(SecretUpload(how=7))  # type: ignore[arg-type]
    with pytest.raises(NotEncodable, match=r"\$\.login\.user: expected str, got int 7"):
        encode(SecretUpload(login=Login(user=7)))  # type: ignore[arg-type]


def test_no_repr_has_it() -> None:
    job = SecretUpload(login=Login(password=CANARY), headers={"a": CANARY})
    submission = Submission(job, key="k")
    [chunk] = SubmitBatch((job,)).chunks
    insert = Submit(job).insert
    raw = insert.data
    assert CANARY.encode() in raw
    claimed = Claimed(b"x" * 16, "n", 1, 1, 1, 0, False, False, 0, 0, 0, None, None, 0, None, raw, None, False)
    saved = SaveCheckpoint(b"x" * 16, 1, 1, (("field", "token", 0, raw),))
    ended = End(b"x" * 16, 1, Event.RETURN, raw)
    public = submission, Submit(submission), SubmitBatch((job,)), PlanBatch((job,)), BatchSubmission((job,))
    for each in (*public, chunk, insert, claimed, saved, ended):
        assert CANARY not in repr(each) and CANARY not in str(each)
    assert isinstance(insert, Insert) and repr(insert) == "<Insert test_secrets.upload>"


@contextmanager
def at_work(top: Path) -> Iterator[Library]:
    with Runtime(workers=1) as runtime:
        yield runtime.open_library(top / "library")


def from_outside(library: Library, request: dict[str, Any]) -> dict[str, Any]:
    found = connect(library.path, SECONDS)
    assert isinstance(found, socket.socket)
    with found:
        found.sendall(frame({"v": 1, "id": 1, **request}, REQUEST))
        reader, frames = FrameReader(REPLY), []
        while not frames:
            frames = reader.feed(found.recv(65_536))
        reply: dict[str, Any] = frames[0]
        return reply


def test_no_log_no_record_and_no_fact_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    with caplog.at_level(logging.DEBUG), at_work(tmp_path) as library:
        policy = RetryPolicy(max_attempts=2, first=0.0)
        jobs = [Submission(SecretUpload(how=how), retry=policy) for how in ("returns", "raises", "spoils")]
        handles = [library.submit(job) for job in jobs]
        for handle in handles:
            with suppress(JobFailed):
                handle.wait(SECONDS)
        outcome = library.submit_batch([SecretUpload(**BAD["a key"])], whole=False)
        said += [repr(outcome), repr(outcome[0]), repr(library.retry(handles[1].id).id)]
        said.append(repr(from_outside(library, {"do": "SubmitByName", "with": {"name": "test_secrets.upload", "fields": {"token": [CANARY]}}})))
        paused = library.submit(Submission(SecretUpload(), delay=1_000.0))
        paused.pause()
        said.append(repr(library.facts_since(library.epoch, 0)))
        said.append(repr(library.history().records) + repr(library.warnings(handles[1].id)))
    damaged = encode_map({"token": [CANARY]})
    with closing(sqlite3.connect(tmp_path / "library" / "jobs.db")) as connection:
        checksum = job_checksum("test_secrets.upload", 1, damaged)
        connection.execute("UPDATE jobs SET data = ?, checksum = ?, run_at = NULL WHERE id = ?", (damaged, checksum, paused.id))
        connection.commit()
    with caplog.at_level(logging.DEBUG), at_work(tmp_path) as library:
        library.resume(paused.id)
        for each in library.job(paused.id).updates(timeout=SECONDS):
            if each == "quarantined":
                break
        said.append(repr(library.record(paused.id)))
        assert "$.token: its value cannot be kept as str" in said[-1]
        logs = [path.read_text() for path in (library.path / "logs").iterdir()]
    assert logs and not any(CANARY in text for text in (*said, *logs, caplog.text))
    assert not any(CANARY in repr(record.args) for record in caplog.records)
