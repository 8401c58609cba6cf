"""The rate and the time left that people want of a copy: bytes a second, over the last 30 s of watching."""

from __future__ import annotations

from callboard.jobs.progress import Progress, ProgressGauge


class Pace:
    """Of one job that tells bytes as well as items. What was done before it was watched does not count."""

    def __init__(self) -> None:
        self._gauge = ProgressGauge()

    def take(self, progress: Progress, now: float) -> tuple[float | None, float | None]:
        """(bytes a second, seconds left) with this reading. Time left is the longer one of bytes and items: many small files are slow."""
        if progress.bytes_done is None or progress.done is None:
            return None, progress.eta
        if progress.phase != self._gauge.reading.phase:
            self._gauge.phase(progress.phase or "", {}, now)
        self._gauge.bytes(progress.bytes_done, progress.bytes_total, now)
        mine = self._gauge.reading
        known = [eta for eta in (mine.eta, progress.eta) if eta is not None]
        return mine.rate, max(known, default=None)
