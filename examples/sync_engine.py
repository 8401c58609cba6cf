"""A sync engine: the difference of two listings is queued as one batch of 50,000 actions, by message from an actor; while these run, another
listing arrives, and its batch supersedes what has changed again. `python examples/sync_engine.py [FILES]`."""

import sys
import tempfile
import threading
from dataclasses import dataclass

import pykka

from callboard import BatchOutcome, BatchSubmission, Job, JobContext, OnDuplicate, Runtime, Submission
from callboard.actors.messages import Answered, Ref, SubmitBatch
from callboard.jobs.events import BatchEnded, BatchSubmitted

Listing = dict[str, str]
"""Path → what is in it, as its etag."""


@dataclass
class Upload(Job, name="upload"):
    path: str
    etag: str

    def run(self, ctx: JobContext) -> None:
        ctx.check_interrupt()  # here the file would go to the bucket


def diff(there: Listing, here: Listing) -> list[Submission]:
    """What has to be uploaded. The path is the key: of one file at most one action is wanted, the newest."""
    return [Submission(Upload(path, etag), key=path, group=path.split("/")[0]) for path, etag in here.items() if there.get(path) != etag]


class Engine(pykka.ThreadingActor):
    """Knows what the bucket has; takes listings of the folder."""

    def __init__(self, library: Ref, done: threading.Event) -> None:
        super().__init__()
        self.library, self.done, self.bucket = library, done, Listing()
        self.left = 0

    def on_receive(self, message: object) -> None:
        match message:
            case dict():
                actions = diff(self.bucket, message)
                self.bucket, self.left = message, self.left + 1
                batch = BatchSubmission(tuple(actions), on_duplicate=OnDuplicate.SUPERSEDE, requested_by="sync engine")
                self.library.tell(SubmitBatch(batch, reply_to=self.actor_ref))
            case Answered(request=SubmitBatch(), value=BatchOutcome() as outcome):
                print_table(outcome)
            case BatchSubmitted():
                print(f"on disk: {message.count:,} actions; the first run already")
            case BatchEnded():
                print(f"ended: {message.counts}")
                self.left -= 1
                if not self.left:
                    self.done.set()


def print_table(outcome: BatchOutcome) -> None:
    print(f"{'':4}{'outcome':<16}{'actions':>9}")
    for kind, count in outcome.counts.items():
        print(f"{'':4}{kind:<16}{count:>9,}")


def main(files: int) -> None:
    empty: Listing = {}
    first = {f"album-{number % 16}/{number:06d}.jpg": f"v1-{number}" for number in range(files)}
    second = first | {path: f"v2-{path}" for path in list(first)[files // 2 :]}  # the second half has changed again
    assert len(diff(empty, first)) == files
    done = threading.Event()
    with tempfile.TemporaryDirectory(suffix=".library") as folder, Runtime(workers=1) as runtime:
        engine = Engine.start(runtime.open_library(folder).ref, done)
        engine.tell(first)
        engine.tell(second)
        assert done.wait(600), "the uploads have not ended"
    pykka.ActorRegistry.stop_all()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
