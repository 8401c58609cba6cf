"""How an author finds out whether a job may be killed: a newsletter that is sent twice to some, found by `crash_everywhere`; and the mended one.

Run it: `python examples/crash_tested.py`, with callboard[testing] installed. As a test it would be two lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from callboard import Job, JobContext
from callboard.actors.testing import UnsafeToRepeat, crash_everywhere

READERS = ("ann", "bob", "cem", "dan")


def send_mail(outbox: Path, reader: str) -> None:
    with (outbox / "sent").open("a") as sent:
        sent.write(f"{reader}\n")


@dataclass
class Newsletter(Job, name="newsletter"):
    readers: tuple[str, ...]
    sent: int = 0

    def run(self, ctx: JobContext) -> int:
        for reader in self.readers[self.sent :]:
            send_mail(ctx.services, reader)
            self.sent += 1
            ctx.checkpoint()
        return self.sent


@dataclass
class CarefulNewsletter(Job, name="careful_newsletter"):
    """A kill between the mail and its checkpoint sends that mail again, so it asks the outside whether it was sent."""

    readers: tuple[str, ...]
    sent: int = 0

    def run(self, ctx: JobContext) -> int:
        for reader in self.readers[self.sent :]:
            outbox = ctx.services / "sent"
            if not outbox.exists() or reader not in outbox.read_text().split():
                send_mail(ctx.services, reader)
            self.sent += 1
            ctx.checkpoint()
        return self.sent


if __name__ == "__main__":
    try:
        crash_everywhere(Newsletter(READERS))
    except UnsafeToRepeat as found:
        print(f"Newsletter: {found}")
    report = crash_everywhere(CarefulNewsletter(READERS))
    print(f"CarefulNewsletter: safe at each of {report.tried} places")
