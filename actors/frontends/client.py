"""A conversation with the owner of a library through its control socket: the same questions as a visit, and events besides."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callboard.actors.control_socket import connect
from callboard.actors.machine import Ports
from callboard.actors.named_items import Item
from callboard.jobs.errors import LibraryClosed, NoAnswer
from callboard.jobs.lifecycle import Status
from callboard.jobs.record import BatchRecord, JobFilter, JobRecord, Statistics, Warned
from callboard.jobs.submission import Submitted
from callboard.persistence.codec import encode
from callboard.persistence.frames import REPLY, REQUEST, FrameReader, error_of, frame, value_of

VERSION = 1
ANSWER_SECONDS = 30.0
"""An owner that does not answer for so long is given up."""
READ_BYTES = 1 << 18


class OwnerGone(LibraryClosed):
    """The process that had the library open has closed it, or died."""


class Client:
    """One connection. For one thread."""

    owned = True
    """Somebody runs the library's jobs."""

    def __init__(self, sock: socket.socket, ports: Ports) -> None:
        sock.settimeout(ANSWER_SECONDS)
        self._socket = sock
        self._ports = ports
        self._reader = FrameReader(REPLY)
        self._number = 0
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._events: deque[object] = deque()

    @classmethod
    def reach(cls, folder: Path, ports: Ports) -> Client | None:
        """A conversation with the library's owner; None if no process listens there. Raises `UnsafeLibrary`, `NoAnswer`."""
        try:
            sock = connect(folder, ANSWER_SECONDS)
        except TimeoutError:
            raise NoAnswer(f"the process that has {str(folder)!r} open takes no connection; is it stopped?") from None
        return None if sock is None else cls(sock, ports)

    def close(self) -> None:
        self._socket.close()

    # --- what a visit can do as well --------------------------------------------------------------------------------

    def record(self, job_id: bytes) -> JobRecord:
        """Raises `NoSuchJob`."""
        record: JobRecord = self._request("QueryJob", job_id=job_id)
        return record

    def page(self, wanted: JobFilter, *, ended: bool) -> tuple[JobRecord, ...]:
        """Live or ended jobs; their results are left out."""
        found: tuple[JobRecord, ...] = self._request("QueryJobs", filter=encode(wanted), ended=ended).records
        return found

    def warnings(self, job_id: bytes, after: int = 0, limit: int = 1000) -> tuple[Warned, ...]:
        found: tuple[Warned, ...] = self._request("QueryWarnings", job_id=job_id, after=after, limit=limit)
        return found

    def children(self, job_id: bytes) -> tuple[int, int]:
        """How many children of a job live, and how many have ended."""
        live, ended = self._request("QueryChildren", job_id=job_id)
        return live, ended

    def statistics(self) -> Statistics:
        found: Statistics = self._request("QueryStatistics")
        return found

    def pause(self, job_id: bytes) -> Status:
        return Status(self._request("PauseJob", job_id=job_id))

    def resume(self, job_id: bytes) -> Status:
        return Status(self._request("ResumeJob", job_id=job_id))

    def cancel(self, job_id: bytes) -> Status:
        return Status(self._request("CancelJob", job_id=job_id))

    def retry(self, job_id: bytes, ledger: str) -> Submitted:
        submitted: Submitted = self._request("RetryJob", job_id=job_id, ledger=ledger)
        return submitted

    def add_items(
        self, name: str, batch_id: bytes, start: int, items: Sequence[Item], options: Mapping[str, object], *, last: bool, plan: bool
    ) -> dict[str, Any]:
        """A part of a batch; answers as `named_items.part_view`."""
        view: dict[str, Any] = self._request(
            "AddItems", name=name, batch_id=batch_id, start=start, items=tuple(items), options=dict(options), last=last, plan=plan
        )
        return view

    def batch(self, batch_id: bytes) -> BatchRecord:
        """Raises `NoSuchJob`."""
        return BatchRecord(**self._request("QueryBatch", batch_id=batch_id))

    def batches(self, before: bytes | None, limit: int) -> tuple[BatchRecord, ...]:
        """The newest first."""
        return tuple(BatchRecord(**each) for each in self._request("QueryBatches", before=before, limit=limit))

    # --- what only an owner can do ----------------------------------------------------------------------------------

    def submit_and_follow(self, name: str, fields: Mapping[str, object], key: bytes, requested_by: str) -> Submitted:
        """Queue a job of a registered type from the values of its fields; `next_event` has what becomes of it."""
        submitted: Submitted = self._request(
            "SubmitByName", name=name, fields=dict(fields), key=key, requested_by=requested_by, follow=True
        )
        return submitted

    def follow(self, job_id: bytes) -> None:
        """Have the facts and readings of this job from now on; `next_event` has them."""
        self._request("Subscribe", job_id=job_id)

    def next_event(self, timeout: float | None, wakes: int) -> object | None:
        """The next `Fact`, `ProgressMade`, `FactsLost` or `LibraryDegraded`. None after `timeout` seconds, or as soon as the descriptor
        `wakes` can be read. Raises `OwnerGone`."""
        until = None if timeout is None else self._ports.monotonic() + timeout
        while not self._events:
            left = None if until is None else max(0.0, until - self._ports.monotonic())
            ready = select.select([self._socket.fileno(), wakes], [], [], left)[0]
            if self._socket.fileno() not in ready:
                return None
            self._read()
        return self._events.popleft()

    def _request(self, do: str, **fields: object) -> Any:
        self._number += 1
        number = self._number
        try:
            self._socket.sendall(frame({"v": VERSION, "id": number, "do": do, "with": fields}, REQUEST))
        except TimeoutError:
            raise NoAnswer(f"{do}: the library's owner reads nothing; is it stopped?") from None
        except OSError as error:
            self._read_last_words()
            raise OwnerGone(f"{do}: the process that had the library open has gone ({error.strerror}); try again") from None
        until = self._ports.monotonic() + ANSWER_SECONDS
        while number not in self._answers:
            left = until - self._ports.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise NoAnswer(f"{do}: the library's owner has not answered within {ANSWER_SECONDS:g} s; it may still be carried out")
            self._read()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise error_of(answer["error"])
        return value_of(answer.get("ok"))

    def _read_last_words(self) -> None:
        """Whoever is sent away is told why before the door is shut; raise it, if so."""
        try:
            while True:
                self._read()
        except OwnerGone:
            return

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise OwnerGone("the process that had the library open has closed it, or died; try again")
        for content in self._reader.feed(data):
            if "event" in content:
                self._events.append(value_of(content["event"]))
            elif content.get("id") == 0:
                raise error_of(content.get("error"))
            else:
                self._answers[content.get("id", 0)] = content
