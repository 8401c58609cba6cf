"""callboard: durable, resumable jobs for pykka actors. The names below are the public ones; README.md lists them."""

from callboard.jobs.errors import CriticalError, Interrupted, RetryLater

__all__ = [
    "CriticalError",
    "Interrupted",
    "RetryLater",
]
