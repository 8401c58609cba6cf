"""A job actor: runs the jobs it is dealt, one after another, on its own thread, and sends the store what became of each.

User code never runs bare on its stack: whatever comes out of `run`, also a SystemExit, becomes an outcome. The actor is kept: it takes one
hand of jobs after another.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pykka

from callboard.actors.actor import Actor, send
from callboard.actors.context import RunningContext
from callboard.actors.joblog import escaped
from callboard.actors.machine import Abandoned
from callboard.actors.messages import CheckpointLoaded, Commit, Committed, HandDone, LoadCheckpoint, Perform, Ref
from callboard.actors.ports import Ports
from callboard.actors.signal import Pulse
from callboard.actors.stage import Stage, memory_mb
from callboard.jobs.errors import CallboardError, NewerVersion, NotDecodable, NotEncodable, StoreUnavailable, UnknownJobType, error_text
from callboard.jobs.job import Job
from callboard.jobs.lifecycle import PAUSER_BITS, Event, Pauser
from callboard.jobs.outcome import Outcome, raised, returned
from callboard.persistence.checkpoints import StoredCheckpoint
from callboard.persistence.jobdata import encode_result, restore_job, retry_policy
from callboard.persistence.writes import Claimed, End, Leave, Part, Write

log = logging.getLogger("callboard.job")

ENDS_AT_ONCE = 256
"""Ends of quick jobs travel to the store together, at most so many …"""

ENDS_SECONDS = 0.005
"""… and at the latest after so long."""

ALIVE_SECONDS = 1.0
"""Who waits for the reader looks this often whether it is still there."""

UNREADABLE_SECONDS = 1.0
"""A job whose checkpoint cannot be read for now is tried again after so long."""

JOB_BIT, DISK_BIT = PAUSER_BITS[Pauser.JOB], PAUSER_BITS[Pauser.DISK]


class JobActor(Actor):
    """Takes `Perform`; everything else reaches it while a job runs, through its context."""

    stop_overtakes = True

    def __init__(self, ports: Ports, stage: Stage, pulse: Pulse, left: Callable[[Ref], None]) -> None:
        """`left` is called when no user code will ever run on this actor again."""
        super().__init__(ports, stage.library)
        self._stage = stage
        self._pulse = pulse
        self._left = left
        self._measured, self._measured_at = "", float("-inf")

    def receive(self, message: object, reply: pykka.Future[object] | None) -> None:
        if isinstance(message, Perform):
            self._perform_all(message)

    def stopped(self) -> None:
        self._left(self.actor_ref)

    def on_failure(self, exception_type: object, exception_value: BaseException | None, traceback: object) -> None:
        super().on_failure(exception_type, exception_value, traceback)
        self._left(self.actor_ref)

    # --- one hand ---------------------------------------------------------------------------------------------------

    def _perform_all(self, message: Perform) -> None:
        monotonic = self.ports.monotonic
        hand, pulse = message.hand, self._pulse
        ran: dict[str, tuple[int, float]] = {}
        sent_at = monotonic()
        while not self.inbox.stopping and (claimed := hand.take()) is not None:
            started = monotonic()
            pulse.looked_at, pulse.job_id = started, claimed.job_id
            pulse.ends.append(self._perform(claimed, started))
            now = monotonic()
            count, seconds = ran.get(claimed.name, (0, 0.0))
            ran[claimed.name] = (count + 1, seconds + now - started)
            if len(pulse.ends) >= ENDS_AT_ONCE or now - sent_at >= ENDS_SECONDS or not len(hand):
                self._send_ends()
                sent_at = now
        pulse.job_id = None
        pulse.ends.extend(Leave(claimed.job_id, claimed.claim, Event.RELEASE) for claimed in hand.take_back())
        self._send_ends()
        send(self._stage.library, HandDone(self.actor_ref, tuple((name, *counts) for name, counts in ran.items())))

    def _send_ends(self) -> None:
        ends = tuple(self._pulse.take_ends())
        if ends and not send(self._stage.store, Commit(ends, self._stage.library)):
            gone = StoreUnavailable("the library's store has stopped; open the library again")
            send(self._stage.library, Committed(ends, (gone,) * len(ends), ((0, 0),) * len(ends)))

    # --- one job ----------------------------------------------------------------------------------------------------

    def _perform(self, claimed: Claimed, started: float) -> Write:
        try:
            checkpoint = self._load_checkpoint(claimed) if claimed.has_checkpoint else None
            job = restore_job(claimed, checkpoint.fields() if checkpoint is not None else {})
        except Abandoned:
            raise
        except (UnknownJobType, NewerVersion) as error:
            return Leave(claimed.job_id, claimed.claim, Event.RELEASE, error_text(error))
        except StoreUnavailable as error:  # it is no fault of the job: later, not at once, or it would spin
            later = round((self.ports.wall() + UNREADABLE_SECONDS) * 1000)
            return Leave(claimed.job_id, claimed.claim, Event.RELEASE, error_text(error), later)
        except BaseException as error:  # noqa: BLE001 - an author's __post_init__ or upgrade may raise anything
            return Leave(claimed.job_id, claimed.claim, Event.POISON, f"it cannot be restored: {error_text(error)}")
        as_stored = claimed.version == type(job).job_version
        ctx = RunningContext(self.ports, self.inbox, self.actor_ref, self._stage, self._pulse, claimed, job, checkpoint, as_stored)
        try:
            outcome, result = self._run(job, ctx)
            return self._write(ctx, outcome, result)
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - a value in a field may raise anything as it is encoded, a host's log filter too
            ctx.settle()
            return End(claimed.job_id, claimed.claim, Event.FAIL, error=f"how it ended cannot be stored: {error_text(error)}")

    def _load_checkpoint(self, claimed: Claimed) -> StoredCheckpoint:
        """A visit to the inbox, as every wait. Control messages that come meanwhile are for the job and are put back by its context."""
        if not send(self._stage.reader, LoadCheckpoint(claimed.job_id, self.actor_ref)):
            raise StoreUnavailable("the library's reader has stopped")
        waiting: list[object] = []
        while True:
            envelope = self.inbox.next_past_stop(ALIVE_SECONDS)
            if envelope is None:
                if not self._stage.reader.is_alive():
                    raise StoreUnavailable("the library's reader has stopped")
                continue
            message = envelope.message
            if isinstance(message, CheckpointLoaded) and message.job_id == claimed.job_id:
                break
            waiting.append(message)
        for each in waiting:
            send(self.actor_ref, each)
        if message.checkpoint is None:
            raise NotDecodable(message.error) if message.error is not None else StoreUnavailable("its checkpoint could not be read now")
        return message.checkpoint

    def _run(self, job: Job, ctx: RunningContext) -> tuple[Outcome, bytes | None]:
        """Run user code, whatever it does; then see that none of its tasks outlives it."""
        result: bytes | None = None
        claimed = ctx.claimed
        try:
            self.ports.mark_run(True)
            try:
                value = job.run(ctx)
            finally:
                self.ports.mark_run(False)
            try:
                result = encode_result(value)
                outcome = returned(ctx.warned)
            except NotEncodable as error:
                outcome = Outcome(Event.FAIL, f"its result cannot be stored: {error}")
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit here must not stop every actor of the host
            kind = type(job)
            outcome = raised(
                error, ctx.asked, error is ctx.raised, kind.job_resumable, ctx.attempt, retry_policy(claimed, kind), self.ports.random()
            )  # fmt: skip
            if outcome.event in (Event.FAIL, Event.RETRY):
                # As text, which has a limit: the host's handlers would print all of a message of 100 MB.
                ctx.log.error("%s\n%s", escaped(outcome.error or ""), outcome.traceback_text)
            error.__traceback__ = None  # it holds the frames of user code, and with them whatever they hold
        ctx.settle()
        return outcome, result

    def _write(self, ctx: RunningContext, outcome: Outcome, result: bytes | None) -> Write:
        claimed, event = ctx.claimed, outcome.event
        ended = event in (Event.RETURN, Event.RETURN_WITH_ERRORS, Event.FAIL)
        parts: tuple[Part, ...] = ()
        if outcome.keep_state or (ended and event is not Event.RETURN and ctx.has_maps):
            try:
                parts = ctx.collect()
            except CallboardError as error:
                outcome = Outcome(Event.FAIL, f"its state cannot be stored: {error_text(error)}")
                event, ended = outcome.event, True
        ctx.tell_last()
        progress, ran = ctx.progress_blob(), round((self.ports.monotonic() - ctx.started) * 1000)
        warnings, warned = ctx.take_warnings(), ctx.warned
        if event is Event.RETRY:  # what was done since the last checkpoint is done again, and so are its warnings
            warnings, warned = (), ctx.saved_warned
        if ended:
            drop = event is Event.RETURN and (ctx.sequence > 0 or ctx.stored is not None)
            return End(
                claimed.job_id, claimed.claim, event, result if event is not Event.FAIL else None, outcome.error, outcome.traceback_text, ran,
                ctx.warned, self._metrics(), progress, drop, parts, ctx.sequence, warnings,
            )  # fmt: skip
        pauser = 0 if event is not Event.YIELD else DISK_BIT if ctx.asked == "disk" else JOB_BIT
        run_at = None if outcome.retry_after is None else round((self.ports.wall() + outcome.retry_after) * 1000)
        return Leave(
            claimed.job_id, claimed.claim, event, outcome.error, run_at, pauser, ran, warned, progress,
            parts, ctx.sequence, warnings, ctx.awaits if event is Event.AWAIT else None,
        )  # fmt: skip

    def _metrics(self) -> str:
        """As JSON. Asked of the system every tenth of a second at most: quick jobs would pay for it by the thousand."""
        now = self.ports.monotonic()
        if now - self._measured_at >= 0.1:
            self._measured, self._measured_at = json.dumps({"memory_mb": round(memory_mb(), 1)}), now
        return self._measured
