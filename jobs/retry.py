"""How often and how soon a job that raised runs again. The time of the next attempt is a row, never a sleep."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.jobs.errors import BadSubmission, shown

MAX_DELAY = 365 * 24 * 3600.0
"""No delay is longer than a year, in seconds: a slip of units should show."""

ATTEMPTS_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When `run` raises: up to `max_attempts` in all, waiting `first` seconds, then `factor` times longer each time, at most `longest`.

    `jitter` is the share of the delay that is drawn at random (1.0: anything between nothing and the full delay), so that jobs which
    failed together do not come back together. `RetryLater(after=…)` and `CriticalError` raised in `run` overrule it.

    Raises `BadSubmission` for a value out of its range.
    """

    max_attempts: int = 1
    first: float = 1.0
    factor: float = 2.0
    longest: float = 3600.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or not 1 <= self.max_attempts <= ATTEMPTS_MOST:
            raise BadSubmission(f"retry: max_attempts={shown(self.max_attempts)} is not an integer from 1 to {ATTEMPTS_MOST}")
        _within("first", self.first, 0.0, MAX_DELAY)
        _within("factor", self.factor, 1.0, 1000.0)
        _within("longest", self.longest, 0.0, MAX_DELAY)
        _within("jitter", self.jitter, 0.0, 1.0)

    def delay(self, attempt: int, chance: float) -> float | None:
        """Seconds to wait after `attempt` (1, 2, …) failed, `chance` being a number from [0, 1); None: no attempt is left."""
        if attempt >= self.max_attempts:
            return None
        try:
            full = min(self.longest, self.first * float(self.factor) ** (attempt - 1))
        except OverflowError:
            full = self.longest if self.first else 0.0
        return full * (1.0 - self.jitter * chance)


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise BadSubmission(f"retry: {name}={shown(value)} is not a number from {low:.0f} to {high:.0f}")


NO_RETRY = RetryPolicy()
