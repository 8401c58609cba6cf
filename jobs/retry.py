"""How often and how soon a job that raised runs again. The time of the next attempt is a row, never a sleep."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.jobs.errors import BadSubmission

MAX_DELAY = 365 * 24 * 3600.0
"""No delay is longer than a year, in seconds: a slip of units should show."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When `run` raises: up to `max_attempts` in all, waiting `first` seconds, then `factor` times longer each time, at most `longest`.

    `jitter` is the share of the delay that is drawn at random (1.0: anything between nothing and the full delay), so that jobs which
    failed together do not come back together. `RetryLater(after=…)` and `CriticalError` raised in `run` overrule it.
    """

    max_attempts: int = 1
    first: float = 1.0
    factor: float = 2.0
    longest: float = 3600.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        _within("max_attempts", self.max_attempts, 1, 1_000_000)
        _within("first", self.first, 0.0, MAX_DELAY)
        _within("factor", self.factor, 1.0, 1000.0)
        _within("longest", self.longest, 0.0, MAX_DELAY)
        _within("jitter", self.jitter, 0.0, 1.0)

    def delay(self, attempt: int, chance: float) -> float | None:
        """Seconds to wait after `attempt` (1, 2, …) failed, `chance` being a number from [0, 1); None: no attempt is left."""
        if attempt >= self.max_attempts:
            return None
        full = self.longest
        if attempt < 1000:  # beyond that factor ** attempt may overflow, and `longest` has been reached anyhow
            full = min(self.longest, self.first * self.factor ** (attempt - 1))
        return full * (1.0 - self.jitter * chance)



def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise BadSubmission(f"retry: {name}={value!r} is not a number from {low:g} to {high:g}")


NO_RETRY = RetryPolicy()
