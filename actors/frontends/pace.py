"""A reading with the rate that people want: bytes a second where bytes are told, over the last 30 s of watching."""

from __future__ import annotations

from dataclasses import replace

from callboard.jobs.progress import Progress, ProgressGauge


class Pace:
    """Of one job. What was done before it was watched does not count."""

    def __init__(self) -> None:
        self._gauge = ProgressGauge()

    def of(self, progress: Progress, now: float) -> Progress:
        """The reading, its `rate` in bytes a second and its `eta` the longer one of bytes and items, where both are told."""
        if progress.bytes_done is None or progress.done is None:
            return progress
        if progress.phase != self._gauge.reading.phase:
            self._gauge.phase(progress.phase or "", {}, now)
        self._gauge.bytes(progress.bytes_done, progress.bytes_total, now)
        mine = self._gauge.reading
        known = [eta for eta in (mine.eta, progress.eta) if eta is not None]
        return replace(progress, rate=mine.rate, eta=max(known) if known else None)
